"""Find what maps are drawn from: a run's predictions, and the prepared slides that they belong to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdstbench.cli.export_job import find_prepared, read_predictions, stored_target
from hdstbench.data.card import cache_root
from hdstbench.protocol.slide import open_slide, symbols_of
from hdstbench.records import load_record, load_scores
from hdstbench.report.board import RANKED, Board
from hdstbench.report.html.content import GeneTable
from hdstbench.report.mapped import MappedSlide
from hdstbench.sweep.cell import PREDICTIONS

GENES = 32
"""Genes with the best ceilings whose maps are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What maps of one table can be drawn from.

    Attributes:
        cells: By slide and model, the cell that predicts it.
        folders: Prepared folder of each slide.
        symbols: Name of each gene id.
        without: Why slides or models have no maps.
    """

    cells: dict[str, dict[str, Path]]
    folders: dict[str, Path]
    symbols: dict[str, str]
    without: tuple[str, ...]


def drawn_models(board: Board, asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rows whose maps are drawn, in the order of the table, and those of `asked` that it does not have."""
    whole = [row for row in board.rows if row.pcc is not None and row.kind != "oracle"]
    names = [row.model for row in whole]
    if not asked:
        return [row.model for row in whole if row.kind in RANKED or row.model == board.ridge.name], []
    return [name for name in names if name in asked], [name for name in asked if name not in names]


def find_maps(board: Board, base: Path, models: Sequence[str]) -> Found:
    """Look for predictions and prepared slides; what is missing is said and left out.

    Args:
        board: The table.
        base: Folder of its plan.
        models: Rows whose maps are wanted.
    """
    cells, without = _cells(board, base, models)
    folders: dict[str, Path] = {}
    for slide, by_model in cells.items():
        folder = _prepared(next(iter(by_model.values())), slide)
        if folder is not None:
            folders[slide] = folder
    lost = [slide for slide in cells if slide not in folders]
    if lost:
        without.append(
            f"No maps of {', '.join(lost)}: not prepared in {cache_root()}; the run's command prepares it."
        )
    symbols = {gene: name for folder in folders.values() for gene, name in symbols_of(folder).items()}
    return Found(
        cells={slide: cells[slide] for slide in folders},
        folders=folders,
        symbols=symbols,
        without=tuple(without),
    )


def _cells(board: Board, base: Path, models: Sequence[str]) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """By slide and model, the cell of the first seed; and why there is none."""
    out: dict[str, dict[str, Path]] = {}
    bare, parted = set(), set()
    for model in models:
        records = {base / n: load_record(base / n) for n in board.plan.cells if Path(n).parent.name == model}
        first = min((record.seed for record in records.values()), default=0)
        for folder in (folder for folder, record in records.items() if record.seed == first):
            if not (folder / PREDICTIONS).is_file():
                bare.add(model)
                continue
            for slide in (scores.slide for scores in load_scores(folder)):
                parted |= {slide} if model in out.setdefault(slide, {}) else set()
                out[slide][model] = folder
    reasons = []
    if bare:
        reasons.append(
            f"No maps of {', '.join(sorted(bare))}: records without predictions, as committed ones are."
        )
    if parted:
        reasons.append(f"No maps of {', '.join(sorted(parted))}: several folds test parts of it.")
    return {slide: cells for slide, cells in sorted(out.items()) if cells and slide not in parted}, reasons


def _prepared(cell: Path, slide: str) -> Path | None:
    _, values, keys = read_predictions(cell / PREDICTIONS)
    return find_prepared(load_record(cell), slide, len(values[slide]), keys.get(slide, ""))


def mapped_slides(found: Found, genes: GeneTable) -> Iterator[MappedSlide]:
    """Open each slide with what its cells predict, one at a time."""
    for slide, cells in found.cells.items():
        panel: list[str] = []
        predictions = {}
        for model, cell in cells.items():
            names, values, _ = read_predictions(cell / PREDICTIONS)
            panel = panel or names
            order = [names.index(gene) for gene in panel]
            predictions[model] = values[slide][:, order]
        cell = next(iter(cells.values()))
        target = stored_target(load_record(cell), cell / PREDICTIONS)
        yield MappedSlide(
            slide=open_slide(found.folders[slide], panel, target),
            folder=found.folders[slide],
            predictions=predictions,
            scores=genes.rows[genes.rows["slide"] == slide],
        )


def chosen_genes(
    table: GeneTable, symbols: dict[str, str], asked: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Ids of the genes that are asked for, then markers of the run, then those with the best ceilings.

    Args:
        table: Genes of the run.
        symbols: Name of each id.
        asked: Ids or symbols.

    Returns:
        The ids, and those of `asked` that the run did not predict.
    """
    ids = table.genes
    by_symbol = {symbols.get(gene, gene): gene for gene in reversed(ids)}
    named = {name: name if name in ids else by_symbol.get(name, "") for name in asked}
    first = [gene for gene in dict.fromkeys([*named.values(), *table.markers]) if gene]
    best = [gene for gene in ids if gene not in first][:GENES]
    return [*first, *best], [name for name, gene in named.items() if not gene]
