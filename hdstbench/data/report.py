"""Check samples: everything that can be said of each, and every problem with what to do."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from hdstbench.arrays import CSR, IntArray
from hdstbench.data import readers
from hdstbench.data.card import Dataset, SampleCard
from hdstbench.data.counts import Counts, Genes, GroupedCounts
from hdstbench.data.facts import CountFacts, GridFacts, Line, count_facts, grid_facts, outside_units
from hdstbench.data.layout import FILES, Run, need, open_run
from hdstbench.data.levels import BASE_UM, RESOLUTIONS
from hdstbench.data.picture import ImageFacts, image_facts
from hdstbench.data.positions import fit, join, read_positions, read_scale
from hdstbench.data.problems import NO_IMAGE, Problem, of_counts, of_grid, of_image, of_place, of_scan
from hdstbench.data.registration import Scan, outcome, scan
from hdstbench.data.sample import Sample
from hdstbench.data.spaceranger import read_spaceranger
from hdstbench.data.tenx import H5Counts, read_matrix
from hdstbench.errors import HdstError

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class SampleReport:
    """What was found of one sample; it grows while the sample is checked.

    Attributes:
        grid: Where its bins lie; None where they could not be read.
        counts: Likewise.
        image: Likewise.
        scan: Of its registration, where there is one.
        sample: The sample itself, as far as it could be read.
    """

    id: str
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
            text = " ".join(str(error).split())
            if text not in [problem.text for problem in self.problems]:
                self.problems.append(Problem(text, stops))
            return None


def check_run(path: Path, image: Path | None, name: str, shift_um: tuple[float, ...] = ()) -> SampleReport:
    """Check one Space Ranger run.

    Args:
        path: In any form that the reader takes.
        image: The full-resolution H&E, if there is one.
        name: Of the sample.
        shift_um: What the card adds to its positions.
    """
    report = SampleReport(id=name)
    run = report.attempt(lambda: open_run(path, BASE_UM))
    source = report.attempt(lambda: run.source_um(BASE_UM)) if run else None
    if run is None or source is None:
        return report
    _check_bins(report, run, source)
    if image is None:
        report.problems.append(NO_IMAGE)
    else:
        _check_image(report, image)
        report.sample = report.attempt(
            lambda: read_spaceranger(path, BASE_UM, image, name, shift_um=shift_um)
        )
    found = report.sample or report.attempt(lambda: _read_bare(run, source, name))
    if found:
        software = _software(found.counts)
        report.lines.insert(0, ("Space Ranger", software.removeprefix("spaceranger-") or "does not say"))
        _check_sample(report, found, RESOLUTIONS[f"{BASE_UM}um"].min_umi, shift_um)
    return report


def check_card(dataset: Dataset, card: SampleCard) -> SampleReport:
    """Check one sample of a data set."""
    if not readers.has_files(dataset, card):
        report = SampleReport(id=card.id)
        report.problems.append(Problem(_missing(dataset, card), stops=True))
        return report
    if dataset.card.reader == "spaceranger":
        return check_run(dataset.root / card.path, dataset.root / card.image, card.id, card.shift_um)
    report = SampleReport(id=card.id)
    res = dataset.card.resolution(dataset.card.resolutions[0])
    pair = report.attempt(lambda: readers.read_pair(dataset, card, res))
    if pair:
        report.sample = pair[1]
        if report.sample.image:
            _check_image(report, report.sample.image)
        _check_sample(report, pair[1], res.min_umi, card.shift_um)
    return report


def _missing(dataset: Dataset, card: SampleCard) -> str:
    how = f"hdstbench data fetch {dataset.card.name}" if card.files else dataset.card.homepage
    return f"no file of {card.id} is in {dataset.root}; get them with {how or 'the card'}"


def _check_bins(report: SampleReport, run: Run, source: int) -> None:
    sizes = ", ".join(str(um) for um in sorted(run.bins))
    packed = "; finer ones stay packed until they are asked for" if run.archives else ""
    report.lines.append(("bins", f"{sizes} um{packed}"))
    for um, folder in sorted(run.bins.items()):
        for name in (FILES[0], FILES[2]):
            report.attempt(lambda path=folder / name: need(path), stops=um == source)  # type: ignore[misc]
        report.attempt(
            lambda path=folder / FILES[3], um=um: read_scale(need(path), um),  # type: ignore[misc]
            stops=um == source,
        )


def _check_image(report: SampleReport, path: Path) -> None:
    report.image = report.attempt(lambda: image_facts(path))
    if report.image:
        report.lines += report.image.lines()


def _read_bare(run: Run, bin_um: int, name: str) -> Sample:
    """Read bins without an image, so that a report can say what is right even then."""
    matrix, table, factors = (need(run.bins[bin_um] / FILES[i]) for i in (0, 2, 3))
    scale, positions, counts = read_scale(factors, bin_um), read_positions(table), read_matrix(matrix)
    rows = join(counts.barcodes, positions, matrix, bin_um)
    return Sample(
        id=name,
        unit_um=float(bin_um),
        mpp=scale.mpp,
        grid=positions.grid[rows],
        xy_px=positions.xy_px[rows],
        to_px=fit(positions, scale.mpp, bin_um),
        grid_shape=positions.shape,
        counts=counts,
        image=None,
        sources=(matrix, table, factors),
    )


def _software(counts: Counts) -> str:
    while isinstance(counts, GroupedCounts):
        counts = counts.base
    return counts.software if isinstance(counts, H5Counts) else ""


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
