"""Gather the records of one job into the rows of its table: a pure function of stored files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.errors import DataError
from hdstbench.protocol.rules import find_rules
from hdstbench.records import SlideScores, load_json
from hdstbench.report.cells import (
    BetterRidge,
    StoredCell,
    better_ridge,
    by_model,
    load_cell,
    samples_of,
    slide_widenings,
    tested_slides,
)
from hdstbench.report.markers import Marker, load_markers
from hdstbench.report.more import more_scores, totals
from hdstbench.stats.bootstrap import Interval, interval, mean_over, paired
from hdstbench.stats.compare import Comparison, compare_all, new_patients
from hdstbench.stats.ranks import Standing, standings
from hdstbench.strict import build

REFERENCE = "shuffled-ridge"
"""Every row is compared with what is learnt from shuffled labels."""
RANKED = ("model", "variant")
"""Kinds that are compared with each other and ranked; controls are what they are held against."""
STALE = "stale-result"
METRICS = ("pcc_gene", "pcc_gene_hvg50", "pcc_bin", "mse", "mae", "mse_skill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run wanted of one job, stored beside its tables.

    Attributes:
        stem: Name of the tables.
        title: Of the data set.
        split_title: Of the split.
        simulated: Whether the data is.
        command: What was typed.
        panel: A list of genes that took the place of the training slides' top 250.
        kinds: Every model that was asked for, and what kind it is.
        folds: Those that were asked for, of `all_folds`.
        cells: Folders of the cells, relative to the plan.
        protocol: How units, target and panel were made.
        target: A transform of counts that took the place of the protocol's.
        tissues: Of each slide, as the card says.
        stale: Those of `cells` whose results are of other code, data or options than the others'.
    """

    stem: str
    title: str
    split_title: str
    simulated: bool
    command: str
    recipe: str
    cells: tuple[str, ...]
    notes: str = ""
    folds: tuple[int, ...] = ()
    all_folds: int = 0
    kinds: dict[str, str] = field(default_factory=dict)
    panel: str = ""
    protocol: str = "hd"
    target: str = ""
    tissues: dict[str, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The metric that rows are sorted by."""
        return find_rules(self.protocol).headline


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model of a table; `pcc` is None unless all of its cells are whole.

    Attributes:
        pcc: pcc_gene with its interval over these patients.
        over_shuffled: Paired difference to shuffled-ridge; None for itself, or if that is missing.
        over_ridge: The same to the better ridge of the board.
        scores: Every metric, meaned over slides, patients and seeds.
        by_patient: pcc_gene of each patient.
        by_tissue: pcc_gene over the slides of each tissue, meaned as over all.
        new_patients: Mean and t interval over patients as a sample of all; None with fewer than six.
        standing: Rank interval and tie letters among models and variants; None for others.
        constant: Pairs of gene and slide that the model predicts as constant, which count as 0; of
            several seeds the mean.
        seed_sd: Standard deviation of pcc_gene over seeds; NaN with one seed.
        failed: Cells that are not whole, with the reason.
        cost: Seconds, memory and parameters.
        ran: On which devices, and until which day.
        changes: Options of its recipe that the sweep changed.
        more: Further scores by name (`hdstbench.report.more`).
    """

    model: str
    kind: str
    encoder: str
    flags: tuple[str, ...]
    pcc: Interval | None
    over_shuffled: Interval | None
    over_ridge: Interval | None
    scores: dict[str, float]
    by_patient: dict[str, float]
    constant: int
    seed_sd: float
    failed: tuple[str, ...]
    cost: dict[str, float]
    ran: str = ""
    changes: str = ""
    by_tissue: dict[str, float] = field(default_factory=dict)
    new_patients: Interval | None = None
    standing: Standing | None = None
    more: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The table of one job.

    Attributes:
        slides: Scores of any one model by slide, for counts of units and genes.
        narrow: Slides whose bootstrap blocks are too few, or narrower than twice the range of some
            model's residuals or the largest patch: their intervals are too narrow.
        ridge: The better one of `ridge` and `ridge-levels` by inner validation; no name if neither is
            whole.
        markers: Genes that were asked for beside the panel.
        comparisons: Of every pair of whole models and variants.
        windows: Dense windows of the tested slides.
        task: Fields of the task and its hash.
        ceiling_genes: Pairs of gene and slide with a measurable signal, and without.
    """

    plan: Plan
    rows: tuple[Row, ...]
    slides: tuple[SlideScores, ...]
    narrow: frozenset[str]
    ridge: BetterRidge
    markers: tuple[Marker, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    windows: int = 0
    ceiling_genes: tuple[int, int] = (0, 0)
    task: dict[str, str] = field(default_factory=dict)

    @property
    def patients(self) -> tuple[str, ...]:
        """Whose slides were tested."""
        return tuple(sorted({s.patient for s in self.slides}))

    def marked(self, row: Row) -> bool:
        """Whether a row is a model that is not shown to be above the better ridge."""
        if not self.ridge.name or row.pcc is None or row.kind not in RANKED:
            return False
        return row.over_ridge is None or row.over_ridge.low is None or row.over_ridge.low <= 0


def load_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        DataError: If it is no plan.
    """
    return build(Plan, load_json(path), str(path))


def load_board(path: Path) -> Board:
    """Make the table of a plan from the records that lie beside it.

    Raises:
        DataError: If the plan or a record is broken, or no cell was run.
    """
    plan = load_plan(path)
    cells = [load_cell(path.parent / name) for name in plan.cells if (path.parent / name).is_dir()]
    if not cells:
        msg = f"{path}: none of its {len(plan.cells)} cells was run"
        raise DataError(msg)
    good = [cell for cell in cells if cell.record.status == "ok"]
    versions = sorted({cell.version for cell in good})
    if len(versions) > 1:
        msg = f"{path}: its scores are of versions {versions}, which must not be mixed; run its command again"
        raise DataError(msg)
    whole = {name: own for name, own in by_model(good).items() if _is_whole(own, plan, name)}
    widenings = slide_widenings(good)
    known = _Known({name: samples_of(own, widenings) for name, own in whole.items()}, better_ridge(whole))
    rows = [_row(model, members, known, plan) for model, members in by_model(cells).items()]
    rows += [_absent(model, plan) for model in plan.kinds if model not in by_model(cells)]
    ordered = sorted(rows, key=partial(_rank, plan.headline))
    ordered, comparisons = _ranked(ordered, known.samples)
    slides, narrow = tested_slides(good)
    any_model = next(iter(whole.values()), [])
    markers = load_markers({name: _folders(path, plan, name) for name in whole})
    return Board(
        plan=plan,
        rows=tuple(ordered),
        slides=slides,
        narrow=narrow,
        ridge=known.ridge,
        markers=markers,
        comparisons=comparisons,
        windows=0 if _on_all_units(slides) else totals(any_model, "spatial", "windows"),
        ceiling_genes=(totals(any_model, "ceiling", "genes"), totals(any_model, "ceiling", "unmeasurable")),
        task=cells[0].record.task,
    )


def _on_all_units(slides: Sequence[SlideScores]) -> bool:
    """Whether maps were scored on all scored units, there being no windows."""
    return all(
        s.spatial is not None and s.spatial.units == s.units and s.spatial.windows == 1 for s in slides
    )


def _ranked(
    rows: Sequence[Row], samples: Mapping[str, FloatArray]
) -> tuple[list[Row], tuple[Comparison, ...]]:
    """Compare all whole models and variants, and give them their standing."""
    family = [row for row in rows if row.pcc is not None and row.kind in RANKED]
    family.sort(key=lambda row: -samples[row.model][0])
    by_patient = {row.model: row.by_patient for row in family}
    comparisons = compare_all({name: samples[name] for name in by_patient}, by_patient)
    standing = standings(list(by_patient), comparisons)
    return [replace(row, standing=standing.get(row.model)) for row in rows], comparisons


@dataclass(frozen=True, slots=True)
class _Known:
    """Bootstrap samples of every whole model, [1 + R] each, and the better ridge among them."""

    samples: Mapping[str, FloatArray]
    ridge: BetterRidge

    def over(self, model: str, other: str) -> Interval | None:
        """Paired difference of two models; None if one is missing, or both are the same."""
        if model == other or model not in self.samples or other not in self.samples:
            return None
        return paired(self.samples[model], self.samples[other])


def _rank(headline: str, row: Row) -> tuple[int, float, str]:
    """Models before controls before oracles, the best first; what has failed comes last."""
    order = {"model": 0, "variant": 0, "control": 1, "oracle": 2}
    if row.pcc is None:
        return order[row.kind], np.inf, row.model
    value = row.pcc.value if headline == "pcc_gene" else row.scores[headline]
    return order[row.kind], -value, row.model


def _row(model: str, cells: Sequence[StoredCell], known: _Known, plan: Plan) -> Row:
    planned = _planned(plan, model)
    failed = [f"fold {c.record.fold}: {c.record.error}" for c in cells if c.record.status != "ok"]
    missing = planned - len(cells)
    failed += [f"{missing} {'cell was' if missing == 1 else 'cells were'} not run"] if missing else []
    failed += [f"fold {number} was not entered" for number in _left_out(plan, model)]
    record = cells[0].record
    whole = not failed
    patients = _patients(cells) if whole else {}
    seeds = [_means(_of_seed(cells, seed))["pcc_gene"] for seed in _seeds(cells)] if whole else []
    return Row(
        model=model,
        kind=record.kind,
        encoder=record.encoder,
        flags=tuple(sorted({flag for cell in cells for flag in cell.record.flags} | _stale(model, plan))),
        pcc=interval(known.samples[model]) if whole else None,
        over_shuffled=known.over(model, REFERENCE),
        over_ridge=known.over(model, known.ridge.name),
        scores=_means(cells) if whole else {},
        by_patient=patients,
        by_tissue=_tissues(cells, plan) if whole else {},
        new_patients=new_patients(np.array(list(patients.values()))),
        constant=round(sum(s.constant for cell in cells for s in cell.scores) / len(_seeds(cells))),
        seed_sd=float(np.std(seeds, ddof=1)) if len(seeds) > 1 else float("nan"),
        failed=tuple(failed),
        cost=_cost(cells),
        ran=_ran(cells),
        changes=record.changes,
        more=more_scores(cells) if whole else {},
    )


def _stale(model: str, plan: Plan) -> set[str]:
    return {STALE} if any(Path(name).parent.name == model for name in plan.stale) else set()


def _absent(model: str, plan: Plan) -> Row:
    """A model of which no cell was run."""
    return Row(
        model=model,
        kind=plan.kinds[model],
        encoder="",
        flags=(),
        pcc=None,
        over_shuffled=None,
        over_ridge=None,
        scores={},
        by_patient={},
        constant=0,
        seed_sd=float("nan"),
        failed=(f"none of its {_planned(plan, model)} cells was run",),
        cost={},
    )


def _folders(path: Path, plan: Plan, model: str) -> list[Path]:
    return [path.parent / name for name in plan.cells if Path(name).parent.name == model]


def _planned(plan: Plan, model: str) -> int:
    return sum(Path(name).parent.name == model for name in plan.cells)


def _is_whole(good: Sequence[StoredCell], plan: Plan, model: str) -> bool:
    return len(good) == _planned(plan, model) and not _left_out(plan, model)


def _left_out(plan: Plan, model: str) -> list[int]:
    """Folds that others are planned for and this model is not: its predictions were entered for some."""
    folds = {(Path(name).parent.name, Path(name).name.split("-")[0]) for name in plan.cells}
    missing = {fold for _, fold in folds} - {fold for own, fold in folds if own == model}
    return sorted(int(fold.removeprefix("fold")) for fold in missing)


def _seeds(cells: Sequence[StoredCell]) -> list[int]:
    return sorted({cell.record.seed for cell in cells})


def _of_seed(cells: Sequence[StoredCell], seed: int) -> list[StoredCell]:
    return [cell for cell in cells if cell.record.seed == seed]


def _means(cells: Sequence[StoredCell]) -> dict[str, float]:
    """Each metric over slides of a patient, then over patients."""
    out = {}
    for metric in METRICS:
        of_patient: dict[str, list[float]] = {}
        for cell in cells:
            for scores in cell.scores:
                of_patient.setdefault(scores.patient, []).append(getattr(scores, metric))
        out[metric] = mean_over(of_patient)
    return out


def _patients(cells: Sequence[StoredCell]) -> dict[str, float]:
    of_patient: dict[str, list[float]] = {}
    for cell in cells:
        for scores in cell.scores:
            of_patient.setdefault(scores.patient, []).append(scores.pcc_gene)
    return {name: float(np.mean(of_patient[name])) for name in sorted(of_patient)}


def _tissues(cells: Sequence[StoredCell], plan: Plan) -> dict[str, float]:
    """pcc_gene over the slides of each tissue; empty where there is one tissue."""
    of_tissue: dict[str, dict[str, list[float]]] = {}
    for scores in (s for cell in cells for s in cell.scores):
        patients = of_tissue.setdefault(plan.tissues.get(scores.slide, ""), {})
        patients.setdefault(scores.patient, []).append(scores.pcc_gene)
    return {name: mean_over(of_tissue[name]) for name in sorted(of_tissue)} if len(of_tissue) > 1 else {}


def _ran(cells: Sequence[StoredCell]) -> str:
    devices = sorted({cell.record.device for cell in cells})
    day = max(cell.record.finished for cell in cells)[:10]
    return f"{', '.join(devices)}, {day}".rstrip(", ")


def _cost(cells: Sequence[StoredCell]) -> dict[str, float]:
    records = [cell.record for cell in cells]
    return {
        "fit_s": float(np.mean([r.seconds.get("fit", np.nan) for r in records])),
        "predict_s": float(np.mean([r.seconds.get("predict", np.nan) for r in records])),
        "host_mb": max(r.peak_host_mb for r in records),
        "device_mb": max(r.peak_device_mb for r in records),
        "parameters": max(r.parameters for r in records),
    }
