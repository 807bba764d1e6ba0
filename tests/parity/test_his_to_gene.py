"""HisToGene is the authors' network, number for number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from parity.files import GRADIENT, Reference, assert_gradients, assert_loss, assert_output, load_reference
from safetensors.torch import save_file
from torch import Tensor, nn

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench_baselines.his_to_gene import HisToGene, HisToGeneConfig, load_official
from hdstbench_baselines.his_to_gene_network import OFFICIAL, HisToGeneNetwork, Plan
from hdstbench_baselines.pixels import flat_pixels
from hdstbench_baselines.positions import raster


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("his_to_gene")


def _net(reference: Reference) -> HisToGeneNetwork:
    return load_official(reference.part("state_dict"), heads=reference.facts["config/heads"])


def _train_step(reference: Reference) -> tuple[HisToGeneNetwork, Tensor]:
    """Gradients of the authors' loss, dropout off."""
    net = _net(reference)
    predicted = net(reference["inputs/patches"][0], reference["inputs/centers"][0])
    loss = nn.functional.mse_loss(predicted, reference["inputs/target"][0])
    loss.backward()
    return net, loss


def test_sizes_are_read_from_the_tensors(reference: Reference) -> None:
    net, facts = _net(reference), reference.facts

    assert sum(p.numel() for p in net.parameters()) == facts["n_parameters"]
    assert len(net.blocks) == facts["config/n_layers"]
    assert net.embed.in_features == 3 * facts["config/patch_size"] ** 2


def test_outputs_are_the_authors(reference: Reference) -> None:
    with torch.no_grad():
        predicted = _net(reference)(reference["inputs/patches"][0], reference["inputs/centers"][0])

    assert_output(predicted, reference["output"][0])


def test_the_loss_and_its_gradients_are_the_authors(reference: Reference) -> None:
    net, loss = _train_step(reference)

    assert_loss(loss, reference["train_loss"])
    assert_gradients(net, OFFICIAL.rename(reference.part("grads")))


def test_one_step_of_the_recipe_is_the_authors(reference: Reference) -> None:
    """Adam's first step is the rate times the gradient's sign; where that is sure, it has to agree."""
    net, _ = _train_step(reference)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    rate = HisToGeneConfig().learning_rate
    assert rate == reference.facts["optimiser/lr"]

    torch.optim.Adam(net.parameters(), lr=rate).step()

    after = OFFICIAL.rename(reference.part("state_dict_after_step"))
    for name, p in net.named_parameters():
        assert p.grad is not None
        sure = p.grad.abs() > GRADIENT * p.grad.abs().max()
        ours, theirs = (p.detach() - before[name])[sure], (after[name] - before[name])[sure]
        rounding = 4 * torch.finfo(torch.float32).eps * before[name].abs().max().item()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.02 * rate + rounding, err_msg=name)


def test_patches_are_laid_out_as_the_authors(reference: Reference) -> None:
    image, radius = reference["layout/image"], reference.facts["layout/radius"]
    cut = [
        image[y - radius : y + radius, x - radius : x + radius]
        for x, y in reference["layout/pixel_xy"].tolist()
    ]

    flat = flat_pixels(torch.stack(cut).permute(0, 3, 1, 2))

    assert torch.equal(flat.float(), reference["layout/patches"])


def test_the_super_resolution_raster_is_the_authors(reference: Reference) -> None:
    centres, positions = raster(reference["layout/pixel_xy"].numpy())

    np.testing.assert_array_equal(centres, reference["layout/sr_centers"].numpy())
    np.testing.assert_array_equal(positions, reference["layout/sr_positions"].numpy())
    assert len(centres) == reference.facts["layout/sr_patches_shape"][0]


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors = reference.part("state_dict")
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"vit.extra.weight": torch.zeros(1)})

    del tensors["y_embed.weight"]
    with pytest.raises(DataError, match=r"1 tensors missing.*places\.y\.weight"):
        load_official(tensors)
    with pytest.raises(DataError, match="are no HisToGene checkpoint; they hold nothing"):
        load_official({})


def test_a_run_starts_from_the_authors_checkpoint(
    reference: Reference, planted: list[Planted], tmp_path: Path
) -> None:
    """Genes and the number of table rows may differ; a rate of 0 leaves what was loaded."""
    save_file(reference.part("state_dict"), tmp_path / "official.safetensors")
    facts = reference.facts
    plan = Plan(
        width=facts["config/dim"],
        depth=facts["config/n_layers"],
        heads=facts["config/heads"],
        head_width=facts["config/dim_head"],
    )
    px = facts["config/patch_size"]
    model = HisToGene(HisToGeneConfig(epochs=1, learning_rate=0.0, input_px=px, plan=plan))
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path, weights=tmp_path / "official.safetensors")

    model.fit([planted[0].slide], [], context)

    loaded = OFFICIAL.rename(reference.part("state_dict"))
    for name, value in model.net.state_dict().items():
        if name.startswith("places."):
            rows = min(len(value), facts["config/n_pos"])
            assert torch.equal(value[:rows], loaded[name][:rows])
        elif not name.startswith(("head.1.", "scale.")):
            assert torch.equal(value, loaded[name]), name
