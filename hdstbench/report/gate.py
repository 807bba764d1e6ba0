"""Compare two tables of the same task: what got worse, what got better than it should, what came and went."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hdstbench.errors import DataError
from hdstbench.report.gate_side import METRICS, UP, GateRow, Side
from hdstbench.strict import build, read_toml

Verdict = Literal["ok", "regression", "gain", "new", "vanished", "failed", "still failed", "whole again"]
OK, REGRESSION, GAIN, NOTHING, BAD_INPUT = 0, 1, 2, 3, 4
BAD: tuple[Verdict, ...] = ("regression", "vanished", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a metric may move: the larger of both, `relative` being a share of the baseline's value."""

    absolute: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """Tolerances of each metric, and by what they are widened.

    Attributes:
        metrics: Those that are compared.
        interval: pcc_gene may move by this share of half its stored interval, too. Both tables score the
            same units, so the tissue's own noise is common to both, and little of it is needed.
        seeds: All metrics may move by so many standard deviations of pcc_gene over seeds, of both tables
            together, the metrics beside pcc_gene by the same share of their value.
    """

    metrics: tuple[str, ...] = ("pcc_gene", "pcc_bin", "mse_skill", "mse")
    interval: float = 0.1
    seeds: float = 2.0
    pcc_gene: Tolerance = Tolerance(absolute=0.005)
    pcc_gene_hvg50: Tolerance = Tolerance(absolute=0.01)
    pcc_bin: Tolerance = Tolerance(absolute=0.005)
    mse_skill: Tolerance = Tolerance(absolute=0.01)
    mse: Tolerance = Tolerance(relative=0.01)
    mae: Tolerance = Tolerance(relative=0.01)

    def of(self, metric: str) -> Tolerance:
        """That of a metric."""
        found: Tolerance = getattr(self, metric)
        return found


def read_tolerances(path: Path | None) -> Tolerances:
    """Read a TOML file; what it does not name keeps its default.

    Raises:
        DataError: If a key is unknown, or a number is negative.
    """
    if path is None:
        return Tolerances()
    found = build(Tolerances, read_toml(path), str(path))
    wrong = [name for name in found.metrics if name not in METRICS]
    if wrong or not found.metrics:
        msg = f"{path}: metrics {', '.join(wrong) or 'are none'}; wanted some of {', '.join(METRICS)}"
        raise DataError(msg)
    each = [found.of(name) for name in METRICS]
    numbers = [found.interval, found.seeds, *(n for t in each for n in (t.absolute, t.relative))]
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        msg = f"{path}: tolerances have to be numbers of at least 0"
        raise DataError(msg)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of a metric of a row, or of a whole row (then without a metric)."""

    table: str
    model: str
    verdict: Verdict
    metric: str = ""
    before: float | None = None
    now: float | None = None
    allowed: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """All changes, and the tables that were not compared, with the reason."""

    changes: tuple[Change, ...]
    skipped: tuple[str, ...]

    @property
    def code(self) -> int:
        """The exit code: a regression counts before a gain."""
        verdicts = {change.verdict for change in self.changes}
        if verdicts & set(BAD):
            return REGRESSION
        if "gain" in verdicts:
            return GAIN
        return OK if any(change.metric for change in self.changes) else NOTHING


def compare(
    current: Sequence[Side], baseline: Sequence[Side], rules: Tolerances, models: Sequence[str] = ()
) -> Gate:
    """Hold tables against those of the same name and task.

    Args:
        current: New tables.
        baseline: What they have to keep to.
        rules: How far they may move.
        models: Rows that are compared; all by default.
    """
    known = {side.stem: side for side in baseline}
    changes, skipped = list[Change](), list[str]()
    for side in current:
        old = known.pop(side.stem, None)
        if old is None and len(current) == len(baseline) == 1:  # two files: their names do not matter
            old = known.pop(baseline[0].stem)
        if reason := _apart(side, old):
            skipped.append(f"{side.stem}: {reason}")
        elif old is not None:
            changes += _of_table(side, old, rules, models)
    skipped += [f"{stem}: in the baseline only" for stem in known]
    return Gate(changes=tuple(changes), skipped=tuple(skipped))


def _apart(side: Side, old: Side | None) -> str:
    """Why two tables cannot be compared; empty if they can."""
    if old is None:
        return "not in the baseline"
    if side.task != old.task:
        return f"task {side.task}, in the baseline {old.task}: other data, split, panel, target or protocol"
    if side.recipe != old.recipe:
        return f"recipe {side.recipe}, in the baseline {old.recipe}"
    return ""


def _of_table(side: Side, old: Side, rules: Tolerances, models: Sequence[str]) -> list[Change]:
    names = list(dict.fromkeys([*old.rows, *side.rows]))
    changes = list[Change]()
    for name in names:
        if not models or name in models:
            changes += _of_row(_Pair(side.stem, name, side.rows.get(name), old.rows.get(name)), rules)
    return changes


@dataclass(frozen=True, slots=True)
class _Pair:
    """A row now and before, if it is there."""

    table: str
    model: str
    now: GateRow | None
    before: GateRow | None

    def change(self, verdict: Verdict, why: str) -> list[Change]:
        """What became of the whole row."""
        return [Change(table=self.table, model=self.model, verdict=verdict, why=why)]


def _of_row(pair: _Pair, rules: Tolerances) -> list[Change]:
    now, before = pair.now, pair.before
    if now is None:  # a row that had failed may go
        gone = before.failed if before else ""
        return pair.change("still failed" if gone else "vanished", gone or "there is no such row any more")
    if before is None:
        return pair.change("new", now.failed or "not in the baseline")
    if now.failed:
        return pair.change("still failed" if before.failed else "failed", now.failed)
    if before.failed:
        return pair.change("whole again", before.failed)
    return [_of_metric(pair, metric, (now, before), rules) for metric in METRICS if metric in rules.metrics]


def _of_metric(pair: _Pair, metric: str, rows: tuple[GateRow, GateRow], rules: Tolerances) -> Change:
    new, old = (row.values[metric] for row in rows)
    allowed = _allowed(metric, *rows, rules)
    better = (new - old) if metric in UP else (old - new)
    moved: Verdict = "gain" if better > 0 else "regression"
    return Change(
        table=pair.table,
        model=pair.model,
        metric=metric,
        before=old,
        now=new,
        allowed=allowed,
        verdict="ok" if abs(better) <= allowed else moved,
    )


def _allowed(metric: str, now: GateRow, before: GateRow, rules: Tolerances) -> float:
    """How far a metric may move; the same whichever of the tables is the baseline, but for `relative`."""
    own = rules.of(metric)
    old, new = abs(before.values[metric]), abs(now.values[metric])
    allowed = max(own.absolute, own.relative * min(old, new))
    seeds = rules.seeds * math.hypot(now.seed_sd, before.seed_sd)
    if metric == "pcc_gene":
        return allowed + rules.interval * min(now.half, before.half) + seeds
    pcc = max(abs(before.values["pcc_gene"]), abs(now.values["pcc_gene"]))
    return allowed + (seeds / pcc * min(old, new) if pcc > 0 else 0.0)


def by_table(changes: Sequence[Change]) -> Mapping[str, list[Change]]:
    """Changes of each table, in order."""
    found: dict[str, list[Change]] = {}
    for change in changes:
        found.setdefault(change.table, []).append(change)
    return found
