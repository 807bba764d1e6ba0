"""Check what `hdstbench data check` is given, and leave a report with pictures."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hdstbench.cli.simulated import cohort_of, located
from hdstbench.data.archive import ARCHIVES
from hdstbench.data.card import CARD, Dataset, SampleCard, load_dataset, shipped
from hdstbench.data.duplicates import find_duplicates
from hdstbench.data.fingerprint import Fingerprint, fingerprint
from hdstbench.data.image import FLAT, TIFF
from hdstbench.data.overlay import draw_overlay
from hdstbench.data.report import SampleReport, check_card, check_run
from hdstbench.data.report_text import render
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.splits import load_split
from hdstbench.simulate.cohort import simulate

Echo = Callable[[str], object]
INSIDE = re.compile(r"outs|binned_outputs|(?:.+_)?square_\d{3}um(?:_outputs)?")
REPORT = "report.md"


def execute(path: str, image: str, output: str, echo: Echo) -> bool:
    """Check a run or a data set, print the report, and write it with its overlays.

    Returns:
        Whether a run would work.

    Raises:
        MissingError: If there is nothing of that name.
        DataError: If a card is broken, or it is unclear which image is meant.
    """
    folder = Path(output)
    if not path:
        msg = "the path is empty; wanted a run's folder, an archive, a card or a data set's name"
        raise DataError(msg)
    checks, found = _checks(path, image, echo), _Found(folder)
    _make(folder)
    for check in checks:
        found.add(check(), alone=not _is_dataset(path))
    text = render(path, found.reports, find_duplicates(found.prints), found.overlays)
    (folder / REPORT).write_text(text, encoding="utf-8")
    echo(text)
    for name in found.overlays.values():
        echo(f"look at: {folder / name}")
    echo(f"report:  {folder / REPORT}")
    return not any(report.stops for report in found.reports)


@dataclass(slots=True)
class _Found:
    """What is kept of the samples once they are checked."""

    folder: Path
    reports: list[SampleReport] = field(default_factory=list)
    prints: list[Fingerprint] = field(default_factory=list)
    overlays: dict[str, str] = field(default_factory=dict)

    def add(self, report: SampleReport, *, alone: bool) -> None:
        """Draw a sample, take its fingerprint unless it is alone, and let its positions go."""
        self.reports.append(report)
        sample, report.sample = report.sample, None
        if sample is None:
            return
        if sample.image:
            name = re.sub(r"[^\w.-]", "_", report.id) + ".png"
            draw = lambda: draw_overlay(self.folder / name, sample, report.scan)  # noqa: E731
            report.attempt(draw)
            if (self.folder / name).is_file():
                self.overlays[report.id] = name
        known = None if alone else report.attempt(lambda: fingerprint(sample))
        self.prints += [known] if known else []


def _is_dataset(path: str) -> bool:
    return path in shipped() or Path(path).suffix == ".toml" or (Path(path) / CARD).is_file()


def _checks(path: str, image: str, echo: Echo) -> list[Callable[[], SampleReport]]:
    """What is to be done, once it is clear that it can be."""
    if _is_dataset(path):
        if image:
            msg = f"{path} is a data set, whose card names its images; leave --image out"
            raise DataError(msg)
        return _of_cards(_with_files(load_dataset(path), echo), echo)
    place = Path(path)
    if not place.exists():
        msg = f"{path} is no folder, archive or card, and no data set that hdstbench ls datasets names"
        raise MissingError(msg)
    picture = Path(image) if image else _find_image(place)
    return [lambda: check_run(place, picture, _name(place))]


def _of_cards(dataset: Dataset, echo: Echo) -> list[Callable[[], SampleReport]]:
    needed = load_split(dataset, None).slides if dataset.card.splits else [s.id for s in dataset.card.samples]

    def check(card: SampleCard) -> SampleReport:
        echo(f"checking {card.id} ...")
        return check_card(dataset, card, needed=card.id in needed)

    return [partial(check, card) for card in dataset.card.samples]


def _make(folder: Path) -> None:
    """Make the folder of the report before any work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "it is read-only"
    except OSError as error:
        reason = str(error.strerror or error)
    if reason:
        msg = f"the report cannot be written into {folder} ({reason}); choose another folder with -o"
        raise DataError(msg)


def _with_files(dataset: Dataset, echo: Echo) -> Dataset:
    """A data set whose files are there, if they can be simulated."""
    placed, cohort = located(dataset), cohort_of(dataset)
    if cohort and not placed.root.is_dir():
        echo(f"simulating {dataset.card.name} ...")
        simulate(cohort, placed.root)
    return placed


def _find_image(path: Path) -> Path | None:
    """The full-resolution image in a run or above it, by the name that 10x gives it."""
    for place in _places(path):
        found = sorted(p for p in place.glob("*tissue_image.*") if p.suffix.lower() in (*TIFF, *FLAT))
        if len(found) > 1:
            msg = f"{place} holds {', '.join(p.name for p in found)}; choose one with --image"
            raise DataError(msg)
        if found:
            return found[0]
    return None


def _name(path: Path) -> str:
    """A run is called after the folder around outs/, or after its archive."""
    name = path.name if path.is_file() else list(_places(path))[-1].name
    return next((name.removesuffix(end) for end in ARCHIVES if name.endswith(end)), name)


def _places(path: Path) -> Iterator[Path]:
    """A folder, and those above it as far as they are parts of one run."""
    place = path.absolute()
    place = place.parent if path.is_file() else place
    yield place
    while INSIDE.fullmatch(place.name):
        place = place.parent
        yield place
