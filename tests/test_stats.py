"""Blocks and intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hdstbench.metrics.moments import block_moments
from hdstbench.report.tables import limits
from hdstbench.stats.blocks import residual_range, widest_blocks
from hdstbench.stats.bootstrap import SlideMoments, interval, paired, resampled_pcc

SIDE = 40


def _field(rng: np.random.Generator, sigma: float, genes: int = 20) -> np.ndarray:
    noise = rng.standard_normal((genes, SIDE, SIDE))
    smooth = ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="wrap") if sigma else noise
    return (smooth / smooth.std()).reshape(genes, -1).T


def _places() -> np.ndarray:
    return np.argwhere(np.ones((SIDE, SIDE))) * 16.0


def _slide(name: str, predicted: np.ndarray, measured: np.ndarray, patient: str = "p") -> SlideMoments:
    xy = _places()
    cells = (xy // 128).astype(int)
    block = cells[:, 0] * 5 + cells[:, 1]
    moments = block_moments(predicted, measured, block)
    return SlideMoments(
        slide=name, patient=patient, moments=moments, scored=np.ones(predicted.shape[1], bool)
    )


def test_white_residuals_have_no_range() -> None:
    assert residual_range(_places(), _field(np.random.default_rng(0), 0), 16.0, "x") == 0.0


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_the_range_of_smooth_residuals_grows_with_their_smoothness(sigma: float) -> None:
    # a field smoothed with a normal of width s has correlation exp(-d^2 / 4 s^2): 1/e at 2 s
    found = residual_range(_places(), _field(np.random.default_rng(1), sigma), 16.0, "x")

    assert 1.0 * sigma * 16 <= found <= 3.5 * sigma * 16


@given(st.integers(25, 400), st.integers(0, 99))
@settings(max_examples=40)
def test_blocks_are_as_wide_as_leaves_enough_of_them(places: int, seed: int) -> None:
    xy = np.random.default_rng(seed).uniform(0, 6_500, (places, 2))

    group, width = widest_blocks(xy)

    assert group.max() + 1 >= 25
    np.testing.assert_array_equal(np.unique(group), np.arange(group.max() + 1))
    for number in range(group.max() + 1):
        assert np.ptp(xy[group == number], axis=0).max() <= width
    assert group.max() + 1 <= 60


@pytest.mark.parametrize("true_um", [400.0, 800.0])
def test_a_range_wider_than_any_neighbourhood_is_seen_on_a_large_slide(true_um: float) -> None:
    """Sampled blocks of a whole capture area, and residuals that are mostly noise."""
    rng = np.random.default_rng(7)
    side, step = 200, 32.0
    noise = rng.standard_normal((12, side, side))
    smooth = ndimage.gaussian_filter(noise, (0, true_um / 2 / step, true_um / 2 / step), mode="wrap")
    field = (smooth / smooth.std() + 2 * noise).reshape(12, -1).T
    xy = np.argwhere(np.ones((side, side))) * step
    blocks = (xy // 128).astype(int) @ [50, 1]
    kept = np.isin(blocks, rng.choice(2500, 150, replace=False))

    found = residual_range(xy[kept], field[kept], step, "x")

    assert 0.6 * true_um < found < 1.6 * true_um


def test_two_places_at_one_point_do_not_hold_up_the_search_for_blocks() -> None:
    group, _ = widest_blocks(np.array([[0.0, 0], [0, 0], [900, 900]]))

    assert sorted(group) == [0, 0, 1]


def test_a_gene_leaves_the_resamples_that_miss_it() -> None:
    """Sparse genes that lie in two blocks: resamples without them must not pull the interval down."""
    rng = np.random.default_rng(8)
    block = np.arange(2_400) // 100
    measured = np.zeros((2_400, 30))
    for gene in range(30):
        inside = np.flatnonzero(np.isin(block, rng.choice(24, 2, replace=False)))
        measured[rng.choice(inside, 60, replace=False), gene] = rng.uniform(1, 3, 60)
    predicted = measured + rng.normal(0, 2, measured.shape)
    slide = SlideMoments(
        slide="s",
        patient="p",
        moments=block_moments(predicted, measured, block),
        scored=np.ones(30, bool),
    )

    found = interval(resampled_pcc([slide], 2_000))

    assert found.low < found.value < found.high


def test_a_slide_of_one_block_has_no_interval() -> None:
    rng = np.random.default_rng(9)
    measured = rng.normal(size=(40, 5))
    moments = block_moments(measured + rng.normal(size=(40, 5)), measured, np.zeros(40, int))
    slide = SlideMoments(slide="s", patient="p", moments=moments, scored=np.ones(5, bool))

    values = resampled_pcc([slide], 100)

    found = interval(values)
    assert 0 < found.value < 1
    assert (found.low, found.high) == (None, None)
    assert paired(values, values).low is None
    assert limits(found) == "–"


def test_few_places_are_blocks_of_their_own() -> None:
    group, _ = widest_blocks(np.argwhere(np.ones((2, 3))) * 448.0)

    assert sorted(group) == list(range(6))


def test_patients_weigh_the_same_however_many_slides_they_have() -> None:
    rng = np.random.default_rng(2)
    measured = _field(rng, 2)
    good, bad = measured, _field(rng, 0)
    slides = [
        _slide("a1", good, measured, "a"),
        _slide("a2", good, measured, "a"),
        _slide("b", bad, measured, "b"),
    ]

    value = interval(resampled_pcc(slides, 50)).value

    assert value == pytest.approx(0.5, abs=0.02)


def test_a_model_does_not_differ_from_itself() -> None:
    rng = np.random.default_rng(3)
    measured = _field(rng, 2)
    slide = [_slide("a", measured + _field(rng, 1), measured)]

    difference = paired(resampled_pcc(slide, 100), resampled_pcc(slide, 100))

    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_all_models_are_compared_on_the_same_resamples() -> None:
    rng = np.random.default_rng(4)
    measured = _field(rng, 2)
    shared = _field(rng, 1)
    a = resampled_pcc([_slide("s", measured + shared, measured)], 300)
    b = resampled_pcc([_slide("s", measured + shared + 0.05 * _field(rng, 0), measured)], 300)

    apart = np.std(a[1:]) ** 2 + np.std(b[1:]) ** 2

    assert np.var(a[1:] - b[1:]) < 0.1 * apart


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # measured = signal + smooth noise; the truth is the mean correlation over many such slides
    rng = np.random.default_rng(5)
    values, inside = [], 0
    intervals = []
    for _ in range(60):
        signal = _field(rng, 1, genes=4)
        found = interval(resampled_pcc([_slide("s", signal, signal + _field(rng, 1, genes=4))], 200))
        values.append(found.value)
        intervals.append(found)
    truth = np.mean(values)
    inside = sum(found.low <= truth <= found.high for found in intervals)

    assert inside >= 0.8 * len(intervals)
