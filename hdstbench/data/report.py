"""Check samples: everything that can be said of each, and every problem with what to do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from hdstbench.arrays import CSR, IntArray
from hdstbench.data import readers
from hdstbench.data.card import Dataset, SampleCard
from hdstbench.data.counts import Counts, Genes
from hdstbench.data.facts import (
    CountFacts,
    GridFacts,
    Line,
    SizeFacts,
    count_facts,
    grid_facts,
    outside_units,
    size_facts,
)
from hdstbench.data.layout import FINEST_UM, Run, open_run
from hdstbench.data.levels import BASE_UM, RESOLUTIONS, Resolution
from hdstbench.data.picture import ImageFacts, image_facts
from hdstbench.data.problems import (
    NO_HIRES,
    NO_IMAGE,
    NO_IMAGE_IN_CARD,
    Problem,
    of_counts,
    of_grid,
    of_image,
    of_place,
    of_scan,
    of_sizes,
)
from hdstbench.data.registration import Scan, outcome, scan
from hdstbench.data.sample import Sample
from hdstbench.data.spaceranger import hires_of, read_spaceranger
from hdstbench.data.strata import check_strata
from hdstbench.errors import HdstError, one_line

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class SampleReport:
    """What was found of one sample; it grows while the sample is checked.

    Attributes:
        patient: Whose it is, by the card; "" without one.
        grid: Where its bins lie; None where they could not be read.
        counts: Likewise.
        image: Likewise.
        scan: Of its registration, where there is one.
        sample: The sample itself, as far as it could be read.
    """

    id: str
    patient: str = ""
    lines: list[Line] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    grid: GridFacts | None = None
    counts: CountFacts | None = None
    image: ImageFacts | None = None
    scan: Scan | None = None
    sample: Sample | None = None

    @property
    def stops(self) -> bool:
        """Whether a run on this sample would fail."""
        return any(problem.stops for problem in self.problems)

    def attempt(self, step: Callable[[], T], *, stops: bool = True) -> T | None:
        """Do a step; what a reader refuses becomes a problem, once."""
        try:
            return step()
        except (HdstError, OSError) as error:
            self._add(one_line(error), stops=stops)
        except Exception as error:
            text = f"unexpected {type(error).__name__}: {one_line(error)}; please report it"
            self._add(text, stops=stops)
        return None

    def _add(self, text: str, *, stops: bool) -> None:
        known = [problem for problem in self.problems if problem.text == text]
        if not known:
            self.problems.append(Problem(text, stops))
        elif stops and not known[0].stops:
            self.problems[self.problems.index(known[0])] = Problem(text, stops)


def check_run(
    path: Path,
    image: Path | None,
    name: str,
    shift_um: tuple[float, ...] = (),
    *,
    resolutions: Sequence[Resolution] = (),
    no_image: Problem = NO_IMAGE,
) -> SampleReport:
    """Check one Space Ranger run: bins of every size, the image, and how they lie on each other.

    Args:
        path: In any form that the reader takes.
        image: The full-resolution H&E, if there is one.
        name: Of the sample.
        shift_um: What the card adds to its positions.
        resolutions: At which the sample is to be used, so that a run at one of them has to work.
        no_image: What to say without an image.
    """
    report = SampleReport(id=name)
    run = report.attempt(lambda: open_run(path, BASE_UM))
    source = report.attempt(lambda: run.source_um(BASE_UM)) if run else None
    if run is None or source is None:
        return report
    report.lines.append(("bins", _sizes(run)))
    if image is None:
        report.problems.append(no_image)
    else:
        _check_image(report, image)
    read = partial(read_spaceranger, path, name=name, shift_um=shift_um)
    if report.image:
        report.sample = report.attempt(lambda: read(bin_um=BASE_UM, image=image))
    shown = image if report.sample else None
    found = report.sample or report.attempt(lambda: read(bin_um=BASE_UM, image=None))
    found = found or report.attempt(lambda: read(bin_um=source, image=None))
    _check_sizes(report, run, found, lambda um: size_facts(read(bin_um=um, image=shown)), resolutions)
    if report.sample and hires_of(run, run.bins[source]) is None:
        report.problems.append(NO_HIRES)
    if found:
        software = found.counts.software.removeprefix("spaceranger-") or "does not say"
        report.lines.insert(0, ("Space Ranger", software))
        _check_sample(report, found, RESOLUTIONS[f"{BASE_UM}um"].min_umi, shift_um)
    return report


def check_card(dataset: Dataset, card: SampleCard, *, needed: bool = True) -> SampleReport:
    """Check one sample of a data set; it may be missing if it is not `needed`."""
    if readers.has_files(dataset, card):
        report = _check_card(dataset, card)
        report.attempt(lambda: _check_extras(dataset, card))
    else:
        report = SampleReport(id=card.id)
        report.problems.append(Problem(_missing(dataset, card), stops=needed))
    report.patient = card.patient
    return report


def _check_card(dataset: Dataset, card: SampleCard) -> SampleReport:
    resolutions = [dataset.card.resolution(name) for name in dataset.card.resolutions]
    if dataset.card.reader == "spaceranger":
        return check_run(
            dataset.root / card.path,
            dataset.root / card.image if card.image else None,
            card.id,
            card.shift_um,
            resolutions=resolutions,
            no_image=NO_IMAGE_IN_CARD,
        )
    report = SampleReport(id=card.id)
    pairs = [report.attempt(lambda res=res: readers.read_pair(dataset, card, res)) for res in resolutions]  # type: ignore[misc]
    if pair := pairs[0]:
        report.sample = pair[1]
        if report.sample.image:
            _check_image(report, report.sample.image)
        _check_sample(report, pair[1], resolutions[0].min_umi, card.shift_um)
    return report


def _check_extras(dataset: Dataset, card: SampleCard) -> None:
    """Files that a card may name besides."""
    readers.extra_files(dataset, card)
    if card.strata:
        check_strata(dataset.root / card.strata)


def _missing(dataset: Dataset, card: SampleCard) -> str:
    how = f"hdstbench data fetch {dataset.handle} --only {card.id}" if card.files else dataset.card.homepage
    return f"no file of {card.id} is in {dataset.root}; get them with {how or 'the card'}"


def _sizes(run: Run) -> str:
    sizes = ", ".join(str(um) for um in sorted(run.bins))
    packed = "; finer ones stay packed until they are asked for"
    return f"{sizes} um{packed if run.archives and not run.gives(FINEST_UM) else ''}"


def _check_sizes(
    report: SampleReport,
    run: Run,
    base: Sample | None,
    read: Callable[[int], SizeFacts],
    resolutions: Sequence[Resolution],
) -> None:
    """Read bins of every size that is unpacked or wanted; they have to lie on each other."""
    wanted = {res.bin_um for res in resolutions if res.bin_um}
    facts = [size_facts(base)] if base else []
    to_read = {um for um in wanted if run.gives(um) or not run.archives}
    for um in sorted({*run.bins, *to_read} - {BASE_UM}):
        needed = um in wanted or run.source_um(BASE_UM) == um
        found = report.attempt(partial(read, um), stops=needed)
        facts += [found] if found else []
    report.problems += of_sizes(facts)


def _check_image(report: SampleReport, path: Path) -> None:
    report.image = report.attempt(lambda: image_facts(path))
    if report.image:
        report.lines += report.image.lines()


class _Remembered(Counts):
    """Counts whose totals are read once for all checks."""

    def __init__(self, base: Counts) -> None:
        self._base = base

    @property
    def genes(self) -> Genes:
        """The columns."""
        return self._base.genes

    def __len__(self) -> int:
        return len(self._base)

    @property
    @override
    def software(self) -> str:
        return self._base.software

    @cached_property
    def _totals(self) -> IntArray:
        return self._base.totals()

    @override
    def totals(self) -> IntArray:
        return self._totals

    @override
    def sums(self, *picks: CSR) -> list[CSR]:
        return self._base.sums(*picks)


def _check_sample(report: SampleReport, sample: Sample, minimum: int, shift_um: tuple[float, ...]) -> None:
    sample = replace(sample, counts=_Remembered(sample.counts))
    report.sample = sample if report.sample else None
    grid = report.grid = grid_facts(sample)
    report.lines += grid.lines()
    report.problems += of_grid(grid)
    report.counts = report.attempt(lambda: count_facts(sample, minimum))
    if report.counts:
        report.lines += report.counts.lines()
        report.problems += of_counts(report.counts)
    if report.image:
        report.problems += of_image(report.image, grid.mpp)
    if sample.image:
        outside = report.attempt(lambda: outside_units(sample)) or 0
        report.lines.append(("outside the image", f"{outside} of {grid.units} units, at least in part"))
        report.problems += of_place(outside, grid.units)
        report.scan = report.attempt(lambda: scan(sample))
    if report.scan:
        report.lines.append(("registration", outcome(report.scan)))
        report.problems += of_scan(report.scan, shift_um)
