"""What cells take: from results that are there, or from a probe that fits one of each model for a while."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hdstbench.plugins.plugin import Progress
from hdstbench.records import Record, load_record
from hdstbench.sweep.cell import Cell
from hdstbench.sweep.local import run_cells
from hdstbench.sweep.store import CELL

PROBE_S = 20.0
"""How long a probe fits a model, in seconds."""
FEATURES = "features"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a cell of a model takes.

    Attributes:
        seconds: Of one worker; None where a probe did not get far enough to tell.
        memory_mb: Peak host memory, in MiB.
        source: How it is known, in words.
    """

    seconds: float | None
    memory_mb: float
    source: str


def from_results(cells: Iterable[Cell]) -> dict[str, Estimate]:
    """Estimates by model, from whole cells of the same run, recipe and device, whatever their key."""
    found = {}
    for folder, asked in {cell.folder.parent: cell.record for cell in cells}.items():
        past = [load_record(p.parent) for p in sorted(folder.glob("*/record.json")) if _is_cell(p.parent)]
        whole = [record for record in past if _tells(record, asked)]
        if whole:
            found[asked.model] = _mean(whole)
    return found


def _tells(past: Record, asked: Record) -> bool:
    same = (past.recipe, past.device) == (asked.recipe, asked.device)
    return same and past.status == "ok" and past.seconds.get("total", 0.0) > 0


def _is_cell(folder: Path) -> bool:
    return CELL.fullmatch(folder.name) is not None


def _mean(records: Sequence[Record]) -> Estimate:
    return Estimate(
        seconds=float(np.mean([record.seconds["total"] for record in records])),
        memory_mb=max(record.peak_host_mb for record in records),
        source=f"{len(records)} results",
    )


def probe(
    cells: Iterable[Cell], folder: Path, limit_s: float, told: Callable[[str], None]
) -> dict[str, Estimate]:
    """Fit the first cell of each model for a while, one at a time, and reckon what it takes in all.

    Features of slides that are computed on the way stay in the shared cache.

    Args:
        cells: Of a sweep.
        folder: An empty one, for what the cells write.
        limit_s: Seconds for each model.
        told: Is called with each model that is being tried.
    """
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.record.model, cell)
    found = {}
    for model, cell in first.items():
        told(model)
        found[model] = _try(replace(cell, folder=_moved(cell, folder), anew=True), limit_s)
    return found


def _moved(cell: Cell, folder: Path) -> Path:
    return folder / cell.folder.relative_to(cell.run)


def _try(cell: Cell, limit_s: float) -> Estimate:
    began, heard = time.monotonic(), list[tuple[float, Progress]]()
    record = cell.record
    for event in run_cells([cell], 1, limit_s):
        if event.kind == "started":
            began = time.monotonic()
        if event.progress:
            heard.append((time.monotonic() - began, event.progress))
        record = event.record or record
    if record.status == "ok":
        return replace(_mean([record]), source="a whole cell of the probe")
    if record.status != "timeout":
        return Estimate(seconds=None, memory_mb=record.peak_host_mb, source=f"probe failed: {record.error}")
    seconds, source = reckon(heard, limit_s)
    return Estimate(seconds=seconds, memory_mb=record.peak_host_mb, source=source)


def reckon(heard: Sequence[tuple[float, Progress]], limit_s: float) -> tuple[float | None, str]:
    """Seconds that a fit takes in all, from what it told until it was stopped, and how that is known.

    The share grows from the first word to the last of a fit as time does; making features is no part
    of it, and tells its own shares.
    """
    fitting = [(at, said) for at, said in heard if not said.stage.startswith(FEATURES)]
    if not fitting and heard:
        return None, _making(heard)
    if len(fitting) < 2 or fitting[-1][1].share <= fitting[0][1].share:  # noqa: PLR2004 - two make a line
        return None, f"{heard[-1][1].stage if heard else 'no word'} after {limit_s:.0f} s of the probe"
    (start, first), (end, last) = fitting[0], fitting[-1]
    left = (1 - last.share) * (end - start) / (last.share - first.share)
    return end + left, f"{last.share:.1%} of a fit in {end:.0f} s"


def _making(heard: Sequence[tuple[float, Progress]]) -> str:
    """How long features of a slide take, which are made once for all cells."""
    stage = heard[-1][1].stage
    (start, first), (end, last) = next(h for h in heard if h[1].stage == stage), heard[-1]
    if last.share <= first.share:
        return f"{stage}, made once for all cells, after {end:.0f} s"
    whole = (end - start) / (last.share - first.share)
    return f"{stage}, made once for all cells: {last.share:.0%} in {end:.0f} s, about {whole:,.0f} s a slide"


def total(todo: Sequence[Cell], known: Mapping[str, Estimate]) -> float:
    """Seconds of one worker that the known part of some cells takes."""
    each = [known[cell.record.model].seconds for cell in todo if cell.record.model in known]
    return sum(seconds for seconds in each if seconds is not None)
