"""Ridge against scikit-learn, and the shuffled one."""

from pathlib import Path

import numpy as np
from helpers import Planted
from sklearn.linear_model import Ridge as SklearnRidge

from hdstbench.plugins.plugin import RunContext
from hdstbench_baselines.controls.ridge import ALPHAS, Ridge, RidgeConfig, _paths

TINY = RidgeConfig(encoder="tiny", weights="none")


def test_every_penalty_gives_scikit_learns_solution() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 3, (80, 12)), rng.normal(size=(80, 4))
    z = (x - x.mean(axis=0)) / x.std(axis=0)

    for alpha, ours in zip(ALPHAS, _paths(x, y, ALPHAS), strict=True):
        theirs = SklearnRidge(alpha=alpha * len(x)).fit(z, y)
        np.testing.assert_allclose(ours.apply(x), theirs.predict(z), atol=1e-8)


def test_a_constant_feature_does_no_harm() -> None:
    rng = np.random.default_rng(1)
    x, y = np.column_stack([rng.normal(size=(50, 3)), np.ones(50)]), rng.normal(size=(50, 2))

    assert np.isfinite(next(_paths(x, y, (0.0001,))).apply(x)).all()


def test_the_penalty_with_the_least_validation_error_is_taken(planted: list[Planted], tmp_path: Path) -> None:
    train, val = planted[0].slide, planted[1].slide
    model = Ridge(TINY)

    model.fit([train], [val], RunContext(seed=0, scratch=tmp_path, cache=tmp_path))

    x, y = model._features([train]), model._targets([train])
    held_x, held_y = model._features([val]), model._targets([val])
    errors = [np.mean((s.apply(held_x) - held_y) ** 2) for s in _paths(x, y, ALPHAS)]
    assert model.alpha == ALPHAS[int(np.argmin(errors))]


def test_shuffling_keeps_each_slides_values_and_breaks_their_order(
    planted: list[Planted], tmp_path: Path
) -> None:
    slides = [p.slide for p in planted[:2]]
    model = Ridge(RidgeConfig(encoder="tiny", weights="none", shuffle=True))
    model.context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path)

    shuffled = model._targets(slides)

    start = 0
    for slide in slides:
        true, mixed = slide.need_labels().target(), shuffled[start : start + len(slide)]
        assert (true != mixed).any()
        np.testing.assert_allclose(np.sort(true, axis=0), np.sort(mixed, axis=0))
        start += len(slide)
