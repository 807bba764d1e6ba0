"""Predictions that were entered into a table stay in it when its plan is written again."""

from dataclasses import replace
from pathlib import Path

from hdstbench.records import Record, load_record
from hdstbench.report.board import Plan, load_plan

ENTERED = "predictions sha256:"
"""How the record of such a cell names its origin, where others name a plugin."""


def is_entered(record: Record) -> bool:
    """Whether a cell holds predictions that were made elsewhere."""
    return record.plugin.startswith(ENTERED)


def with_entries(plan: Plan, path: Path, task: str) -> Plan:
    """A plan with the entered predictions of the one before it, of the same task.

    If the new plan is such an entry itself, everything of the old one stays.

    Args:
        plan: The new plan.
        path: Where the old one is, if there is one.
        task: Hash of the task.
    """
    if not path.is_file():
        return plan
    old = load_plan(path)
    new = [load_record(path.parent / name) for name in plan.cells if (path.parent / name).is_dir()]
    entry = bool(new) and len(new) == len(plan.cells) and all(map(is_entered, new))
    names = {record.model for record in new} if entry else set()
    kept = [name for name in old.cells if _stays(path.parent / name, task, names, every=entry)]
    kinds = {Path(name).parent.name: old.kinds[Path(name).parent.name] for name in kept}
    cells = tuple(dict.fromkeys((*kept, *plan.cells)))
    base = old if entry else plan
    return replace(base, cells=cells, kinds={**kinds, **plan.kinds})


def _stays(folder: Path, task: str, renewed: set[str], *, every: bool) -> bool:
    if folder.parent.name in renewed or not (folder / "record.json").is_file():
        return every and folder.parent.name not in renewed
    record = load_record(folder)
    return record.task.get("hash") == task and (every or is_entered(record))
