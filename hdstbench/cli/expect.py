"""What a dry run tells of a job beyond its size: what is there, what the rest takes."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hdstbench.cli.data_ready import prepared_already
from hdstbench.cli.view import View
from hdstbench.sweep.cell import Cell, is_done
from hdstbench.sweep.estimate import PROBE_S, Estimate, from_results, probe, total
from hdstbench.sweep.options import Options, worker_count
from hdstbench.sweep.overwrite import overwriting
from hdstbench.sweep.plan import Job, plan_cells
from hdstbench.sweep.setting import Setting

HINT = "add --probe to fit one cell of each model for a while and estimate from it"


def expect(
    job: Job, settings: Sequence[Setting], options: Options, device: str, view: View, *, probing: bool
) -> None:
    """Tell what of a job is there already, and what the rest takes."""
    folders = prepared_already(job, options)
    if isinstance(folders, int):
        view.say(f"  {folders} slides are not prepared yet, so that every cell is new")
        return
    cells = overwriting(plan_cells(job, settings, folders, options, device), options.overwrite)
    todo = [cell for cell in cells if cell.anew or not is_done(cell)]
    view.say(f"  {len(cells) - len(todo)} of {len(cells)} cells, oracles among them, are there already")
    if not todo:
        return
    known = from_results(cells)
    if probing:
        known |= _probe([cell for cell in todo if cell.record.model not in known], view)
    for line in _lines(todo, known, worker_count(options, device, len(todo))):
        view.say(line)
    if not probing and any(cell.record.model not in known for cell in todo):
        view.say(f"  {HINT}")


def _probe(cells: Sequence[Cell], view: View) -> dict[str, Estimate]:
    with tempfile.TemporaryDirectory(prefix="hdstbench-probe-") as folder:
        return probe(cells, Path(folder), PROBE_S, lambda model: view.say(f"  probing {model} ..."))


def _lines(todo: Sequence[Cell], known: Mapping[str, Estimate], workers: int) -> Iterator[str]:
    """A line a model, and the sum."""
    if not known:
        return
    yield f"  {'model':24}{'cells':>6}{'s a cell':>10}{'MiB':>8}  known from"
    counts = Counter(cell.record.model for cell in todo)
    for model, count in counts.items():
        one = known.get(model, Estimate(seconds=None, memory_mb=0.0, source="nothing"))
        seconds = "?" if one.seconds is None else f"{one.seconds:,.1f}"
        memory = f"{one.memory_mb:,.0f}" if one.memory_mb else "?"
        yield f"  {model:24}{count:>6}{seconds:>10}{memory:>8}  {one.source}"
    work = total(todo, known)
    most = max((known[model].memory_mb for model in counts if model in known), default=0.0)
    open_ = [model for model in counts if model not in known or known[model].seconds is None]
    without = f", without {', '.join(open_)}" if open_ else ""
    yield (
        f"  in all about {work:,.0f} s of one worker, {work / workers:,.0f} s with {workers}{without}; "
        f"at most {most:,.0f} MiB a worker"
    )
