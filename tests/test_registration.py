"""A registration that is off is found, with its direction, and one that is right is left alone."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from hdstbench.data.card import Dataset, SampleCard, load_dataset
from hdstbench.data.counts import Genes, MemoryCounts
from hdstbench.data.geometry import Affine
from hdstbench.data.registration import DIRECTIONS, MAX_BLOCKS, Scan, advice, haematoxylin, outcome, scan
from hdstbench.data.sample import Sample
from hdstbench.data.spaceranger import read_spaceranger
from hdstbench.simulate.cohort import Cohort, simulate

PLANTED_UM = 14.0


def _read(cohort: Dataset, card: SampleCard, shift_um: tuple[float, ...] = ()) -> Sample:
    place = cohort.root / card.path, cohort.root / card.image
    return read_spaceranger(place[0], 8, place[1], card.id, shift_um=shift_um)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two slides, mirrored in two ways, whose counts lie 14 um further along the array's columns."""
    folder = tmp_path_factory.mktemp("moved") / "cohort"
    simulate(Cohort(slides=2, size_mm=0.5, shift_um=PLANTED_UM), folder)
    return load_dataset(str(folder / "dataset.toml"))


def _found(sample: Sample) -> Scan:
    found = scan(sample)
    assert found is not None
    return found


# SIM1's columns run to the right in the image, SIM2's to the left: what was caught further along the
# columns comes from a place further back
@pytest.mark.parametrize(("number", "wanted"), [(0, (-PLANTED_UM, 0.0)), (1, (PLANTED_UM, 0.0))])
def test_a_planted_shift_is_found_in_the_image_frame(
    moved: Dataset, number: int, wanted: tuple[float, float]
) -> None:
    found = _found(_read(moved, moved.card.samples[number]))

    assert found.verdict == "off"
    np.testing.assert_allclose(found.shift_um, wanted, atol=3.0)
    assert found.peak > found.zero + 0.2


def test_the_shift_that_is_named_mends_the_registration(moved: Dataset) -> None:
    card = moved.card.samples[1]
    before = _found(_read(moved, card))

    after = _found(_read(moved, card, before.shift_um))

    assert after.verdict == "in register"
    assert np.hypot(*after.shift_um) < 1.0
    assert f"set shift_um = {[round(v, 1) for v in before.shift_um]}" in advice(before)


@pytest.mark.parametrize("number", range(3))
def test_slides_in_register_are_said_to_be(cohort: Dataset, number: int) -> None:
    found = _found(_read(cohort, cohort.card.samples[number]))

    assert found.verdict == "in register"
    assert np.hypot(*found.shift_um) < 3.0
    assert outcome(found).startswith("in register: r = 0.")
    assert advice(found) == ""


@given(dx=st.floats(-22, 22), dy=st.floats(-22, 22), number=st.integers(0, 2))
@settings(max_examples=12, deadline=None)
def test_any_shift_of_the_positions_is_found(cohort: Dataset, dx: float, dy: float, number: int) -> None:
    sample = _read(cohort, cohort.card.samples[number], (dx, dy))

    found = _found(sample)

    np.testing.assert_allclose(found.shift_um, (-dx, -dy), atol=3.0)
    assert found.clear


def test_a_shift_beyond_the_scan_is_not_called_right(cohort: Dataset) -> None:
    found = _found(_read(cohort, cohort.card.samples[0], (45.0, 0.0)))

    assert found.verdict == "no clear peak"


@dataclass(frozen=True)
class Fixed:
    """Counts of which only the totals matter."""

    sizes: np.ndarray

    def totals(self) -> np.ndarray:
        return self.sizes


@pytest.mark.parametrize("seed", range(3))
def test_counts_that_follow_nothing_have_no_clear_peak(cohort: Dataset, seed: int) -> None:
    sample = _read(cohort, cohort.card.samples[seed])
    sizes = np.random.default_rng(seed).permutation(sample.counts.totals())

    found = _found(replace(sample, counts=Fixed(sizes)))  # type: ignore[arg-type]

    assert found.verdict == "no clear peak"
    assert advice(found) == ""


