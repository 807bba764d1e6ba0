"""EGN is the authors' network, version 1 of their repository, number for number."""

import pytest
import torch
from parity.files import Reference, assert_gradients, assert_loss, assert_output, load_reference
from torch import Tensor
from torch.nn import functional

from hdstbench.errors import DataError
from hdstbench_baselines.egn import OFFICIAL, correlation, egn_loss, load_official
from hdstbench_baselines.egn_network import EGNetwork


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("egn")


def _net(reference: Reference) -> EGNetwork:
    return load_official(reference.part("state_dict"), heads=reference.facts["config/heads"])


def _inputs(reference: Reference) -> dict[str, Tensor]:
    given = reference.part("inputs")
    return {
        "pixels": given["img"],
        "query": given["p_feature"][:, 0],
        "exemplars": given["op_feature"],
        "values": given["op_count"],
    }


def test_outputs_and_features_are_the_authors(reference: Reference) -> None:
    net = _net(reference)

    with torch.no_grad():
        features, predicted = net.features(**_inputs(reference)), net(**_inputs(reference))

    assert_output(features, reference["outputs/feature"])
    assert_output(predicted, reference["outputs/pred"])


def test_the_loss_and_its_parts_are_the_authors(reference: Reference) -> None:
    predicted, measured = reference["outputs/pred"], reference["inputs/count"]

    r = correlation(predicted, measured)

    assert_output(r, reference["outputs/metric_pcc_per_gene"])
    assert_loss(1 - r.mean(), reference["outputs/one_minus_pcc"])
    assert_loss(functional.mse_loss(predicted, measured), reference["outputs/mse"])
    assert_loss(egn_loss(predicted, measured), reference["outputs/loss"])


def test_gradients_are_the_authors_and_the_dead_layers_have_none(reference: Reference) -> None:
    net, official = _net(reference), reference.part("grads")

    egn_loss(net(**_inputs(reference)), reference["inputs/count"]).backward()

    assert_gradients(net, OFFICIAL.rename(official))
    assert not official.keys() & set(reference.facts["unused_parameters"])


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors, heads = reference.part("state_dict"), reference.facts["config/heads"]
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"transformer.layers.0.1.to_k.9.bias": torch.zeros(1)}, heads=heads)

    del tensors["transformer.pool.head.bias"]
    with pytest.raises(DataError, match=r"1 tensors missing.*pool\.bias"):
        load_official(tensors, heads=heads)
