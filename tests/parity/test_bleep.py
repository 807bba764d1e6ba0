"""BLEEP is the authors' network, loss and retrieval, number for number."""

import numpy as np
import pytest
import torch
from parity.files import OUTPUT, Reference, assert_gradients, assert_loss, assert_output, load_reference
from torch import Tensor
from torch.nn import functional

from hdstbench.errors import DataError
from hdstbench_baselines.bleep import OFFICIAL, load_official
from hdstbench_baselines.bleep_network import BLEEPNetwork, Combine, combined, contrastive
from hdstbench_baselines.retrieval import Bank, Source


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("bleep")


@pytest.fixture
def net(reference: Reference) -> BLEEPNetwork:
    return load_official(reference.part("state_dict"))


def _features(net: BLEEPNetwork, images: Tensor) -> Tensor:
    """Encode images that are standardised already."""
    assert net.encoder
    with torch.no_grad():
        out: Tensor = net.encoder.net(images)
    return out


def test_embeddings_are_the_authors(reference: Reference, net: BLEEPNetwork) -> None:
    with torch.no_grad():
        image = net.image(_features(net, reference["inputs/image"]))
        spot = net.spot(reference["inputs/reduced_expression"])
        keys = net.spot(reference["reference"])

    assert_output(image, reference["outputs/image_embedding"])
    assert_output(spot, reference["outputs/spot_embedding"])
    assert_output(keys, reference["outputs/reference_embedding"])


def test_loss_and_gradients_are_the_authors_at_every_temperature(
    reference: Reference, net: BLEEPNetwork
) -> None:
    features = _features(net, reference["inputs/image"])
    temperatures = {name.split("/")[0] for name in reference.part("by_temperature")}
    assert temperatures

    for temperature in temperatures:
        net.zero_grad()
        image, spot = net.image(features), net.spot(reference["inputs/reduced_expression"])
        loss = contrastive(image, spot, float(temperature))
        loss.backward()

        assert_loss(loss, reference[f"by_temperature/{temperature}/loss"])
        assert_gradients(net, OFFICIAL.rename(reference.part(f"by_temperature/{temperature}/grads")))


def _retrieved(reference: Reference) -> Tensor:
    keys = reference["outputs/reference_embedding"]
    bank = Bank(keys, [Source("slide", "patient", len(keys))], "cosine")
    k = int(reference.facts["config/top_k"])
    return torch.from_numpy(bank.nearest(reference["outputs/image_embedding"], "other", k))


def test_the_units_retrieved_are_the_authors(reference: Reference) -> None:
    image, keys = reference["outputs/image_embedding"], reference["outputs/reference_embedding"]
    cosine = functional.cosine_similarity(image[:, None].double(), keys[None].double(), dim=-1)

    found, wanted = _retrieved(reference), reference["outputs/indices"]

    assert found.shape == wanted.shape
    distinct = (cosine.gather(1, found) - cosine.gather(1, wanted)).abs() > torch.finfo(torch.float32).eps
    assert not distinct.any()  # the authors' order within float32's rounding is nobody's
    assert (found == wanted).float().mean() > 0.95


@pytest.mark.parametrize("how", ["average", "simple", "weighted"])
def test_predictions_are_the_authors(reference: Reference, how: Combine) -> None:
    found = _retrieved(reference)
    query, keys = reference["outputs/image_embedding"], reference["outputs/reference_embedding"]

    predicted = combined(how, reference["reference"][found], query, keys[found])

    np.testing.assert_allclose(predicted, reference[f"outputs/pred_{how}"], rtol=0, atol=OUTPUT)


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors = reference.part("state_dict")
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"image_projection.fc2.weight": torch.zeros(1)})

    del tensors["image_encoder.model.layer3.1.bn2.bias"]
    with pytest.raises(DataError, match=r"1 tensors missing.*layer3\.1\.bn2\.bias"):
        load_official(tensors)


def test_names_of_trained_and_of_old_files_are_known(reference: Reference) -> None:
    tensors = reference.part("state_dict")
    old = {f"module.{name.replace('spot_', 'well_')}": value for name, value in tensors.items()}

    net = load_official(old)

    torch.testing.assert_close(net.spot.norm.bias, tensors["spot_projection.layer_norm.bias"])
