"""The same section under two names is found however it was turned, mirrored or sequenced; others are not."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import test_data
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hdstbench.data.card import Dataset
from hdstbench.data.counts import MemoryCounts, picks_rows
from hdstbench.data.duplicates import Pair, compare, find_duplicates
from hdstbench.data.fingerprint import CELLS, Fingerprint, fingerprint
from hdstbench.data.image import open_image
from hdstbench.data.sample import Sample
from hdstbench.data.spaceranger import read_spaceranger
from hdstbench.data.st import read_st
from hdstbench.simulate import slide
from hdstbench.simulate.frame import place
from hdstbench.simulate.slide import SlidePlan, grow_section, write_slide


def _read(root: Path, path: str, image: str, name: str) -> Sample:
    return read_spaceranger(root / path, 8, root / image, name)


@pytest.fixture(scope="module")
def slides(cohort: Dataset) -> list[Sample]:
    return [_read(cohort.root, s.path, s.image, s.id) for s in cohort.card.samples]


@pytest.fixture(scope="module")
def prints(slides: list[Sample]) -> list[Fingerprint]:
    return [fingerprint(sample) for sample in slides]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """SIM1's section once more: an array mirrored the other way, and molecules and stain drawn anew."""
    plan = SlidePlan(
        name="SIM1",
        patient="P1",
        index=0,
        seed=0,
        size_mm=0.5,
        signal="all",
        overdispersion=1.0,
        shift_um=0.0,
        labels="",
    )
    section, frame, again = grow_section(plan), place(0.5, 1), replace(plan, name="AGAIN", index=1)
    u, v = frame.to_array(section.tissue.cells.x, section.tissue.cells.y)
    folder = tmp_path_factory.mktemp("twin")
    with pytest.MonkeyPatch.context() as patch:
        other = replace(section, plan=again, frame=frame, u_um=u, v_um=v)
        patch.setattr(slide, "grow_section", lambda _: other)
        write_slide(again, folder)
    return _read(folder, again.outs, again.image, "AGAIN")


def _turned(sample: Sample, number: int, folder: Path) -> Sample:
    """The same slide scanned at another angle, or from its back: turned to the left, then mirrored."""
    assert sample.image is not None
    image = open_image(sample.image)
    pixels, xy = image.window(0, 0, *image.size), sample.xy_px
    for _ in range(number % 4):
        xy = np.column_stack([xy[:, 1], pixels.shape[1] - xy[:, 0]])
        pixels = np.rot90(pixels)
    if number >= 4:
        xy = np.column_stack([pixels.shape[1] - xy[:, 0], xy[:, 1]])
        pixels = pixels[:, ::-1]
    path = folder / "turned.tif"
    tifffile.imwrite(path, np.ascontiguousarray(pixels), photometric="rgb")
    return replace(sample, xy_px=xy, image=path, id=f"turned{number}")


def _thinned(sample: Sample, share: float) -> Sample:
    rows = picks_rows(np.arange(len(sample.counts)), len(sample.counts))
    (matrix,) = sample.counts.sums(rows)
    drawn = np.random.default_rng(0).binomial(matrix.data, share)
    thin = sparse.csr_array((drawn, matrix.indices, matrix.indptr), shape=matrix.shape)
    return replace(sample, counts=MemoryCounts(thin, sample.counts.genes))


@given(number=st.integers(0, 7), share=st.sampled_from([1.0, 0.3, 0.05]))
@settings(max_examples=12, deadline=None)
def test_a_twin_is_found_turned_mirrored_and_at_another_depth(
    tmp_path_factory: pytest.TempPathFactory,
    prints: list[Fingerprint],
    twin: Sample,
    number: int,
    share: float,
) -> None:
    other = _thinned(_turned(twin, number, tmp_path_factory.mktemp("turned")), share)

    pair = compare(prints[0], fingerprint(other))

    assert pair.verdict == "same section"
    assert pair.image > 0.8
    assert pair.move.endswith(", mirrored") == (number >= 4)


def test_the_move_says_how_to_turn_the_first(slides: list[Sample], tmp_path: Path) -> None:
    left = fingerprint(_turned(slides[1], 1, tmp_path))

    pair = compare(fingerprint(slides[1]), left)

    assert pair.move == "turned left by 90 degrees"


