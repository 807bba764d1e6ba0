"""Checks of fitting, of seeds, and of what a model leaves behind."""

import dataclasses

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.plugins.checks.compare import need_near, need_same
from hdstbench.plugins.checks.trial import (
    AGAIN,
    COLD,
    MAIN,
    OTHER,
    WARM,
    BrokenContractError,
    NothingToCheckError,
    NotRunError,
    Plan,
    Trial,
)
from hdstbench.plugins.plugin import Savable


def check_fit(trial: Trial) -> None:
    """It is fitted on two slides, with validation."""
    _need_fit(trial, MAIN)


def check_fit_without_validation(trial: Trial) -> None:
    """It is fitted on a few blocks, without validation."""
    _need_fit(trial, COLD)


def check_progress(trial: Trial) -> None:
    """What it tells meanwhile is a share from 0 to 1, and a finite loss or none."""
    for told in trial.main.told:
        if not 0 <= told.share <= 1 or not np.isfinite(told.loss or 0.0):
            msg = f"it told {told}"
            raise BrokenContractError(msg)


def check_same_seed(trial: Trial) -> None:
    """The same seed gives the same bits."""
    need_same(*_predictions(trial, COLD, AGAIN), "two fits of one seed differ")


def check_warm_cache(trial: Trial) -> None:
    """It makes no difference whether its cache was filled already."""
    need_same(*_predictions(trial, AGAIN, WARM), "a fit that finds its cache filled differs")


def check_other_seed(trial: Trial) -> None:
    """Another seed gives other numbers."""
    first, second = _predictions(trial, AGAIN, OTHER)
    if np.array_equal(first, second):
        msg = f"fits of seeds {AGAIN.seed} and {OTHER.seed} are the same"
        raise BrokenContractError(msg)


def check_save_load(trial: Trial) -> None:
    """What was saved and is loaded predicts the same."""
    main, whole = trial.main, trial.whole
    if not isinstance(main.model, Savable):
        half = [name for name in ("save", "load") if callable(getattr(main.model, name, None))]
        if half:
            msg = f"it has {half[0]} alone, wanted save and load"
            raise BrokenContractError(msg)
        msg = "it cannot be saved"
        raise NothingToCheckError(msg)
    folder = trial.folder / "saved"
    folder.mkdir()
    loaded = trial.plugin.build(trial.config)
    assert isinstance(loaded, Savable)  # as the other one, of the same class
    with trial.confined():
        main.model.save(folder)
        loaded.load(folder, main.context)
    found = trial.predict(dataclasses.replace(main, model=loaded), main.cohort.test.hidden())
    need_near(found, whole, "the loaded model differs")


def check_inputs(trial: Trial) -> None:
    """Slides, their files and the configuration are left as they were."""
    _ = trial.whole
    parts = ("arrays of a slide", "files of a slide", "the configuration")
    changed = [part for part, was, now in zip(parts, trial.before, trial.state(), strict=True) if was != now]
    if changed:
        msg = f"{' and '.join(changed)} changed"
        raise BrokenContractError(msg)


def check_writes(trial: Trial) -> None:
    """It writes into its scratch and cache folders alone."""
    _ = trial.whole
    if trial.strays:
        msg = f"it wrote {min(trial.strays)}"
        raise BrokenContractError(msg)


def _need_fit(trial: Trial, plan: Plan) -> None:
    _ = trial.config  # if there is none, another check says so
    try:
        trial.fit(plan)
    except NotRunError as error:
        msg = f"fit raised {error}"
        raise BrokenContractError(msg) from error.__cause__


def _predictions(trial: Trial, *plans: Plan) -> tuple[FloatArray, FloatArray]:
    """What the models of two fits predict of the test slide, [N, G] each."""
    _ = trial.whole  # if there is none, another check says so
    fits = [trial.fit(plan) for plan in plans]
    first, second = (trial.predict(fit, fit.cohort.test.hidden()) for fit in fits)
    return first, second
