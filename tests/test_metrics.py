"""Correlations and errors against scipy and scikit-learn, and what they must not depend on."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics as sk

from hdstbench.metrics.chunks import ROWS
from hdstbench.metrics.correlation import pearson_per_gene, pearson_per_unit, pearson_pooled
from hdstbench.metrics.error import mae, mae_per_gene, mse, mse_per_gene, mse_skill
from hdstbench.metrics.fast import LEAST
from hdstbench.metrics.moments import block_moments, correlation_of
from hdstbench.metrics.pooled import pooled_correlation

VALUES = st.floats(-1e3, 1e3, allow_nan=False, width=32)
PAIRS = st.tuples(st.integers(3, 12), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=VALUES)] * 2)
)


@given(PAIRS)
@settings(max_examples=200)
def test_pearson_per_gene_is_scipys(pair: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, measured = pair

    r = pearson_per_gene(predicted, measured)

    for gene in range(predicted.shape[1]):
        p, m = (a[:, gene].astype(np.float64) for a in pair)
        if np.ptp(p) == 0 or np.ptp(m) == 0:
            assert np.isnan(r[gene])
        elif min(p.std() / (np.abs(p).max() + 1e-300), m.std() / (np.abs(m).max() + 1e-300)) > 1e-6:
            assert r[gene] == pytest.approx(stats.pearsonr(p, m).statistic, abs=1e-7)


@given(seed=st.integers(0, 999), offset=st.sampled_from([0.0, 3.0, -40.0, 1e4]))
@settings(deadline=None, max_examples=10)
def test_many_units_in_float32_correlate_as_in_float64(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    measured = rng.gamma(0.5, size=(LEAST + 7, 6)).astype(np.float32)
    predicted = (measured * rng.normal(size=6) + rng.normal(size=measured.shape) + offset).astype(np.float32)
    measured[:, 0] = 0.7  # constant
    measured[:, 1] = np.arange(len(measured)) > len(measured) - 5  # not 0 where no sample looks
    predicted[: len(predicted) // 2, 2] += 500  # half a slide apart
    predicted[:, 3] *= np.float32(1e-22)

    r = pearson_per_gene(predicted, measured)

    exact = pearson_per_gene(predicted.astype(np.float64), measured.astype(np.float64))
    np.testing.assert_allclose(r, exact, atol=1e-6)
    assert np.isnan(r).tolist() == [True, False, False, False, False, False]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_many_units_with_one_that_is_not_finite_are_refused(wrong: float) -> None:
    measured = np.random.default_rng(0).normal(size=(LEAST, 3)).astype(np.float32)
    predicted = measured.copy()
    predicted[LEAST // 3, 1] = wrong

    with pytest.raises(ValueError, match="finite"):
        pearson_per_gene(predicted, measured)


def test_pearson_per_gene_ignores_scale_and_keeps_sign() -> None:
    measured = np.array([[0, 0], [1, 1], [2, 2]], np.float32)
    predicted = (measured * [10, -1] + [5, 0]).astype(np.float32)

    r = pearson_per_gene(predicted, measured)

    np.testing.assert_allclose(r, [1, -1], rtol=1e-12)


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_pearson_per_gene_survives_a_large_offset(offset: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1))
    y = 0.5 * x + rng.normal(size=(500, 1))

    shifted = pearson_per_gene(x + offset, y - offset)

    np.testing.assert_allclose(shifted, pearson_per_gene(x, y), atol=1e-8)


def test_pearson_per_gene_does_not_lose_tiny_values() -> None:
    x = np.array([[0.0], [1e-200], [3e-200]])

    np.testing.assert_allclose(pearson_per_gene(x, x * 2), [1.0])


def test_pearson_per_unit_runs_over_genes_and_counts_flat_units_as_zero() -> None:
    rng = np.random.default_rng(1)
    predicted, measured = rng.normal(size=(2, 6, 40))
    measured[2] = 3.0

    r = pearson_per_unit(predicted, measured)

    wanted = [
        stats.pearsonr(p, m).statistic if np.ptp(m) else 0.0 for p, m in zip(predicted, measured, strict=True)
    ]
    np.testing.assert_allclose(r, wanted, atol=1e-8)


def test_a_predictor_without_image_scores_on_units_and_not_on_genes() -> None:
    rng = np.random.default_rng(2)
    profile = rng.gamma(1.0, 1.0, 50)
    measured = rng.poisson(5 * profile, (300, 50)).astype(float)
    blind = np.tile(profile, (300, 1))

    assert pearson_per_unit(blind, measured).mean() > 0.7
    assert np.isnan(pearson_per_gene(blind, measured)).all()


@given(PAIRS)
def test_errors_are_scikit_learns(pair: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, measured = pair

    assert mse(predicted, measured) == pytest.approx(
        sk.mean_squared_error(measured, predicted), rel=1e-5, abs=1e-9
    )
    assert mae(predicted, measured) == pytest.approx(
        sk.mean_absolute_error(measured, predicted), rel=1e-5, abs=1e-9
    )


def test_skill_is_zero_for_the_training_mean_and_one_for_the_truth() -> None:
    rng = np.random.default_rng(3)
    measured, mean = rng.normal(size=(30, 4)), rng.normal(size=4)

    assert mse_skill(np.tile(mean, (30, 1)), measured, mean) == 0.0
    assert mse_skill(measured, measured, mean) == 1.0
    assert mse_skill(measured + 100, measured, mean) < 0


@pytest.mark.parametrize("bad", ["shape", "one", "nan"])
def test_what_cannot_be_compared_is_refused(bad: str) -> None:
    a = np.ones((4, 3))
    b = {"shape": np.ones((4, 2)), "one": np.ones((1, 3)), "nan": np.full((4, 3), np.nan)}[bad]

    with pytest.raises(ValueError, match=r"finite|two equal"):
        pearson_per_gene(b if bad == "one" else a, b)


@given(st.integers(0, 50), st.integers(20, 60), st.integers(2, 6))
@settings(max_examples=30)
def test_moments_of_all_blocks_give_the_correlation(seed: int, units: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    measured = rng.normal(3, 1, (units, 4))
    predicted = measured + rng.normal(size=(units, 4))
    block = np.concatenate([np.arange(blocks), rng.integers(blocks, size=units - blocks)])

    sums = block_moments(predicted, measured, block)
    r = correlation_of(np.ones((1, blocks)), sums)[0]

    np.testing.assert_allclose(r, pearson_per_gene(predicted, measured), atol=1e-10)


def test_weights_count_blocks_as_often_as_they_are_drawn() -> None:
    rng = np.random.default_rng(5)
    predicted, measured = rng.normal(size=(2, 40, 3))
    block = np.repeat(np.arange(4), 10)
    weights = np.array([[2.0, 0, 1, 3]])

    sums = block_moments(predicted, measured, block)
    r = correlation_of(weights, sums)[0]

    rows = np.repeat(np.arange(40), np.repeat([2, 0, 1, 3], 10))
    np.testing.assert_allclose(r, pearson_per_gene(predicted[rows], measured[rows]), atol=1e-10)


def test_a_constant_prediction_has_no_correlation_by_accident_of_rounding() -> None:
    measured = np.random.default_rng(7).normal(size=(1000, 2))
    predicted = np.tile(np.float32([0.1, 1 / 3]), (1000, 1))

    sums = block_moments(predicted, measured, np.arange(1000) // 100)

    np.testing.assert_array_equal(correlation_of(np.ones((1, 10)), sums), 0.0)


SLIDES = st.tuples(st.integers(0, 999), st.integers(2, 40), st.integers(2, 40))


@given(SLIDES)
@settings(max_examples=40)
def test_pooling_slides_is_joining_them(case: tuple[int, int, int]) -> None:
    seed, first, second = case
    rng = np.random.default_rng(seed)
    parts = [(rng.normal(size=(n, 3)), rng.normal(2, 3, (n, 3))) for n in (first, second)]

    r = pearson_pooled(parts)

    joined = [np.concatenate([part[side] for part in parts]) for side in (0, 1)]
    np.testing.assert_allclose(r, pearson_per_gene(*joined), atol=1e-12)


def test_pooling_rewards_knowing_each_slides_mean() -> None:
    rng = np.random.default_rng(8)
    level = rng.normal(size=(2, 1, 30))
    slides = [level[i] + 0.5 * rng.normal(size=(200, 30)) for i in (0, 1)]
    blind = [np.tile(slide.mean(axis=0), (200, 1)) for slide in slides]

    r = pearson_pooled(list(zip(blind, slides, strict=True)))

    assert r.mean() > 0.4
    assert all(np.isnan(pearson_per_gene(b, s)).all() for b, s in zip(blind, slides, strict=True))


@given(st.integers(0, 999), st.integers(2, 60), st.floats(0.1, 9), st.floats(-99, 99))
@settings(max_examples=40)
def test_correlation_ignores_shift_scale_and_the_order_of_units(
    seed: int, units: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    predicted, measured = rng.normal(size=(2, units, 4))
    order = rng.permutation(units)

    r = pearson_per_gene((predicted * scale + shift)[order], measured[order])

    np.testing.assert_allclose(r, pearson_per_gene(predicted, measured), atol=1e-9)


def test_many_units_are_worked_through_in_chunks_with_the_same_result() -> None:
    rng = np.random.default_rng(9)
    measured = rng.normal(size=(2 * ROWS + 7, 5)).astype(np.float32)
    predicted = (measured + rng.normal(size=measured.shape)).astype(np.float32)
    wide = [array.astype(np.float64) for array in (predicted, measured)]

    per_gene, per_unit = pearson_per_gene(predicted, measured), pearson_per_unit(predicted, measured)

    np.testing.assert_allclose(per_gene, stats.pearsonr(*wide, axis=0).statistic, atol=1e-12)
    np.testing.assert_allclose(per_unit, stats.pearsonr(*wide, axis=1).statistic, atol=1e-7)
    np.testing.assert_allclose(mse_per_gene(predicted, measured), ((wide[0] - wide[1]) ** 2).mean(axis=0))
    np.testing.assert_allclose(mae_per_gene(predicted, measured), np.abs(wide[0] - wide[1]).mean(axis=0))


def test_two_units_are_enough_and_give_a_sign() -> None:
    measured = np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 1.0]])
    predicted = np.array([[3.0, 9.0, 1.0], [5.0, 2.0, 2.0]])

    r = pearson_per_gene(predicted, measured)

    np.testing.assert_array_equal(r, [1.0, -1.0, np.nan])


def test_skill_is_one_minus_the_share_of_squared_error_that_is_left() -> None:
    measured = np.array([[1.0, 2.0], [3.0, 6.0]])
    predicted = np.array([[1.0, 3.0], [3.0, 5.0]])

    skill = mse_skill(predicted, measured, np.array([2.0, 4.0]))

    assert skill == pytest.approx(1 - 2 / 10)


@pytest.mark.parametrize("metric", [pearson_per_gene, pearson_per_unit, mse, mae])
def test_no_copy_of_the_whole_is_made(metric: Callable[..., object]) -> None:
    predicted, measured = np.random.default_rng(10).random((2, 60 * ROWS, 30), np.float32)
    tracemalloc.start()

    metric(predicted, measured)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < predicted.nbytes / 4


@given(st.integers(0, 99), st.integers(1, 3))
@settings(max_examples=20)
def test_stored_sums_pool_slides_as_their_predictions_do(seed: int, slides: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [(rng.normal(i, 1, (20 + i, 4)), rng.normal(-i, 2, (20 + i, 4))) for i in range(slides)]
    sums = [block_moments(p, m, np.arange(len(p)) // 5) for p, m in parts]

    np.testing.assert_allclose(pooled_correlation(sums), pearson_pooled(parts), atol=1e-10)


def test_pooling_counts_a_constant_prediction_as_zero() -> None:
    measured = np.random.default_rng(11).normal(size=(30, 2))
    predicted = np.stack([measured[:, 0], np.full(30, 0.1)], axis=1)
    sums = [block_moments(predicted + shift, measured, np.arange(30) // 10) for shift in (0.0, 0.0)]

    np.testing.assert_allclose(pooled_correlation(sums), [1.0, 0.0])
