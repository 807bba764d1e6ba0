"""Run checks and say how they went."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hdstbench.plugins.checks import of_fit, of_plugin, of_prediction
from hdstbench.plugins.checks.trial import (
    BrokenContractError,
    NothingToCheckError,
    NotRunError,
    Trial,
    in_one_line,
)
from hdstbench.plugins.plugin import AnyPlugin

Check = Callable[[Trial], None]
Status = Literal["passed", "excepted", "nothing", "failed", "not run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a check went.

    Attributes:
        name: Of the check.
        claim: What it claims of the model.
        status: "excepted" if it fails as the plugin says that it must; "nothing" if there is nothing to
            check; "not run" if what it looks at failed in another check.
        seconds: How long it took, with fits that other checks share.
        says: What was found, or why there is nothing to check.
        error: What was raised, for a traceback.
    """

    name: str
    claim: str
    status: Status
    seconds: float
    says: str = ""
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether the model may be used as far as this check can tell."""
        return self.status in ("passed", "excepted", "nothing")


def check_exceptions(trial: Trial) -> None:
    """Its exceptions are names of checks, each with a reason."""
    known = [name_of(check) for check in checks()]
    if not isinstance(trial.plugin.exceptions, Mapping):
        msg = f"exceptions is a {type(trial.plugin.exceptions).__name__}, wanted names of checks with reasons"
        raise BrokenContractError(msg)
    for name, reason in trial.plugin.exceptions.items():
        if name not in known:
            msg = f"there is no check {name!r}; there are {', '.join(known)}"
            raise BrokenContractError(msg)
        if not reason.strip():
            msg = f"the exception {name!r} has no reason"
            raise BrokenContractError(msg)


def checks() -> tuple[Check, ...]:
    """All checks, in an order in which those that explain others come first."""
    return (
        of_plugin.check_plugin,
        of_plugin.check_recipes,
        check_exceptions,
        of_fit.check_fit,
        of_fit.check_fit_without_validation,
        of_fit.check_progress,
        of_prediction.check_shape,
        of_prediction.check_dtype,
        of_prediction.check_finite,
        of_prediction.check_columns,
        of_prediction.check_sizes,
        of_prediction.check_parts,
        of_prediction.check_order,
        of_prediction.check_context,
        of_prediction.check_labels,
        of_prediction.check_earlier_slides,
        of_prediction.check_signal,
        of_prediction.check_noise,
        of_fit.check_same_seed,
        of_fit.check_warm_cache,
        of_fit.check_other_seed,
        of_fit.check_save_load,
        of_fit.check_inputs,
        of_fit.check_writes,
    )


def name_of(check: Check) -> str:
    """Name of a check, as in reports and in a plugin's exceptions."""
    return check.__name__.removeprefix("check_").replace("_", "-")


def claim_of(check: Check) -> str:
    """What a check claims, in one line."""
    return (check.__doc__ or "").partition("\n")[0].removesuffix(".")


def run_check(check: Check, trial: Trial) -> Outcome:
    """Run one check; nothing that the model does ends it but an interruption."""
    started = time.perf_counter()
    status, says, error = _attempt(check, trial)
    exceptions = trial.plugin.exceptions
    reason = exceptions.get(name_of(check)) if isinstance(exceptions, Mapping) else None
    if reason is not None and status in ("failed", "not run"):
        status, says = "excepted", reason
    elif reason is not None:
        status, says = "failed", f"it is excepted ({reason}), but passes: take the exception out"
    seconds = time.perf_counter() - started
    name, claim = name_of(check), claim_of(check)
    return Outcome(name=name, claim=claim, status=status, seconds=seconds, says=says, error=error)


def check_model(plugin: AnyPlugin, folder: Path, *, recipe: str = "tiny") -> Iterator[Outcome]:
    """Run all checks on one plugin, in an empty folder."""
    trial = Trial(plugin, folder, recipe=recipe)
    for check in checks():
        yield run_check(check, trial)


def _attempt(check: Check, trial: Trial) -> tuple[Status, str, BaseException | None]:
    try:
        check(trial)
    except NothingToCheckError as nothing:
        return "nothing", str(nothing), None
    except NotRunError as missing:
        return "not run", str(missing), None
    except (Exception, SystemExit) as error:  # a model may raise anything, or try to leave
        return "failed", in_one_line(error), error
    return "passed", "", None
