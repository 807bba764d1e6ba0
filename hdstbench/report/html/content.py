"""What a report shows of one table, as values that JSON can hold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa

from hdstbench.protocol.target import find_target
from hdstbench.report.board import RANKED, Board
from hdstbench.report.markdown import (
    KNOWS,
    MEANING,
    NARROW,
    PAPER_NOTE,
    by_headline,
    changes_note,
    content_of,
    flag_notes,
    ridge_note,
)
from hdstbench.report.markers import COLUMN, PER_GENE, unreadable
from hdstbench.report.spatial import ceiling_note
from hdstbench.report.standing import standing_note

Json = dict[str, object]
DIGITS = 4
MADE = "Everything on this page but time and memory depends on the stored records alone."


@dataclass(frozen=True, slots=True)
class GeneTable:
    """What is stored of each gene, slide and whole model: one row each, meaned over folds and seeds.

    `rows` has the columns of `per_gene.parquet` that are numbers, and slide, patient, gene and model.
    """

    rows: pd.DataFrame

    @property
    def genes(self) -> list[str]:
        """All genes, those with the best ceilings first; ties and unknown ceilings in panel order."""
        truth = self.rows.drop_duplicates(["slide", "gene"])
        ceiling = truth.assign(ceiling=truth["ceiling"].where(truth["measurable"] > 0))
        # a gene that few slides score shall not lead because of one of them
        total = ceiling.groupby("gene", sort=False)["ceiling"].sum(min_count=1) / truth["slide"].nunique()
        return [str(g) for g in total.sort_values(ascending=False, kind="stable", na_position="last").index]

    @property
    def markers(self) -> list[str]:
        """Ids of marker genes that the run was asked for."""
        found = self.rows[self.rows["marker"] != ""]
        return [str(gene) for gene in found["gene"].unique()]


def load_genes(board: Board, base: Path) -> GeneTable:
    """Read the stored table of genes of every whole row but oracles.

    Args:
        board: The table.
        base: Folder of its plan.
    """
    whole = {row.model for row in board.rows if row.pcc is not None and row.kind != "oracle"}
    parts = []
    for name in board.plan.cells:
        model = Path(name).parent.name
        if model in whole:
            parts.append(read_gene_table(base / name).assign(model=model))
    if not parts:
        return GeneTable(_whole_columns(pd.DataFrame(columns=[*_KEYS, *_NUMBERS])))
    rows = pd.concat(parts, ignore_index=True)
    keep = rows["mean250"] | rows["hvg50"] | (rows["marker"] != "")
    means = rows[keep].groupby(_KEYS, sort=False)[_NUMBERS].mean()
    return GeneTable(means.reset_index())


def read_gene_table(cell: Path) -> pd.DataFrame:
    """What a cell stores of each gene and slide.

    Raises:
        DataError: If the file is not there or damaged.
    """
    path = cell / PER_GENE
    try:
        return _whole_columns(pd.read_parquet(path))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


_KEYS = ["model", "slide", "patient", "gene", "marker"]
_NUMBERS = ["pcc", "mse", "ceiling", "ceiling_low", "ceiling_high", "measurable"]


def _whole_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which what older records lack is unknown."""
    for name in _NUMBERS:
        if name not in table:
            table[name] = np.nan
    return table.assign(marker=table.get(COLUMN, ""))


def job_content(board: Board, genes: GeneTable, symbols: Mapping[str, str]) -> Json:
    """Everything of a table but its maps.

    Args:
        board: The table.
        genes: Its genes.
        symbols: Name of each gene id, as far as known.
    """
    plan = board.plan
    rows = [
        {
            **stored,
            "cost": _known(row.cost),
            "ran": row.ran,
            "ranked": row.kind in RANKED,
            "marked": board.marked(row),
        }
        for stored, row in zip(_rows_of(board), board.rows, strict=True)
    ]
    return {
        "stem": plan.stem,
        "title": plan.title + by_headline(plan),
        "what": _what(board),
        "simulated": plan.simulated,
        "command": plan.command,
        "made": f"{plan.notes} {MADE}".strip(),
        "headline": plan.headline,
        "notes": _notes(board),
        "rows": rows,
        "scatter": _scatter(genes, symbols, [row.model for row in board.rows]),
    }


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    return dict(zip(values, numbers(values.values()), strict=True))


def _rows_of(board: Board) -> list[Json]:
    return cast(list[Json], content_of(board)["rows"])


def _notes(board: Board) -> list[str]:
    """What the table's own page says below it, a paragraph or line each."""
    parts = [PAPER_NOTE] if board.plan.protocol != "hd" else []
    parts += [standing_note(board), ridge_note(board), ceiling_note(board), MEANING]
    parts += [f"{', '.join(sorted(board.narrow))}: {NARROW}"] if board.narrow else []
    oracles = [row.model for row in board.rows if row.kind == "oracle" and row.pcc is not None]
    parts += [f"{name} is an oracle: it knows {KNOWS[name]}." for name in oracles if name in KNOWS]
    parts += flag_notes(board).splitlines() + changes_note(board).splitlines()
    return [plain(part).removeprefix("- ") for part in parts if part]


def plain(markdown: str) -> str:
    """A note without the marks of markdown."""
    return " ".join(markdown.replace("`", "").replace("**", "").split())


def _what(board: Board) -> str:
    plan, patients = board.plan, len(board.patients)
    target = find_target(plan.target) if plan.target else None
    units = sum(s.units for s in board.slides)
    slides = f"{len(board.slides)} slide{'s' * (len(board.slides) != 1)}"
    parts = [
        f"{slides} of {patients} patient{'s' * (patients != 1)}, {units:,} units scored.",
        f"Split: {plan.split_title}.",
        f"Recipe: {plan.recipe}.",
    ]
    if target is not None:
        parts.append(f"Target: {target.name}, {target.words}.")
    if len(plan.folds) < plan.all_folds:
        parts.append(f"Part of the split only: {len(plan.folds)} of {plan.all_folds} folds.")
    return " ".join(parts)


def _scatter(table: GeneTable, symbols: Mapping[str, str], order: Sequence[str]) -> Json:
    """Of each slide the ceilings of all genes, and what each model reaches on them."""
    genes, rows = table.genes, table.rows
    there = set(rows["model"])
    models = [model for model in order if model in there]
    slides = {}
    for slide, of_slide in rows.groupby("slide", sort=True):
        truth = of_slide.drop_duplicates("gene").set_index("gene").reindex(genes)
        by_model = of_slide.pivot_table(index="gene", columns="model", values="pcc", sort=False).reindex(
            genes
        )
        slides[str(slide)] = {
            "ceiling": numbers(truth["ceiling"]),
            "low": numbers(truth["ceiling_low"]),
            "high": numbers(truth["ceiling_high"]),
            "measurable": [bool(value > 0) for value in truth["measurable"]],
            "pcc": {model: numbers(by_model[model]) for model in models if model in by_model},
        }
    names = [symbols.get(gene, gene) for gene in genes]
    return {"genes": genes, "names": names, "models": models, "slides": slides}


def numbers(values: Iterable[float]) -> list[float | None]:
    """Rounded numbers, None where there is none."""
    return [None if math.isnan(value) else round(float(value), DIGITS) for value in values]
