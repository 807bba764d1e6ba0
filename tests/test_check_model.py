"""The conformance suite finds each way to break the contract, and nothing else; and its command."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from broken import (
    BROKEN,
    TRUTH,
    Config,
    Flat,
    Honest,
    Nearest,
    fail,
    fits,
    of_blocks,
    of_slide,
    plugin,
    predicts,
)
from helpers import type_command

from hdstbench.arrays import FloatArray
from hdstbench.data.prepared import load_blocks, load_images
from hdstbench.plugins.checks import Outcome, Trial, check_model, checks, name_of, run_check
from hdstbench.plugins.checks.altered import alone
from hdstbench.plugins.checks.cohort import Slides, write_slides
from hdstbench.plugins.plugin import AnyPlugin
from hdstbench.protocol.slide import open_slide
from hdstbench.protocol.target import Target

Run = Callable[[AnyPlugin], dict[str, Outcome]]
DOCS = Path(__file__).parents[1] / "docs" / "models.md"
ABOUT_THE_PLUGIN = {"plugin", "recipes", "exceptions"}
OF_FEW = {"same-seed", "warm-cache", "other-seed"}
"""Checks that look at nothing but fits on few units."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slides of a trial, made once."""
    folder = tmp_path_factory.mktemp("template")
    write_slides(folder, within=False)
    return folder


@pytest.fixture
def outcomes(template: Path, tmp_path: Path) -> Callable[[AnyPlugin], dict[str, Outcome]]:
    """Run all checks on a plugin."""

    def run(tried: AnyPlugin) -> dict[str, Outcome]:
        trial = Trial(tried, tmp_path)
        shutil.copytree(template, tmp_path / "slides")
        trial.slides = Slides(tuple(tmp_path / "slides" / f"{name}-16um" for name in "abc"), within=False)
        return {name_of(check): run_check(check, trial) for check in checks()}

    return run


def named(found: dict[str, Outcome], status: str) -> set[str]:
    return {name for name, outcome in found.items() if outcome.status == status}


@pytest.fixture(autouse=True, scope="module")
def _truth(template: Path) -> None:
    test = open_slide(template / "c-16um", ("NOISE",), Target())
    noise = test.need_labels().target()[:, 0]
    TRUTH.update({("c", *place): value for place, value in zip(test.grid.tolist(), noise, strict=True)})


@pytest.mark.parametrize(("broken", "wanted"), BROKEN.values(), ids=BROKEN)
def test_a_broken_model_is_found_by_the_checks_that_say_so(
    broken: AnyPlugin, wanted: set[str], outcomes: Run
) -> None:
    found = outcomes(broken)

    assert named(found, "failed") == wanted
    assert not named(found, "not run")
    assert all(found[name].says for name in wanted)


def test_every_check_has_a_broken_model_here() -> None:
    found = set().union(*(wanted for _, wanted in BROKEN.values()))

    assert found | {"fit", "fit-without-validation", "shape"} == {name_of(check) for check in checks()}


def test_an_honest_model_passes(tmp_path: Path) -> None:
    found = list(check_model(plugin(), tmp_path))

    assert [outcome.status for outcome in found] == ["passed"] * len(checks())
    assert all(outcome.claim and not outcome.says for outcome in found)


def test_a_fit_that_fails_is_told_once_and_nothing_else_is_run(outcomes: Run) -> None:
    found = outcomes(plugin(fits(lambda t, v, c: v and fail("no\nvalidation, please"))))

    assert named(found, "failed") == {"fit"}
    assert found["fit"].says == "fit raised RuntimeError: no validation, please"
    assert isinstance(found["fit"].error.__cause__, RuntimeError)
    assert named(found, "passed") == ABOUT_THE_PLUGIN | {"fit-without-validation"}
    assert not any(found[name].ok for name in named(found, "not run"))


def test_a_model_that_leaves_the_process_fails_where_it_does(outcomes: Run) -> None:
    found = outcomes(plugin(fits(lambda t, v, c: v or sys.exit(3))))

    assert named(found, "failed") == {"fit-without-validation"}
    assert named(found, "not run") == OF_FEW | {"columns"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s, out: out.T, "predict gave ndarray (3, 576), wanted an array (576, 3)"),
        (lambda s, out: out[:-1], "predict gave ndarray (575, 3), wanted an array (576, 3)"),
        (lambda s, out: out.tolist(), "predict gave list , wanted an array (576, 3)"),
        (lambda s, out: fail("no memory"), "RuntimeError: no memory"),
    ],
)
def test_a_prediction_of_no_use_is_told_once(change: Callable[..., object], says: str, outcomes: Run) -> None:
    found = outcomes(plugin(predicts(change)))

    assert named(found, "failed") == {"shape"}
    assert found["shape"].says == says


def test_a_recipe_that_is_missing_is_told_once(outcomes: Run) -> None:
    found = outcomes(plugin(recipes={"quick": Config()}))

    assert named(found, "failed") == {"recipes"}
    assert found["recipes"].says == "there is no recipe 'tiny'; there are quick"
    assert named(found, "passed") == {"plugin", "exceptions"}


