"""Run the conformance suite on installed models and print how it went."""

import contextlib
import io
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from hdstbench.errors import DataError, one_line
from hdstbench.plugins.checks import Outcome, Status, Trial, checks, run_check
from hdstbench.plugins.plugin import AnyPlugin
from hdstbench.plugins.registry import load_model, model_names

Echo = Callable[[str], None]
SHOWN = {"passed": "ok", "nothing": "-", "failed": "FAIL"}
"""Other states are shown as they are called."""
SUMMED: dict[Status, str] = {
    "passed": "passed",
    "excepted": "excepted",
    "nothing": "with nothing to check",
    "failed": "failed",
    "not run": "not run",
}


def execute(words: Sequence[str], recipe: str, echo: Echo, *, verbose: bool) -> bool:
    """Check models one after the other; say whether all keep the contract.

    Raises:
        UnknownModelError: If there is no such model.
    """
    good = True
    for name in model_names([name for word in words for name in word.split(",")]):
        try:
            plugin = load_model(name)
        except DataError as error:  # the others can still be checked
            echo(f"{name}: FAIL, {one_line(error)}")
            good = False
            continue
        good &= _check(plugin, recipe, echo, verbose=verbose)
    return good


def _check(plugin: AnyPlugin, recipe: str, echo: Echo, *, verbose: bool) -> bool:
    echo(f"{plugin.name}: recipe {recipe} on planted slides")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="hdstbench-check-") as folder:
        trial = Trial(plugin, Path(folder), recipe=recipe)
        for check in checks():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                outcome = run_check(check, trial)
            outcomes.append(outcome)
            echo(_line(outcome))
            if verbose and outcome.error and not outcome.ok:
                echo("".join(traceback.format_exception(outcome.error)))
    count = Counter(outcome.status for outcome in outcomes)
    states = [f"{count[state]} {word}" for state, word in SUMMED.items() if count[state]]
    echo(f"{len(outcomes)} checks: {', '.join(states)}")
    return all(outcome.ok for outcome in outcomes)


def _line(outcome: Outcome) -> str:
    """State, name, claim and seconds; below them what was found, if anything was."""
    state = SHOWN.get(outcome.status, outcome.status)
    line = f"  {state:9}{outcome.name:24}{outcome.seconds:5.1f} s  {outcome.claim}"
    told = outcome.says if outcome.status != "not run" else ""
    return f"{line}\n{'':11}{told}" if told else line
