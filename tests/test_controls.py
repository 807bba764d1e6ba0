"""What the controls measure: stains and nuclei, several levels, places."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers import Planted

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.errors import DataError
from hdstbench.metrics.correlation import pearson_per_gene
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.inner import split_part
from hdstbench.protocol.slide import Slide
from hdstbench_baselines.controls.coords import PLUGIN as COORDS
from hdstbench_baselines.controls.coords import Coords, CoordsConfig
from hdstbench_baselines.controls.ridge import Ridge, RidgeConfig
from hdstbench_baselines.controls.ridge_levels import RidgeLevels, RidgeLevelsConfig
from hdstbench_baselines.controls.stain import EOSIN, HAEMATOXYLIN, Stain, StainConfig, measure

BACKGROUND, DENSE, COUNT, MEAN_SIZE, LARGEST = 24, 27, -3, -2, -1
"""Columns of the stain features; DENSE is the share of the patch at the middle threshold."""
H, E = 6, 7
"""Columns of the mean densities of haematoxylin and eosin."""


def context(folder: Path) -> RunContext:
    return RunContext(seed=0, scratch=folder, cache=folder)


def stained(vector: tuple[float, ...], density: float) -> np.ndarray:
    """Colour of a pixel with this much of one stain, uint8 [3]."""
    absorbed = np.array(vector) / np.linalg.norm(vector) * density
    return np.round(256 * 10**-absorbed - 1).astype(np.uint8)


def features(patch: np.ndarray, mpp: float = 0.5) -> FloatArray:
    return measure(patch[None], mpp, 16.0, StainConfig())[0]


@pytest.mark.parametrize(("vector", "own", "other"), [(HAEMATOXYLIN, H, E), (EOSIN, E, H)])
def test_a_pure_stain_is_found_alone(vector: tuple[float, ...], own: int, other: int) -> None:
    patch = np.tile(stained(vector, 0.4), (56, 56, 1))

    found = features(patch)

    assert found[own] == pytest.approx(0.4, abs=0.02)
    assert found[other] == pytest.approx(0.0, abs=0.02)


def test_a_white_patch_is_background_without_nuclei() -> None:
    found = features(np.full((56, 56, 3), 255, np.uint8))

    assert np.isfinite(found).all()
    assert found[BACKGROUND] == 1
    assert found[[DENSE, COUNT, MEAN_SIZE, LARGEST]].tolist() == [0, 0, 0, 0]


def test_nuclei_are_counted_and_measured() -> None:
    patch = np.full((56, 56, 3), 250, np.uint8)
    for x, y, side in ((4, 4, 8), (30, 10, 8), (20, 36, 16)):
        patch[y : y + side, x : x + side] = stained(HAEMATOXYLIN, 0.8)

    found = features(patch)

    assert found[COUNT] == 3
    assert found[DENSE] == pytest.approx((64 + 64 + 256) / 56**2, rel=0.2)
    assert found[LARGEST] == pytest.approx(256 / 56**2, rel=0.2)
    assert found[MEAN_SIZE] == pytest.approx(found[DENSE] / 3)


def test_a_patch_is_measured_by_itself() -> None:
    """Nuclei at the same place of two patches of a batch are not joined."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (5, 20, 20, 3), dtype=np.uint8)
    patches[1:3] = stained(HAEMATOXYLIN, 0.9)

    together = measure(patches, 0.5, 4.0, StainConfig())

    alone = np.concatenate([measure(patch[None], 0.5, 4.0, StainConfig()) for patch in patches])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert together[1:3, COUNT].tolist() == [1, 1]


def test_finer_pixels_are_averaged_first() -> None:
    coarse = np.random.default_rng(1).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    fine = coarse.repeat(2, axis=0).repeat(2, axis=1)

    np.testing.assert_allclose(features(fine, 0.25), features(coarse, 0.5), rtol=1e-4, atol=1e-5)


