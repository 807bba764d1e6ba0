"""Every installed model keeps the contract, learns what is there and not what is not."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import Planted, make_slide

from hdstbench.arrays import FloatArray
from hdstbench.metrics.correlation import pearson_per_gene
from hdstbench.plugins.plugin import AnyPlugin, Model, Progress, RunContext
from hdstbench.plugins.registry import found, load_model
from hdstbench.protocol.slide import Slide

BRIGHT, NOISE = 0, 1
BLIND = {"mean", "shuffled-ridge"}
"""Controls that cannot learn the planted gene, by design."""


def fit(plugin: AnyPlugin, train: list[Slide], val: list[Slide], folder: Path, *, seed: int = 0) -> Model:
    """Fit the tiny recipe of a plugin."""
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    model = plugin.build(plugin.recipes["tiny"])
    model.fit(train, val, RunContext(seed=seed, scratch=folder / "scratch", cache=folder / "cache"))
    return model


@dataclass(frozen=True)
class Fitted:
    plugin: AnyPlugin
    model: Model
    train: list[Slide]
    test: Slide


@pytest.fixture(scope="module", params=sorted(found()))
def fitted(
    request: pytest.FixtureRequest, planted: list[Planted], tmp_path_factory: pytest.TempPathFactory
) -> Fitted:
    plugin = load_model(request.param)
    a, b, c = (p.slide for p in planted)
    folder = tmp_path_factory.mktemp(request.param)
    return Fitted(plugin, fit(plugin, [a], [b], folder), [a, b], c)


def correlation(predicted: FloatArray, slide: Slide) -> FloatArray:
    return np.nan_to_num(pearson_per_gene(predicted, slide.need_labels().target()))


def test_a_prediction_has_shape_type_and_finite_values(fitted: Fitted) -> None:
    predicted = fitted.model.predict(fitted.test.hidden())

    assert predicted.shape == (len(fitted.test), len(fitted.test.genes))
    assert predicted.dtype == np.float32
    assert np.isfinite(predicted).all()


def test_a_planted_gene_is_learnt_and_noise_is_not(fitted: Fitted) -> None:
    predicted = fitted.model.predict(fitted.test.hidden())
    r = correlation(predicted, fitted.test)

    if fitted.plugin.name in BLIND:
        assert predicted[:, BRIGHT].std() < 0.4 * fitted.test.need_labels().target()[:, BRIGHT].std()
    else:
        assert r[BRIGHT] > 0.75
    assert abs(r[NOISE]) < 0.2


def test_a_prediction_does_not_depend_on_what_was_predicted_before(fitted: Fitted) -> None:
    first = fitted.model.predict(fitted.test.hidden())
    fitted.model.predict(fitted.train[0].hidden())

    np.testing.assert_array_equal(first, fitted.model.predict(fitted.test.hidden()))


def test_a_prediction_depends_on_no_more_than_is_declared(fitted: Fitted) -> None:
    """Other units of the slide, or of other blocks, are taken away: the prediction stays."""
    slide = fitted.test.hidden()
    whole = fitted.model.predict(slide)
    blocks = slide.blocks()
    index = np.concatenate([blocks[3], blocks[0]])
    if fitted.plugin.context == "unit":
        index = index[::3]

    part = fitted.model.predict(slide.take(index))

    np.testing.assert_allclose(part, whole[index], atol=2e-5)


def test_the_order_of_units_does_not_matter(fitted: Fitted) -> None:
    slide = fitted.test.hidden()
    order = np.random.default_rng(0).permutation(len(slide))

    shuffled = fitted.model.predict(slide.take(order))

    np.testing.assert_allclose(shuffled, fitted.model.predict(slide)[order], atol=2e-5)


def test_inputs_are_left_as_they_were(fitted: Fitted) -> None:
    slide = fitted.test
    before = slide.patches("unit", np.arange(5)).copy(), slide.need_labels().target().copy()

    fitted.model.predict(slide.hidden())

    np.testing.assert_array_equal(slide.patches("unit", np.arange(5)), before[0])
    np.testing.assert_array_equal(slide.need_labels().target(), before[1])


@pytest.mark.parametrize("name", sorted(found()))
def test_the_seed_decides_everything(name: str, planted: list[Planted], tmp_path: Path) -> None:
    plugin = load_model(name)
    a, b, c = (p.slide for p in planted)
    small = a.take(np.concatenate(a.blocks()[:6]))
    runs = [
        fit(plugin, [small], [b], tmp_path / str(i), seed=seed).predict(c.hidden())
        for i, seed in enumerate((5, 5, 6))
    ]

    np.testing.assert_array_equal(runs[0], runs[1])
    if name != "mean":
        assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize("name", sorted(found()))
def test_it_makes_no_difference_whether_features_were_there_already(
    name: str, planted: list[Planted], tmp_path: Path
) -> None:
    plugin = load_model(name)
    a, b, c = (p.slide for p in planted)
    small = a.take(np.concatenate(a.blocks()[:6]))

    first, second = (fit(plugin, [small], [b], tmp_path, seed=5).predict(c.hidden()) for _ in range(2))

    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", sorted(found()))
@pytest.mark.parametrize("res", ["8um", "55um"])
def test_models_run_at_other_resolutions(name: str, res: str, tmp_path: Path) -> None:
    plugin = load_model(name)
    train = make_slide(tmp_path, "t", res=res, side_um=512).slide
    some = train.take(np.concatenate(train.blocks()[:2]))

    model = fit(plugin, [some], [], tmp_path / "fit")

    assert np.isfinite(model.predict(some.hidden())).all()


@pytest.mark.parametrize("name", sorted(found()))
def test_a_plugin_says_what_it_is(name: str) -> None:
    plugin = load_model(name)

    assert {"official", "common", "quick", "tiny"} <= set(plugin.recipes)
    assert plugin.paper
    assert plugin.licence
    assert len(plugin.notes) > 20


def test_trained_models_tell_how_far_they_are(planted: list[Planted], tmp_path: Path) -> None:
    plugin, told = load_model("st-net"), list[Progress]()
    model = plugin.build(plugin.recipes["tiny"])

    model.fit(
        [planted[0].slide], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path, report=told.append)
    )

    assert told
    assert all(0 <= p.share <= 1 and p.loss is not None for p in told)
