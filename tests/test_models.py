"""Every installed model keeps the contract, at every resolution, and says what it is."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from helpers import Planted, make_slide

from hdstbench.plugins.checks import Check, Trial, checks, name_of, run_check
from hdstbench.plugins.plugin import Progress, RunContext
from hdstbench.plugins.registry import found, load_model
from hdstbench.protocol.slide import Slide
from hdstbench.strict import build
from hdstbench.sweep.cell import config_toml

MODELS = sorted(found())


@pytest.fixture(scope="module", params=MODELS)
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(load_model(request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=["8um", "55um"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Slide]:
    """Two slides of another resolution."""
    folder = tmp_path_factory.mktemp(request.param)
    return [make_slide(folder, name, res=request.param).slide for name in "ab"]


@pytest.mark.parametrize("check", checks(), ids=name_of)
def test_a_model_keeps_the_contract(check: Check, trial: Trial) -> None:
    outcome = run_check(check, trial)

    assert outcome.ok, outcome.says


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_is_read_back_from_the_toml_that_a_cell_keeps(name: str) -> None:
    recipes = load_model(name).recipes

    read = {key: build(type(c), tomllib.loads(config_toml(c)), key) for key, c in recipes.items()}

    assert read == dict(recipes)


@pytest.mark.parametrize("name", MODELS)
def test_models_run_at_other_resolutions(name: str, pair: list[Slide], tmp_path: Path) -> None:
    plugin = load_model(name)
    model = plugin.build(plugin.recipes["tiny"])
    some = [slide.take(np.concatenate(slide.blocks()[:2])) for slide in pair]

    model.fit(some, [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "cache"))

    assert np.isfinite(model.predict(some[0].hidden())).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_plugin_says_what_it_is(name: str) -> None:
    plugin = load_model(name)

    assert {"official", "tuned", "common", "quick", "tiny"} <= set(plugin.recipes)
    assert len(plugin.notes) > 20


@pytest.mark.parametrize("name", ["mean", "shuffled-ridge"])
def test_a_control_that_is_blind_to_the_picture_stays_flat(name: str, tmp_path: Path) -> None:
    trial = Trial(load_model(name), tmp_path)

    test = trial.main.cohort.test
    column = test.genes.index("BRIGHT")
    truth = test.need_labels().target()[:, column]

    assert trial.whole[:, column].std() < 0.2 * truth.std()


def test_trained_models_tell_how_far_they_are(planted: list[Planted], tmp_path: Path) -> None:
    plugin, told = load_model("st-net"), list[Progress]()
    model = plugin.build(plugin.recipes["tiny"])

    model.fit(
        [planted[0].slide], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path, report=told.append)
    )

    assert told
    assert all(0 <= p.share <= 1 and p.loss is not None for p in told)
