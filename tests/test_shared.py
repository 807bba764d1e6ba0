"""Features of a block at once: the same as patch by patch where a network has no padding, else close."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted, make_slide, type_command
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.encoders import Encoder, make_encoder
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench.torchkit.shared import Area, area_of, block_features, box_means


class Pixelwise(nn.Module):
    """A network whose place is one pixel: it has no padding, and no map is coarser than its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, width, 1)

    def forward_features(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.mix(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x).mean(dim=(2, 3))


def pixelwise() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Pixelwise(5), 5, (0.5,) * 3, (0.25,) * 3).eval()


def shared_features(encoder: Encoder, slide: Slide) -> np.ndarray:
    out = np.full((len(slide), encoder.width), np.nan, np.float32)
    with torch.inference_mode():
        for units, values in block_features(encoder, slide, "cpu"):
            out[units] = values
    return out


def windowed(encoder: Encoder, planted: Planted) -> np.ndarray:
    patches = planted.slide.patches("unit", np.arange(len(planted.slide)))
    with torch.inference_mode():
        return encoder(torch.from_numpy(patches).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("res", ["8um", "16um"])
def test_a_network_without_padding_gives_the_features_of_each_patch(
    planted: list[Planted], tmp_path: Path, res: str
) -> None:
    for one in (*planted, make_slide(tmp_path, "r", turn=0.7, res=res)):
        found = shared_features(pixelwise(), one.slide)

        np.testing.assert_allclose(found, windowed(pixelwise(), one), atol=2e-5)


def test_a_part_of_a_slide_has_the_features_of_its_units(planted: list[Planted]) -> None:
    slide = planted[0].slide
    chosen = np.random.default_rng(0).permutation(len(slide))[:50]

    part = shared_features(pixelwise(), slide.take(chosen))

    np.testing.assert_allclose(part, shared_features(pixelwise(), slide)[chosen], atol=1e-6)


def test_padding_is_all_that_differs_for_a_common_network(planted: list[Planted]) -> None:
    torch.manual_seed(0)
    encoder = make_encoder("tiny", None).eval()

    found, each = shared_features(encoder, planted[0].slide), windowed(encoder, planted[0])

    assert not np.allclose(found, each, atol=1e-3)
    varied = each.std(axis=0) > 1e-4
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(found.T[varied], each.T[varied], strict=True)]
    assert np.median(r) > 0.6


@settings(max_examples=30, deadline=None)
@given(
    x=st.integers(0, 40),
    y=st.integers(0, 40),
    side=st.integers(1, 50),
    step=st.integers(1, 20),
    seed=st.integers(0, 9),
)
def test_means_over_boxes_are_those_of_the_enlarged_map(
    x: int, y: int, side: int, step: int, seed: int
) -> None:
    count = -(-(40 + side) // step)
    features = np.random.default_rng(seed).normal(size=(2, count, count)).astype(np.float32)
    area = Area(np.zeros((count * step, count * step, 3), np.uint8), np.array([[x, y]]))

    found = box_means(torch.from_numpy(features), area, side)

    enlarged = features.repeat(step, axis=1).repeat(step, axis=2)
    np.testing.assert_allclose(found[0], enlarged[:, y : y + side, x : x + side].mean(axis=(1, 2)), atol=1e-5)


def test_an_area_holds_all_patches_and_whole_places(planted: list[Planted]) -> None:
    slide = planted[1].slide
    for units in slide.blocks():
        area = area_of(slide, units)
        assert all(side % 32 == 0 for side in area.pixels.shape[:2])
        for (x, y), patch in zip(area.corner, slide.patches("unit", units), strict=True):
            np.testing.assert_array_equal(area.pixels[y : y + len(patch), x : x + len(patch)], patch)


def test_a_transformer_is_refused(planted: list[Planted]) -> None:
    encoder = make_encoder("test_vit", None).eval()

    with pytest.raises(DataError, match="need a convolutional network"):
        shared_features(encoder, planted[0].slide)


def test_units_of_two_blocks_have_no_image_in_common(planted: list[Planted]) -> None:
    slide = planted[0].slide
    first, second, *_ = slide.blocks()

    with pytest.raises(ValueError, match="got units of 2 blocks"):
        slide.block_image(np.concatenate([first, second]))


def test_cached_features_of_blocks_are_those_of_the_whole_slide(
    planted: list[Planted], tmp_path: Path
) -> None:
    slide, spec = planted[0].slide, FeatureSpec(encoder="tiny", level="unit", shared=True)
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path)
    chosen = np.array([70, 3, 9])

    part = frozen_features([slide.take(chosen)], spec, context)[0]
    whole = frozen_features([slide], spec, context)[0]
    each = frozen_features([slide], FeatureSpec(encoder="tiny", level="unit"), context)[0]

    np.testing.assert_array_equal(part, whole[chosen])
    assert whole.shape == each.shape
    assert not np.allclose(whole, each)


def test_bf16_rounds_the_networks_work_alone(planted: list[Planted], tmp_path: Path) -> None:
    slide, spec = planted[0].slide, FeatureSpec(encoder="tiny", level="unit", shared=True)
    full, half = (
        frozen_features(
            [slide], spec, RunContext(seed=0, scratch=tmp_path, cache=tmp_path, precision=precision)
        )[0]
        for precision in ("fp32", "bf16")
    )

    assert full.dtype == half.dtype == np.float32
    np.testing.assert_allclose(half, full, atol=0.02 * np.abs(full).max())


@pytest.mark.parametrize("other", [{"level": "spot"}, {"grid": 4}, {"around": 5}, {"input_px": 64}])
def test_features_of_blocks_are_of_whole_patches_of_units(other: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="shared features are of whole patches of units as they are"):
        FeatureSpec(**{"encoder": "tiny", "level": "unit", "shared": True, **other})


def test_a_row_of_a_sweep_may_share_and_predicts_a_whole_slide(
    cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "hdstbench.toml").write_text(
        '[[rows]]\nname = "ridge-shared"\nmodel = "ridge"\nset = { shared = true }\n'
    )
    card, image = cohort_folder / "dataset.toml", cohort_folder / "SIM1" / "SIM1_tissue_image.tif"
    run = f"run -m ridge,ridge-shared -d {card} -r 16um --recipe tiny --folds 0 --keep-models -o kept"
    done = type_command(*run.split(), cwd=tmp_path, cache=own_cache)
    assert done.returncode == 0, done.stderr
    rows = {r["model"]: r for r in json.loads((tmp_path / "kept/simulated-16um.json").read_text())["rows"]}

    predict = f"predict -m kept/simulated/16um/ridge-shared -s {image} --mpp 0.5 -o out.h5ad"
    done = type_command(*predict.split(), cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stderr
    assert "other-options" in rows["ridge-shared"]["flags"]
    assert rows["ridge-shared"]["pcc"]["value"] > 0.05
    assert rows["ridge-shared"]["pcc"]["value"] != rows["ridge"]["pcc"]["value"]
    assert (tmp_path / "out.png").is_file()
