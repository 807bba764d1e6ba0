"""One picture a job: a section, a measured gene and its predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hdstbench.protocol.slide import symbols_of
from hdstbench.protocol.task import open_fold
from hdstbench.report.board import Board
from hdstbench.report.figures import draw_maps
from hdstbench.sweep.cell import Cell, load_prediction
from hdstbench.sweep.plan import Job

SHOWN = 3


def picture(
    job: Job, folders: Mapping[str, Path], cells: Sequence[Cell], board: Board, base: Path
) -> Path | None:
    """Draw the most variable gene of the first test slide for the first rows of a board.

    The gene is the one that varies most on the *training* slides, so no score has chosen it.

    Returns:
        The PNG, or None if no model is whole.
    """
    names = [row.model for row in board.rows if row.pcc is not None and row.kind != "oracle"][:SHOWN]
    if not names:
        return None
    number = cells[0].record.fold
    fold = open_fold(job.task, job.split, number, folders)
    test = fold.test[0]
    view, gene = test.slide.take(test.headline), int(fold.panel.hvg50[0])
    maps = {"measured": view.need_labels().target()[:, gene]}
    for name in names:
        cell = next(c for c in cells if c.record.model == name and c.record.fold == number)
        maps[name] = load_prediction(cell.folder, view.id)[test.headline, gene]
    kind = "simulated slide" if job.dataset.card.simulated else "slide"
    name = symbols_of(folders[view.id])[fold.panel.genes[gene]]
    title = f"{job.stem}: {name} on {kind} {view.id}, the gene that varies most on the training slides"
    path = base / f"{job.stem}.png"
    draw_maps(path, folders[view.id], view, maps, title)
    return path
