"""Find what maps are drawn from: a run's predictions, and the prepared slides that they belong to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hdstbench.cli.export_job import find_prepared, read_predictions, stored_target
from hdstbench.data.card import cache_root
from hdstbench.protocol.slide import open_slide, symbols_of
from hdstbench.records import load_record, load_scores
from hdstbench.report.board import RANKED, Board
from hdstbench.report.html.content import GeneTable, read_gene_table
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


def whole_rows(board: Board) -> list[str]:
    """Rows of a table that have a score and are no oracles."""
    return [row.model for row in board.rows if row.pcc is not None and row.kind != "oracle"]


def drawn_models(board: Board, asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rows whose maps are drawn, in the order of the table, and those of `asked` that it does not have."""
    whole = whole_rows(board)
    if asked:
        return [name for name in whole if name in asked], [name for name in asked if name not in whole]
    kinds = {row.model: row.kind for row in board.rows}
    return [name for name in whole if kinds[name] in RANKED or name == board.ridge.name], []


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
        folder = _prepared(by_model, slide, without)
        if folder is not None:
            folders[slide] = folder
    lost = [slide for slide, by_model in cells.items() if by_model and slide not in folders]
    if lost:
        place = cache_root()
        without.append(
            f"No maps of {', '.join(lost)}: not prepared in {place}; the run's command prepares it."
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
    bare: dict[str, list[str]] = {}
    parted, seeds = set[str](), set[int]()
    for model in models:
        records = {base / n: load_record(base / n) for n in board.plan.cells if Path(n).parent.name == model}
        seeds |= {record.seed for record in records.values()}
        for folder, record in records.items():
            if record.seed != min(r.seed for r in records.values()):
                continue
            for slide in (scores.slide for scores in load_scores(folder)):
                if not (folder / PREDICTIONS).is_file():
                    bare.setdefault(model, []).append(slide)
                    continue
                parted |= {slide} if model in out.setdefault(slide, {}) else set()
                out[slide][model] = folder
    reasons = _reasons(models, bare, parted, seeds)
    return {slide: cells for slide, cells in sorted(out.items()) if cells and slide not in parted}, reasons


def _reasons(
    models: Sequence[str], bare: dict[str, list[str]], parted: set[str], seeds: set[int]
) -> list[str]:
    """What is not shown in maps, or not as the table has it."""
    out = []
    if not models:
        out.append("No maps: this table has none of the rows that maps are drawn of; name others with -m.")
    for model, slides in bare.items():
        where = ", ".join(sorted(set(slides)))
        out.append(
            f"No maps of {model} on {where}: no predictions beside its records, as with committed ones."
        )
    if parted:
        out.append(f"No maps of {', '.join(sorted(parted))}: several folds test parts of it.")
    if len(seeds) > 1:
        out.append(
            f"Maps and the numbers beside them are of seed {min(seeds)}; the table is of {len(seeds)}."
        )
    return out


def _prepared(by_model: dict[str, Path], slide: str, without: list[str]) -> Path | None:
    """The prepared slide that predictions belong to; a model whose belong to another one is dropped."""
    found: Path | None = None
    panel: set[str] = set()
    for model, cell in list(by_model.items()):
        genes, values, keys = read_predictions(cell / PREDICTIONS)
        place = find_prepared(load_record(cell), slide, len(values[slide]), keys.get(slide, ""))
        fits = place is not None and (found is None or (place == found and set(genes) == panel))
        if fits:
            found, panel = place, set(genes)
        elif found is not None:
            without.append(
                f"No map of {model} on {slide}: its units or genes are not those of the other rows."
            )
            del by_model[model]
    return found


def mapped_slides(found: Found) -> Iterator[MappedSlide]:
    """Open each slide with what its cells predict, one at a time."""
    for slide, cells in found.cells.items():
        panel: list[str] = []
        predictions, scores = {}, []
        for model, cell in cells.items():
            names, values, _ = read_predictions(cell / PREDICTIONS)
            panel = panel or names
            place = {gene: number for number, gene in enumerate(names)}
            predictions[model] = values[slide][:, [place[gene] for gene in panel]]
            table = read_gene_table(cell)
            scores.append(table[table["slide"] == slide].assign(model=model))
        cell = next(iter(cells.values()))
        target = stored_target(load_record(cell), cell / PREDICTIONS)
        yield MappedSlide(
            slide=open_slide(found.folders[slide], panel, target),
            folder=found.folders[slide],
            predictions=predictions,
            scores=pd.concat(scores, ignore_index=True),
        )


def chosen_genes(
    table: GeneTable, symbols: dict[str, str], asked: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Ids of the genes that are asked for, then markers of the run, then those with the best ceilings.

    Args:
        table: Genes of the run.
        symbols: Name of each id.
        asked: Ids or symbols.

    Returns:
        The ids, and the id of each of `asked`, empty where the run did not predict it.
    """
    ids = table.genes
    by_symbol = {symbols.get(gene, gene): gene for gene in reversed(ids)}
    named = {name: name if name in ids else by_symbol.get(name, "") for name in asked}
    first = [gene for gene in dict.fromkeys([*named.values(), *table.markers]) if gene]
    best = [gene for gene in ids if gene not in first][:GENES]
    return [*first, *best], named
