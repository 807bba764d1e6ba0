"""One picture a job: a section, measured genes and their predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.prepared import load_arrays
from hdstbench.protocol.slide import symbols_of
from hdstbench.protocol.task import Fold, TestSlide, open_fold
from hdstbench.report.board import Board
from hdstbench.report.figures import Maps, draw_maps, draw_window
from hdstbench.sweep.cell import Cell, load_prediction
from hdstbench.sweep.plan import Job

SHOWN, SHOWN_MARKERS = 3, 6


def picture(
    job: Job, folders: Mapping[str, Path], cells: Sequence[Cell], board: Board, base: Path
) -> Path | None:
    """Draw genes of the first test slide as measured, and as the first rows of a board predict them.

    These are the marker genes that were asked for, on a dense window of the slide; without any it is the
    gene that varies most on the *training* slides, so no score has chosen it, on the whole slide.

    Returns:
        The PNG, or None if no model is whole.
    """
    names = [row.model for row in board.rows if row.pcc is not None and row.kind != "oracle"][:SHOWN]
    if not names:
        return None
    number = cells[0].record.fold
    fold = open_fold(job.task, job.split, number, folders)
    test, path = fold.test[0], base / f"{job.stem}.png"
    mine = [Path(c) for c in reversed(board.plan.cells) if Path(c).name.startswith(f"fold{number}-")]
    of_fold = {path.parent.name: base / path for path in mine}
    predicted = {name: load_prediction(of_fold[name], test.slide.id) for name in names if name in of_fold}
    kind = "simulated slide" if job.dataset.card.simulated else "slide"
    where = f"{kind} {test.slide.id}"
    if fold.panel.markers:
        columns = [column for _, column in fold.panel.markers]
        units = test.headline if job.split.within else _window(test, folders[test.slide.id], columns)
        _draw_markers(
            path, folders[test.slide.id], fold, predicted, units=units, title=f"{job.stem}: {where}"
        )
        return path
    view, gene = test.slide.take(test.headline), int(fold.panel.hvg50[0])
    maps = {"measured": view.need_labels().target()[:, gene]}
    maps |= {name: values[test.headline, gene] for name, values in predicted.items()}
    symbol = symbols_of(folders[view.id])[fold.panel.genes[gene]]
    title = f"{job.stem}: {symbol} on {where}, the gene that varies most on the training slides"
    draw_maps(path, folders[view.id], view, maps, title)
    return path


def _draw_markers(
    path: Path, folder: Path, fold: Fold, predicted: Mapping[str, FloatArray], *, units: IntArray, title: str
) -> None:
    """Draw the first marker genes on some units of the first test slide."""
    test, markers = fold.test[0], fold.panel.markers[:SHOWN_MARKERS]
    view = test.slide.take(units)
    measured = view.need_labels().target()
    rows = [
        Maps(name, {"measured": measured[:, g], **{m: p[units, g] for m, p in predicted.items()}})
        for name, g in markers
    ]
    left = len(fold.panel.markers) - len(markers)
    more = f"; {left} more genes are not drawn" if left else ""
    part = "" if units is test.headline else ", the dense window with most of the markers, r within it"
    draw_window(path, folder, view, rows, f"{title}{part}{more}")


def _window(test: TestSlide, folder: Path, genes: Sequence[int]) -> IntArray:
    """Units of the dense window in which genes, each held against its own mean, are measured most.

    Where a slide has no such windows, as with native spots, it is all units that are scored.
    """
    window = load_arrays(folder / "pixels" / "unit.npz")["window"]
    parts = [np.flatnonzero(window == number) for number in np.unique(window[window >= 0])]
    if not parts:
        return test.headline
    values = test.slide.need_labels().target()[:, list(genes)]
    values = values / np.maximum(values.mean(axis=0), 1e-9)
    return max(parts, key=lambda units: float(values[units].mean()))
