"""EGN is the authors' network, version 1 of their repository, number for number."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from parity.files import Reference, assert_gradients, assert_loss, assert_output, load_reference
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench_baselines.egn import EGN, OFFICIAL, PLUGIN, load_official
from hdstbench_baselines.egn_network import EGNetwork, correlation, egn_loss

ENCODER_WIDTH = 16
"""Of the encoder `tiny`."""
SIZES = {
    "width": "dim",
    "depth": "depth",
    "heads": "heads",
    "head_width": "dim_head",
    "hidden": "mlp_dim",
    "exemplar_heads": "bhead",
    "exemplar_width": "bdim",
    "projector_layers": "player",
}
"""Our names of sizes, and the file's."""


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
    net, tensors = _net(reference), reference.part("state_dict")
    unused = {name: tensors[name] for name in reference.facts["unused_parameters"]}

    egn_loss(net(**_inputs(reference)), reference["inputs/count"]).backward()

    assert_gradients(net, OFFICIAL.rename(reference.part("grads")))
    assert all(net.get_parameter(name).grad is None for name in OFFICIAL.rename(unused))


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors, heads = reference.part("state_dict"), reference.facts["config/heads"]
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"transformer.layers.0.1.to_k.9.bias": torch.zeros(1)}, heads=heads)

    del tensors["transformer.pool.head.bias"]
    with pytest.raises(DataError, match=r"1 tensors missing.*pool\.bias"):
        load_official(tensors, heads=heads)


def test_a_run_starts_from_a_checkpoint_whose_patches_have_another_size(
    reference: Reference, planted: list[Planted], tmp_path: Path
) -> None:
    """Its features are made as wide as those of the encoder at hand; its genes are others than the run's."""
    tensors, facts, path = reference.part("state_dict"), reference.facts, tmp_path / "checkpoint.safetensors"
    width, genes = facts["config/dim"], len(tensors["mlp_head.1.bias"])
    tensors["transformer.encoder.proq.weight"] = torch.randn(width, ENCODER_WIDTH)
    tensors["transformer.encoder.proe.weight"] = torch.randn(width, ENCODER_WIDTH + genes)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    sizes = {ours: facts[f"config/{theirs}"] for ours, theirs in SIZES.items()}
    model = EGN(replace(PLUGIN.recipes["tiny"], epochs=0, grid=8, **sizes))
    slides = [p.slide.take(np.arange(16)) for p in planted[:2]]

    model.fit(slides, [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path, weights=path))

    pool = tensors["transformer.pool.head.weight"]
    torch.testing.assert_close(model.net.pool.weight.detach(), pool)
    side = facts["config/image_size"]
    assert next(model.batches(slides[0], None)).inputs["pixels"].shape == (16, 3, side, side)
    assert model.predict(slides[0].hidden()).shape == (16, len(slides[0].genes))