def test_the_twin_alone_is_flagged_in_a_cohort(prints: list[Fingerprint], twin: Sample) -> None:
    found = find_duplicates([*prints, fingerprint(twin)])

    same = [pair for pair in found if pair.verdict == "same section"]
    assert [(pair.first, pair.second) for pair in same] == [("SIM1", "AGAIN")]
    assert found[0] == same[0]
    assert len(found) == 6


def test_different_slides_are_different(prints: list[Fingerprint]) -> None:
    found = find_duplicates(prints)

    assert {pair.verdict for pair in found} == {"different"}
    assert max(pair.image for pair in found) < 0.4
    assert max(pair.maps for pair in found) < 0.35


def test_the_same_picture_with_other_counts_is_called_so(slides: list[Sample]) -> None:
    # given SIM1's bins with the counts of bins elsewhere on it
    order = np.random.default_rng(0).permutation(len(slides[0].counts))
    (matrix,) = slides[0].counts.sums(picks_rows(order, len(order)))
    mixed = replace(slides[0], counts=MemoryCounts(matrix, slides[0].counts.genes))

    pair = compare(fingerprint(slides[0]), fingerprint(mixed))

    assert pair.image > 0.95
    assert pair.verdict == "same picture, other counts"


def test_slides_without_shared_genes_are_compared_by_what_is_left(prints: list[Fingerprint]) -> None:
    other = replace(
        prints[0],
        top_ids=tuple(f"{name}x" for name in prints[0].top_ids),
        bulk={f"{name}x": count for name, count in prints[0].bulk.items()},
    )

    pair = compare(prints[0], other)

    assert (pair.image, pair.maps) == (pytest.approx(1), pytest.approx(1))
    assert pair.bulk == 0


def test_slides_with_patches_alone_have_a_darkness_too(slides: list[Sample]) -> None:
    image = open_image(slides[0].image) if slides[0].image else None
    assert image is not None
    corners = np.clip(np.rint(slides[0].xy_px).astype(int) - 8, 0, np.array(image.size) - 16)
    patches = np.stack([image.window(int(x), int(y), 16, 16) for x, y in corners])

    bare = fingerprint(replace(slides[0], image=None, patches=patches))

    whole = fingerprint(slides[0])
    cells = [a.dark.reshape(CELLS, 2, CELLS, 2).mean(axis=(1, 3))[whole.tissue] for a in (bare, whole)]
    assert np.corrcoef(*cells)[0, 1] > 0.9
    assert bare.dark.shape == (2 * CELLS, 2 * CELLS)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((0.9, 0.9, 0.99), "same section"),
        ((0.9, 0.6, 0.5), "same section"),
        ((0.9, 0.2, 0.99), "same picture, other counts"),
        ((0.4, 0.5, 0.98), "serial sections or same patient?"),
        ((0.4, 0.5, 0.8), "different"),
        ((0.2, 0.2, 0.99), "different"),
    ],
)
def test_the_verdict_follows_from_three_numbers(numbers: tuple[float, float, float], verdict: str) -> None:
    image, maps, bulk = numbers

    pair = Pair(first="a", second="b", image=image, maps=maps, bulk=bulk, move="as it is")

    assert pair.verdict == verdict


@pytest.fixture(scope="module")
def section() -> Callable[[str], Fingerprint]:
    folder = test_data() / "her2st"
    if not folder.is_dir():
        pytest.skip(f"no real sections at {folder}; set HDSTBENCH_TEST_DATA")
    made: dict[str, Fingerprint] = {}

    def get(name: str) -> Fingerprint:
        if name not in made:
            made[name] = fingerprint(read_st(folder, name))
        return made[name]

    return get


@pytest.mark.parametrize(("one", "other"), list(combinations(("C2", "C3", "C4", "C5"), 2)))
def test_near_adjacent_real_sections_are_called_so(
    section: Callable[[str], Fingerprint], one: str, other: str
) -> None:
    pair = compare(section(one), section(other))

    assert pair.verdict == "serial sections or same patient?"
    assert pair.move == "as it is"


def test_real_sections_of_two_patients_are_different(section: Callable[[str], Fingerprint]) -> None:
    pair = compare(section("C2"), section("B4"))

    assert pair.verdict == "different"
