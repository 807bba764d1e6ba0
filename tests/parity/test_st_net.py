"""ST-Net is the authors' DenseNet-121, number for number."""

import pytest
import torch
from parity.files import Reference, assert_output, load_reference, recipe
from torch import Tensor

from hdstbench.errors import DataError
from hdstbench_baselines.st_net import STNetwork, load_official


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("st_net")


def _state_dict(reference: Reference) -> dict[str, Tensor]:
    """The state dict that the file names, made again from its recipe."""
    make, seed = recipe().values, int(reference.facts["seed"])
    return {
        name: torch.from_numpy(make(name, shape, seed)) if shape else torch.tensor(0)
        for name, shape in reference.facts["state_dict"].items()
    }


@pytest.fixture(scope="module")
def net(reference: Reference) -> STNetwork:
    return load_official(_state_dict(reference))


def test_outputs_and_features_are_the_authors(reference: Reference, net: STNetwork) -> None:
    for name, shape in reference.facts["inputs"].items():
        patches = torch.from_numpy(recipe().values(name, shape, int(reference.facts["seed"])))

        with torch.no_grad():
            features = net.encoder.net(patches)
            predicted = net.head(features)

        label = name.removeprefix("input:")
        assert_output(features, reference[f"features/{label}"])
        assert_output(predicted, reference[f"output/{label}"])


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors = _state_dict(reference)
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"features.conv9.weight": torch.zeros(1)})

    del tensors["features.norm0.bias"]
    with pytest.raises(DataError, match=r"1 tensors missing.*norm0\.bias"):
        load_official(tensors)
