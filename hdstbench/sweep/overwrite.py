"""What becomes of results that are there: kept, made again where they are stale, or all made again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from hdstbench.records import SCORES, load_record, scores_version
from hdstbench.sweep.cell import Cell, is_done
from hdstbench.sweep.store import others

Overwrite = Literal["never", "stale", "always"]


def overwriting(cells: Sequence[Cell], how: Overwrite) -> list[Cell]:
    """Cells as they are to be run.

    `stale`: what is missing or of other code, data or options is run. `always`: everything is. `never`: a
    whole result of the same model, fold and seed is kept, even a stale one; tables mark it.
    """
    if how == "always":
        return [replace(cell, anew=True) for cell in cells]
    return list(cells) if how == "stale" else [_kept(cell) for cell in cells]


def _kept(cell: Cell) -> Cell:
    """The cell, or in its place the newest stale result that is whole."""
    if is_done(cell):
        return cell
    for folder in reversed(others(cell.folder)):
        record = load_record(folder)
        if record.status == "ok" and scores_version(folder) == SCORES:
            return replace(cell, folder=folder, record=record, stale=True)
    return cell
