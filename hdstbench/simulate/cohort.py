"""Simulate a cohort of slides and write it as Space Ranger output, card and splits included."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hdstbench.errors import DataError, MissingError
from hdstbench.pool import run_all
from hdstbench.simulate.constants import VERSION
from hdstbench.simulate.expression import Signal
from hdstbench.simulate.slide import SlidePlan, write_slide

MIN_MM = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """What is simulated; the same values give the same bytes."""

    seed: int = 0
    slides: int = 4
    size_mm: float = 1.3
    signal: Signal = "all"
    overdispersion: float = 1.0  # scales the variance of the bursts; 0 is Poisson
    shift_um: float = 0.0  # registration error: the counts lie this far off the image
    labels: str = ""  # a label table that serves as the tissue

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if self.slides < 1 or self.size_mm < MIN_MM or self.overdispersion < 0:
            msg = (
                f"got {self.slides} slides of {self.size_mm} mm with overdispersion "
                f"{self.overdispersion}; wanted at least one slide, {MIN_MM} mm and 0"
            )
            raise DataError(msg)


def cohort_key(cohort: Cohort) -> str:
    """Twelve digits that change with the generator, the options and the content of the label table.

    Raises:
        MissingError: If the label table is not there.
    """
    values = asdict(cohort)
    if cohort.labels:
        if not Path(cohort.labels).is_file():
            msg = f"{cohort.labels} is not there; wanted a CSV of a cell type per 8 um bin"
            raise MissingError(msg)
        values["labels"] = hashlib.sha256(Path(cohort.labels).read_bytes()).hexdigest()
    text = json.dumps([VERSION, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def simulate(cohort: Cohort, out: Path, report: Callable[[str], None] = lambda _: None) -> None:
    """Write the cohort into the new folder `out`; nothing is left behind if it fails.

    Raises:
        DataError: If `out` exists already or cannot be written, as on a full disk.
    """
    if out.exists():
        msg = f"{out} exists; choose another folder, or remove it to simulate again"
        raise DataError(msg)
    part = out.with_name(out.name + f".part{os.getpid()}")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a killed process that had this one's number
        _write(cohort, part, report)
        if not out.exists():  # else another run was first
            part.rename(out)
    except OSError as error:
        msg = f"{out} could not be written ({error}); nothing is kept; free space, or choose another folder"
        raise DataError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(cohort: Cohort, folder: Path, report: Callable[[str], None]) -> None:
    folder.mkdir(parents=True)
    plans = _plans(cohort)
    for name in run_all(write_slide, {plan.name: (plan, folder) for plan in plans}):
        report(name)
    _write_card(cohort, plans, folder)


def _plans(cohort: Cohort) -> list[SlidePlan]:
    return [
        SlidePlan(
            name=f"SIM{i + 1}",
            patient=f"P{i + 1}",
            index=i,
            seed=cohort.seed,
            size_mm=cohort.size_mm,
            signal=cohort.signal,
            overdispersion=cohort.overdispersion,
            shift_um=cohort.shift_um,
            labels=cohort.labels,
        )
        for i in range(cohort.slides)
    ]


def _write_card(cohort: Cohort, plans: list[SlidePlan], folder: Path) -> None:
    """Write dataset.toml and the patient split beside the slides."""
    lines = [
        'name = "simulated"',
        f'title = "Simulated cohort (generator {VERSION}, seed {cohort.seed})"',
        'reader = "spaceranger"',
        "simulated = true",
        'licence = "CC0-1.0"',
        'citation = "simulated by hdstbench; no conclusion about models is drawn from it"',
        'recipe = "quick"',
        "mpp = 0.5",
        'resolutions = ["2um", "8um", "16um", "55um"]',
        "",
        "[splits]",
        'patient = "splits/patient.toml"',
    ]
    folds = ['unit = "patient"', 'title = "leave one simulated patient out"']
    for plan in plans:
        lines += ["", "[[samples]]", f'id = "{plan.name}"', f'patient = "{plan.patient}"']
        lines += [f'path = "{plan.outs}"', f'image = "{plan.image}"']
        lines += [f'truth = "{plan.name}/truth.h5"']
        folds += ["", "[[folds]]", f'test = ["{plan.name}"]']
    (folder / "dataset.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "splits").mkdir()
    (folder / "splits" / "patient.toml").write_text("\n".join(folds) + "\n", encoding="utf-8")
