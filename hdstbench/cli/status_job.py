"""How far a run is: what its plans want, what its cells say, and which are worked on."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hdstbench.errors import MissingError
from hdstbench.report.board import Plan, load_plan
from hdstbench.sweep.claim import is_claimed
from hdstbench.sweep.store import Entry, load_index

SHOWN = 20
"""Failures that are told one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One table's cells.

    Attributes:
        running: Names of cells that some process works on now.
        failed: Error of each cell that is not whole.
        stale: Results of other code, data or options, beside those that the plan wants.
        left_s: Seconds until the end at the mean time of the cells so far; None if nothing is known.
    """

    table: str
    command: str
    planned: int
    ok: int
    waiting: int
    running: tuple[str, ...]
    failed: dict[str, str]
    stale: int
    left_s: float | None


def lines(run: str, *, as_json: bool) -> Iterator[str]:
    """What to tell, a line at a time.

    Raises:
        MissingError: If the folder holds no plan.
    """
    base = Path(run)
    plans = sorted(base.glob("*.plan.json"))
    if not plans:
        msg = f"no *.plan.json in {run}; wanted the -o folder of a run"
        raise MissingError(msg)
    index = load_index(base)
    wanted = [load_plan(plan) for plan in plans]
    named = {name for plan in wanted for name in plan.cells}
    for plan in wanted:
        state = _state(base, plan, index, named)
        if as_json:
            yield json.dumps(asdict(state))
        else:
            yield from _told(state)


def _state(base: Path, plan: Plan, index: dict[str, Entry], named: set[str]) -> State:
    cells = plan.cells
    there = {name: index[name] for name in cells if name in index}
    running = tuple(name for name in cells if is_claimed(base / name))
    failed = {name: f"{e.status}: {e.error}" for name, e in there.items() if e.status != "ok"}
    seconds = [e.seconds for e in there.values() if e.status == "ok" and e.seconds > 0]
    left = len(cells) - len(there)
    homes = {str(Path(name).parent) for name in cells}
    return State(
        table=plan.stem,
        command=plan.command,
        planned=len(cells),
        ok=len(there) - len(failed),
        waiting=left - sum(name not in there for name in running),
        running=running,
        failed=failed,
        stale=sum(name not in named and str(Path(name).parent) in homes for name in index),
        left_s=float(np.mean(seconds)) * left / max(len(running), 1) if seconds and left else None,
    )


def _told(state: State) -> Iterator[str]:
    now = f"{len(state.running)} running" if state.running else "none running"
    yield (
        f"{state.table}: {state.ok} of {state.planned} cells whole, {len(state.failed)} failed, {now}, "
        f"{state.waiting} waiting"
    )
    for name in state.running:
        yield f"  running  {name}"
    for name, error in list(state.failed.items())[:SHOWN]:
        yield f"  {name}: {error}"
    if len(state.failed) > SHOWN:
        yield f"  and {len(state.failed) - SHOWN} more failures"
    if state.stale:
        yield f"  {state.stale} older results of other code, data or options lie beside; no table uses them"
    if state.left_s is not None:
        yield f"  about {state.left_s:,.0f} s left, at the mean time of the cells so far"
    if not state.running and state.waiting:
        yield f"  nobody works on it; it goes on with: {state.command}"
