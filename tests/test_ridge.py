"""Ridge against scikit-learn, on one level and on several, and the shuffled one."""

from pathlib import Path

import numpy as np
import pytest
from helpers import Planted
from sklearn.linear_model import Ridge as SklearnRidge

from hdstbench.plugins.plugin import RunContext
from hdstbench_baselines.controls.linear import ALPHAS, Part, Table, error_of, paths, table
from hdstbench_baselines.controls.ridge import Ridge, RidgeConfig

TINY = RidgeConfig(encoder="tiny", weights="none")


def test_every_penalty_gives_scikit_learns_solution() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 3, (80, 12)), rng.normal(size=(80, 4))
    z = (x - x.mean(axis=0)) / x.std(axis=0)

    for alpha, ours in zip(ALPHAS, paths([table(x)], [y], ALPHAS), strict=True):
        theirs = SklearnRidge(alpha=alpha * len(x)).fit(z, y)
        np.testing.assert_allclose(ours.apply(table(x)), theirs.predict(z), atol=1e-8)


def levels(rng: np.random.Generator, units: int) -> Table:
    """A slide with three levels; some coarse squares have no unit."""
    counts, widths = (units, 9, 4), (6, 5, 3)
    rows = [np.arange(units), rng.integers(0, 7, units), rng.integers(1, 4, units)]
    values = [rng.normal(3, 2, (n, d)).astype(np.float32) for n, d in zip(counts, widths, strict=True)]
    return tuple(Part(v, r) for v, r in zip(values, rows, strict=True))


def written_out(slide: Table) -> np.ndarray:
    return np.concatenate([part.values[part.rows] for part in slide], axis=1).astype(np.float64)


def test_several_levels_give_the_solution_of_the_features_written_out_once_a_unit() -> None:
    rng = np.random.default_rng(1)
    slides = [levels(rng, 50), levels(rng, 30)]
    y = [rng.normal(size=(50, 2)), rng.normal(size=(30, 2))]
    x = np.concatenate([written_out(s) for s in slides])
    z = (x - x.mean(axis=0)) / x.std(axis=0)

    ours = next(paths(slides, y, (0.1,)))

    theirs = SklearnRidge(alpha=0.1 * len(x)).fit(z, np.concatenate(y)).predict(z)
    np.testing.assert_allclose(np.concatenate([ours.apply(s) for s in slides]), theirs, atol=1e-6)
    assert error_of(ours, slides, y) == pytest.approx(np.mean((theirs - np.concatenate(y)) ** 2), rel=1e-6)


def test_a_constant_feature_does_no_harm() -> None:
    rng = np.random.default_rng(1)
    x, y = np.column_stack([rng.normal(size=(50, 3)), np.full(50, 9.1)]), rng.normal(size=(50, 2))

    line = next(paths([table(x)], [y], (0.0001,)))

    other = next(paths([table(x[:, :3])], [y], (0.0001,)))
    np.testing.assert_allclose(line.apply(table(x)), other.apply(table(x[:, :3])), atol=1e-6)


def test_a_feature_that_is_almost_never_there_throws_no_unit_out_of_bounds() -> None:
    rng = np.random.default_rng(3)
    x = np.column_stack([rng.normal(size=(100, 5)), np.zeros(100)])
    x[7, 5] = 1e-4
    y = rng.normal(size=(100, 2))
    line = next(paths([table(x)], [y], (0.0001,)))
    other = np.zeros((1, 6))

    before = line.apply(table(other))
    other[0, 5] = 0.2

    assert np.abs(line.apply(table(other)) - before).max() < 1


def test_more_features_than_units_can_be_solved() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 60)), rng.normal(size=(20, 3))

    for line in paths([table(x)], [y], ALPHAS):
        assert np.isfinite(line.apply(table(x))).all()


def test_the_penalty_with_the_least_validation_error_is_taken_and_told(
    planted: list[Planted], tmp_path: Path
) -> None:
    train, val = planted[0].slide, planted[1].slide
    model = Ridge(TINY)

    model.fit([train], [val], RunContext(seed=0, scratch=tmp_path, cache=tmp_path))

    lines = paths(model.features([train]), model.targets([train]), ALPHAS)
    errors = [error_of(line, model.features([val]), model.targets([val])) for line in lines]
    assert model.alpha == ALPHAS[int(np.argmin(errors))]
    assert model.validation == min(errors)


def test_without_validation_units_no_error_is_told(planted: list[Planted], tmp_path: Path) -> None:
    model = Ridge(TINY)

    model.fit([planted[0].slide], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path))

    assert (model.alpha, model.validation) == (1.0, None)


def test_shuffling_keeps_each_slides_values_and_breaks_their_order(
    planted: list[Planted], tmp_path: Path
) -> None:
    slides = [p.slide for p in planted[:2]]
    model = Ridge(RidgeConfig(encoder="tiny", weights="none", shuffle=True))
    model.context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path)

    shuffled = model.targets(slides)

    for slide, mixed in zip(slides, shuffled, strict=True):
        true = slide.need_labels().target()
        assert (true != mixed).any()
        np.testing.assert_allclose(np.sort(true, axis=0), np.sort(mixed, axis=0))