@pytest.mark.parametrize("number", range(3))
def test_the_map_of_another_place_has_no_clear_peak(cohort: Dataset, number: int) -> None:
    sample = _read(cohort, cohort.card.samples[number])
    row, col = sample.grid.T
    raster = np.zeros(sample.grid_shape, np.int64)
    raster[row, col] = sample.counts.totals()

    found = _found(replace(sample, counts=Fixed(raster[::-1, ::-1].T[row, col])))  # type: ignore[arg-type]

    assert found.verdict == "no clear peak"


def test_two_umi_a_bin_are_enough(moved: Dataset) -> None:
    sample = _read(moved, moved.card.samples[0])
    sizes = np.random.default_rng(0).binomial(sample.counts.totals(), 0.004)

    found = _found(replace(sample, counts=Fixed(sizes)))  # type: ignore[arg-type]

    assert sizes.mean() < 3
    np.testing.assert_allclose(found.shift_um, (-PLANTED_UM, 0.0), atol=3.0)
    assert found.verdict == "off"


def test_a_shift_from_the_card_is_added_to() -> None:
    curve = np.zeros((31, 31))
    curve[15, 15:24] = [0.1, 0, 0, 0, 0.05, 0.2, 0.5, 0.2, 0.05]
    shift = (12.0, 0.0)
    steps = np.arange(-30.0, 31.0, 2.0)
    found = Scan(curve=curve, steps_um=steps, shift_um=shift, halves_um=np.array([shift] * 2), bins=1)

    assert found.verdict == "off"
    assert "set shift_um = [7.0, 3.0]" in advice(found, (-5.0, 3.0))


@given(st.floats(0.05, 1.5), st.floats(0.05, 1.5))
def test_the_densities_of_two_stains_are_told_apart(haema: float, eosin: float) -> None:
    unit = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
    light = 256 * 10 ** -(haema * unit[0] + eosin * unit[1]) - 1
    pixels = np.clip(np.rint(light), 0, 255).astype(np.uint8)[None, None]

    found = float(haematoxylin(pixels)[0, 0])

    # dark pixels hold few grey levels: an error of half a level is passed on
    slack = 0.6 / (light.min() + 1) / np.log(10) * 6
    assert found == pytest.approx(haema, abs=slack + 1e-3)


def test_native_spots_are_not_scanned(cohort: Dataset) -> None:
    sample = _read(cohort, cohort.card.samples[0])

    assert scan(replace(sample, unit_um=200.0)) is None
    assert scan(replace(sample, image=None)) is None


def test_the_blocks_of_a_large_slide_are_drawn(tmp_path: Path) -> None:
    # given a blank slide of 3.1 mm with a bin every 64 um2, at 4 um a pixel
    side = 384
    Image.new("RGB", (side * 2 + 40, side * 2 + 40), (200, 150, 200)).save(tmp_path / "he.png")
    grid = np.argwhere(np.ones((side, side), bool))
    counts = sparse.csr_array(np.ones((len(grid), 1), np.int32))
    whole = _read_blank(tmp_path / "he.png", grid, counts)

    found = _found(whole)

    assert found.bins <= MAX_BLOCKS * 1024 < len(grid)
    assert found.verdict == "no clear peak"


def _read_blank(image: Path, grid: np.ndarray, counts: sparse.csr_array) -> Sample:
    xy = grid[:, ::-1] * 2.0 + 20
    return Sample(
        id="blank",
        unit_um=8.0,
        mpp=4.0,
        grid=grid,
        xy_px=xy,
        to_px=Affine(np.array([[2.0, 0, 20], [0, 2.0, 20]])),
        grid_shape=(384, 384),
        counts=MemoryCounts(counts, Genes(ids=("g",), symbols=("G",))),
        image=image,
        sources=(image,),
    )