def test_stain_learns_what_the_colour_shows(planted: list[Planted], tmp_path: Path) -> None:
    a, b, c = (p.slide for p in planted)
    model = Stain(StainConfig())

    model.fit([a], [b], context(tmp_path))

    r = pearson_per_gene(model.predict(c.hidden()), c.need_labels().target())
    assert r[0] > 0.9
    assert abs(r[1]) < 0.2
    assert model.validation is not None


def test_levels_see_parents_and_nothing_of_other_units(planted: list[Planted], tmp_path: Path) -> None:
    a, b, c = (p.slide for p in planted)
    model = RidgeLevels(RidgeLevelsConfig(encoder="tiny", weights="none"))
    model.fit([a], [b], context(tmp_path))
    index = np.random.default_rng(0).permutation(len(c))[:37]

    whole, some = model.predict(c.hidden()), model.predict(c.hidden().take(index))

    np.testing.assert_allclose(some, whole[index], atol=2e-5)
    (table,) = model.features([c])
    assert [len(part.values) for part in table] == [c.size(level) for level in c.levels]
    for part, level in zip(table[1:], c.levels[1:], strict=True):
        np.testing.assert_array_equal(part.rows, c.parents(level))


def test_without_coarser_levels_it_is_ridge_itself(planted: list[Planted], tmp_path: Path) -> None:
    a, b, c = (replace(p.slide, patch_px={"unit": 14}) for p in planted)
    one = Ridge(RidgeConfig(encoder="tiny", weights="none"))
    other = RidgeLevels(RidgeLevelsConfig(encoder="tiny", weights="none"))

    for model in (one, other):
        model.fit([a], [b], context(tmp_path))

    np.testing.assert_array_equal(one.predict(c.hidden()), other.predict(c.hidden()))
    assert one.validation == other.validation


@dataclass(frozen=True)
class Ramp:
    """Labels of a gene that rises across the slide, and of one that is noise."""

    xy_um: FloatArray
    rows: IntArray

    def take(self, rows: dict[str, IntArray]) -> "Ramp":
        return Ramp(self.xy_um, rows["unit"])

    def target(self) -> FloatArray:
        rise = self.xy_um @ [0.01, 0.005]
        noise = np.random.default_rng(0).normal(size=len(rise))
        return np.stack([rise, noise], axis=1)[self.rows].astype(np.float32)


def ramp(slide: Slide) -> Slide:
    return replace(slide, labels=Ramp(slide.xy_um, np.arange(len(slide))))  # type: ignore[arg-type]


def test_place_tells_a_gene_that_follows_place(planted: list[Planted], tmp_path: Path) -> None:
    train, test = split_part(ramp(planted[0].slide), 4, 1)
    blocks = train.blocks()
    val, rest = (np.concatenate(part) for part in (blocks[:1], blocks[1:]))
    model = Coords(CoordsConfig())

    model.fit([train.take(rest)], [train.take(val)], context(tmp_path))

    r = pearson_per_gene(model.predict(test.hidden()), test.need_labels().target())
    assert r[0] > 0.85
    assert abs(r[1]) < 0.3


def test_the_number_of_neighbours_is_the_one_with_the_least_validation_error(
    planted: list[Planted], tmp_path: Path
) -> None:
    slide = planted[0].slide
    index = np.random.default_rng(0).permutation(len(slide))
    train, val = slide.take(index[:600]), slide.take(index[600:])
    errors = {}
    for count in (1, 4, 16):
        model = Coords(CoordsConfig(counts=(count,)))
        model.fit([train], [val], context(tmp_path))
        errors[count] = model.validation

    chosen = Coords(CoordsConfig(counts=(1, 4, 16)))
    chosen.fit([train], [val], context(tmp_path))

    assert chosen.count == min(errors, key=lambda count: errors[count])
    assert chosen.validation == min(errors.values())


def test_an_unknown_slide_is_refused_in_one_line(planted: list[Planted], tmp_path: Path) -> None:
    model = Coords(CoordsConfig())
    model.fit([planted[0].slide], [], context(tmp_path))

    with pytest.raises(
        DataError, match=r"^coords knows places on a alone and was asked for b; it is for .*$"
    ):
        model.predict(planted[1].slide.hidden())
    assert COORDS.scope == "within-slide"
