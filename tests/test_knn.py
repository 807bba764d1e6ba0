"""The nearest neighbours against scikit-learn, and how their number is chosen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import Planted
from sklearn.neighbors import KNeighborsRegressor

from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.inner import split_inner
from hdstbench.protocol.slide import Slide
from hdstbench_baselines.controls.knn import KNN, NEIGHBOURS, PLUGIN, UNCHOSEN

TINY = PLUGIN.recipes["tiny"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("knn")


def _fit(train: list[Slide], val: list[Slide], folder: Path) -> KNN:
    model = KNN(TINY)
    model.fit(train, val, RunContext(seed=0, scratch=folder, cache=folder))
    return model


def _parted(planted: list[Planted]) -> tuple[list[Slide], list[Slide]]:
    parts = [split_inner(p.slide) for p in planted[:2]]
    return [train for train, _ in parts], [val for _, val in parts]


def _theirs(model: KNN, known: list[Slide], slide: Slide, k: int) -> np.ndarray:
    x = np.concatenate([model._features(s).numpy() for s in known]).astype(np.float64)
    y = np.concatenate([s.need_labels().target() for s in known])
    theirs = KNeighborsRegressor(n_neighbors=k, metric="cosine", algorithm="brute").fit(x, y)
    return np.asarray(theirs.predict(model._features(slide).numpy().astype(np.float64)))


def test_a_test_slide_is_predicted_as_scikit_learn_does(planted: list[Planted], folder: Path) -> None:
    train, test = [p.slide for p in planted[:2]], planted[2].slide

    model = _fit(train, [], folder)

    assert model.neighbours == UNCHOSEN
    wanted = _theirs(model, train, test, UNCHOSEN)
    np.testing.assert_allclose(model.predict(test.hidden()), wanted, atol=0.02)
    assert np.median(np.abs(model.predict(test.hidden()) - wanted)) < 1e-5


def test_the_number_with_the_least_error_on_other_patients_is_taken(
    planted: list[Planted], folder: Path
) -> None:
    train, val = _parted(planted)

    model = _fit(train, val, folder)

    errors = [
        sum(
            np.sum((_theirs(model, [train[1 - i]], val[i], k) - val[i].need_labels().target()) ** 2)
            for i in (0, 1)
        )
        for k in NEIGHBOURS
    ]
    assert model.neighbours == NEIGHBOURS[int(np.argmin(errors))]


def test_validation_units_are_retrieved_in_the_end(planted: list[Planted], folder: Path) -> None:
    train, val = _parted(planted)

    model = _fit(train, val, folder)

    found = model._nearest(planted[2].slide.hidden(), 10**6)
    assert found.shape[1] == sum(map(len, (*train, *val)))


def test_fewer_training_units_than_neighbours_are_all_taken(planted: list[Planted], folder: Path) -> None:
    few = planted[0].slide.take(np.arange(7))

    predicted = _fit([few], [], folder).predict(planted[2].slide.hidden())

    np.testing.assert_allclose(predicted - few.need_labels().target().mean(axis=0), 0, atol=1e-5)


def test_recipes_differ_in_the_bank_of_quick_and_the_encoder_of_tiny_alone() -> None:
    recipes = dict(PLUGIN.recipes)
    quick, tiny, official = (recipes.pop(name) for name in ("quick", "tiny", "official"))

    assert len(recipes) == 2
    assert all(config == official for config in recipes.values())
    assert replace(quick, bank_units=0) == official
    assert replace(official, encoder="tiny", weights="none") == tiny == TINY