def test_what_a_plugin_excepts_may_fail_and_says_why(outcomes: Run) -> None:
    found = outcomes(plugin(Flat, exceptions={"signal": "it is flat"}))

    assert named(found, "excepted") == {"signal"}
    assert found["signal"].says == "it is flat"
    assert all(outcome.ok for outcome in found.values())


@pytest.mark.parametrize(
    ("change", "context", "status"),
    [(of_blocks, "block", "passed"), (of_blocks, "slide", "nothing"), (of_slide, "slide", "nothing")],
)
def test_a_model_may_look_at_what_it_declares(
    change: Callable[..., FloatArray], context: str, status: str, outcomes: Run
) -> None:
    found = outcomes(plugin(predicts(change), context=context))

    assert found["context"].status == status
    assert not named(found, "failed")


def test_a_model_of_places_is_tried_within_slides(tmp_path: Path) -> None:
    of_places, of_pictures = (plugin(model, scope="within-slide") for model in (Nearest, Honest))

    assert all(outcome.ok for outcome in check_model(of_places, tmp_path / "places"))
    failed = [outcome.name for outcome in check_model(of_pictures, tmp_path / "pictures") if not outcome.ok]
    assert failed == ["signal"]


def test_a_model_that_cannot_be_saved_is_no_failure(outcomes: Run) -> None:
    found = outcomes(plugin(type("Unsavable", (Honest,), {"save": None, "load": None})))

    assert found["save-load"].status == "nothing"
    assert found["save-load"].ok


def test_what_stays_of_a_slide_is_as_it_was(template: Path, tmp_path: Path) -> None:
    slide = open_slide(template / "c-16um", ("NOISE",), Target())
    index = np.arange(3, 500, 31)

    left = alone(slide, template / "c-16um", tmp_path / "alone", index)

    assert len(left) == len(left.whole()) == len(index)
    np.testing.assert_array_equal(left.xy_um, slide.xy_um[index])
    for level in slide.levels:
        mine = np.arange(len(index)) if level == "unit" else left.parents(level)
        theirs = index if level == "unit" else slide.parents(level)[index]
        np.testing.assert_array_equal(left.patches(level, mine), slide.patches(level, theirs))
    changed = load_images(left._folder, "unit") != load_blocks(template / "c-16um")
    assert changed.any()
    assert left.key != slide.key


def test_third_parties_run_the_suite_from_pytest(tmp_path: Path) -> None:
    """The example of docs/models.md, word for word."""
    model, tests = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "my_package.py").write_text(model)
    (tmp_path / "test_my_package.py").write_text(tests)

    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert f"{len(checks())} passed" in done.stdout


def install(folder: Path, **sources: str) -> dict[str, str]:
    """Installed packages, each with a model of its name; what a process needs to see them."""
    info = folder / "made_up-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1\n")
    lines = [f"{name} = made_{name}:PLUGIN" for name in sources]
    (info / "entry_points.txt").write_text("[hdstbench.models]\n" + "\n".join(lines))
    for name, source in sources.items():
        (folder / f"made_{name}.py").write_text(source)
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parent}"}


def test_the_command_reports_each_model_and_fails_if_one_does(tmp_path: Path, own_cache: Path) -> None:
    make = "from broken import *\nPLUGIN = plugin({}, name={!r})\n"
    places = install(
        tmp_path,
        good=make.format("Honest", "good"),
        bad=make.format("fits(lambda t, v, c: print('hello') or fail('out of\\nideas'))", "bad"),
        gone="import nothing_like_this\n",
    )

    done = type_command("check-model", "good,bad", "gone", cwd=tmp_path, cache=own_cache, env=places)

    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "good: recipe tiny on planted slides"
    assert f"{len(checks())} checks: {len(checks())} passed" in lines
    assert "           fit raised RuntimeError: out of ideas" in lines
    assert any(line.split()[:2] == ["FAIL", "fit"] for line in lines)
    assert f"{len(checks())} checks: 3 passed, 2 failed, {len(checks()) - 5} not run" in lines
    assert lines[-1].startswith("gone: FAIL, model 'gone' of made-up 1 cannot be imported")
    assert "Traceback" not in done.stdout + done.stderr
    assert "hello" not in done.stdout


def test_the_command_succeeds_with_exceptions_and_shows_their_reasons(
    tmp_path: Path, own_cache: Path
) -> None:
    done = type_command("check-model", "mean", cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stdout
    assert f"{len(checks())} checks: {len(checks()) - 2} passed, 2 excepted" in done.stdout
    assert "nothing is drawn" in done.stdout


def test_the_command_shows_tracebacks_on_request(tmp_path: Path, own_cache: Path) -> None:
    source = "from broken import *\nPLUGIN = plugin(fits(lambda t, v, c: fail('oh')), name='bad')\n"
    places = install(tmp_path, bad=source)

    done = type_command("check-model", "bad", "-v", cwd=tmp_path, cache=own_cache, env=places)

    assert "in fail\n    raise RuntimeError(text)\nRuntimeError: oh" in done.stdout


def test_an_unknown_model_is_refused_as_elsewhere(tmp_path: Path, own_cache: Path) -> None:
    done = type_command("check-model", "ridgee", cwd=tmp_path, cache=own_cache)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no model 'ridgee'; did you mean ridge")
