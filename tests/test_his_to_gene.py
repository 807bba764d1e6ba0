"""HisToGene: sizes, what a prediction sees, checkpoints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted, make_slide
from safetensors.torch import save_file

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench_baselines.his_to_gene import PLUGIN, HisToGene
from hdstbench_baselines.his_to_gene_network import HisToGeneNetwork, Plan
from hdstbench_baselines.pixels import ColourScale, flat_pixels

TINY = PLUGIN.recipes["tiny"]
SMALL = Plan(width=16, depth=2, heads=2, head_width=8)


@pytest.mark.parametrize(
    ("depth", "genes", "px", "rows", "parameters"),
    [
        (8, 250, 112, 64, 106_099_962),
        (8, 785, 112, 64, 106_648_337),
        (4, 1000, 112, 64, 73_281_512),
        (8, 250, 112, 512, 107_017_466),
        (8, 250, 224, 64, 221_705_466),
    ],
)
def test_the_authors_sizes_give_the_authors_number_of_parameters(
    depth: int, genes: int, px: int, rows: int, parameters: int
) -> None:
    with torch.device("meta"):
        net = HisToGeneNetwork(Plan(depth=depth), px, rows, genes)

    assert sum(p.numel() for p in net.parameters()) == parameters
    assert PLUGIN.recipes["official"].plan == Plan(depth=8)


def test_pixels_are_flattened_x_slowest_and_colour_fastest() -> None:
    patch = torch.zeros(1, 3, 4, 4)
    patch[0, 2, 1, 3] = 1  # blue at y = 1, x = 3

    assert flat_pixels(patch).nonzero().tolist() == [[0, 3 * (4 * 3 + 1) + 2]]


def test_colours_are_scaled_as_in_the_training_patches(planted: list[Planted]) -> None:
    scale, slide = ColourScale(), planted[0].slide
    patches = torch.from_numpy(slide.patches("unit", np.arange(len(slide)))).permute(0, 3, 1, 2)
    assert torch.equal(scale(patches, axis=1), patches.float())

    scale.fit([slide], 14)

    scaled = scale(patches, axis=1)
    assert scaled.mean(dim=(0, 2, 3)).abs().max() < 0.1
    assert (scaled.std(dim=(0, 2, 3)) - 1).abs().max() < 0.1
    torch.testing.assert_close(scale(patches.permute(0, 2, 3, 1), axis=-1), scaled.permute(0, 2, 3, 1))


def test_every_unit_sees_all_others_of_its_window() -> None:
    torch.manual_seed(0)
    net = HisToGeneNetwork(SMALL, 2, 8, 3).eval()
    pixels, positions = torch.rand(5, 12) * 255, torch.randint(8, (5, 2))
    other = pixels.clone()
    other[4] = 255 - other[4]

    moved = net(other, positions) - net(pixels, positions)

    assert (moved.abs().amax(dim=1) > 1e-6).all()


def test_the_order_of_a_windows_units_does_not_matter() -> None:
    torch.manual_seed(0)
    net = HisToGeneNetwork(SMALL, 2, 8, 3).eval()
    pixels, positions, order = torch.rand(5, 12) * 255, torch.randint(8, (5, 2)), torch.randperm(5)

    shuffled = net(pixels[order], positions[order])

    torch.testing.assert_close(shuffled, net(pixels, positions)[order], atol=1e-5, rtol=0)


def test_a_whole_block_is_predicted_alike_alone_and_unit_by_unit(
    planted: list[Planted], tmp_path: Path
) -> None:
    model, slide = HisToGene(replace(TINY, epochs=1)), planted[2].slide.hidden()
    model.fit([planted[0].slide], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path))

    whole = model.predict(slide)

    one = slide.blocks()[1][:1]
    np.testing.assert_allclose(model.predict(slide.take(one)), whole[one], atol=2e-5)


def test_a_slide_with_a_larger_array_and_other_patches_is_predicted(
    planted: list[Planted], tmp_path: Path
) -> None:
    """Its indices leave the tables, and its patches the size that the first layer was made for."""
    large = make_slide(tmp_path, "large", side_um=768, res="8um").slide
    model = HisToGene(replace(TINY, epochs=1, position_steps=4, input_px=0))
    model.fit([planted[2].slide], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path))

    assert len(model.net.places.x.weight) == 4
    assert np.isfinite(model.predict(large.hidden())).all()


def test_a_file_that_is_no_checkpoint_is_refused(planted: list[Planted], tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "encoder.safetensors")
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path, weights=tmp_path / "encoder.safetensors")

    with pytest.raises(DataError, match="no HisToGene checkpoint, and the model has no image encoder"):
        HisToGene(TINY).fit([planted[0].slide], [], context)
