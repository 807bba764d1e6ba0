"""Marker genes of a job (`--genes`): what each model gets on each of them, from the stored records."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hdstbench.errors import DataError
from hdstbench.records import load_record, load_scores
from hdstbench.report.tables import markdown_table

PER_GENE, COLUMN = "per_gene.parquet", "marker"
"""File of a cell, and the column in which it names markers; without any there is no such column."""

SETS = {"pcc_gene": "mean250", "hvg50": "hvg50"}
"""Columns that say which score a gene is part of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """One marker gene.

    Attributes:
        name: As it was asked for.
        genes: Its id; more than one where folds take another id of the same symbol.
        nonzero: Share of units in which it was counted, meaned over slides of a patient and patients.
        patients: Patients on whose slides it is scored, of `of`.
        counted: Folds in which the headline set, or that of the most variable genes, holds it anyway, by
            name of the score, of `folds`.
        unscored: Why slides do not score it, one entry each.
        pcc: Correlation over units by model, meaned over slides of a patient and patients; None where
            no slide scores it.
        constant: Models that predict it as constant on every slide that scores it, which counts as 0.
    """

    name: str
    genes: tuple[str, ...]
    nonzero: float
    patients: int
    of: int
    counted: dict[str, int]
    folds: int
    unscored: tuple[str, ...]
    pcc: dict[str, float | None]
    constant: tuple[str, ...]


class Scored(Protocol):
    """What a row of a table says of its model."""

    @property
    def model(self) -> str:
        """Name of the model."""
        ...

    @property
    def kind(self) -> str:
        """Model, variant, control or oracle."""
        ...


def load_markers(cells: Mapping[str, Sequence[Path]]) -> tuple[Marker, ...]:
    """Read the marker genes of whole models.

    Args:
        cells: Folders of each model's cells.

    Returns:
        In the order in which they were asked for; none if a job has none.
    """
    parts = [_read(folder, model) for model, folders in cells.items() for folder in folders if _has(folder)]
    if not parts:
        return ()
    table = pd.concat(parts, ignore_index=True)
    return tuple(_marker(str(name), group) for name, group in table.groupby(COLUMN, sort=False))


def _has(folder: Path) -> bool:
    path = folder / PER_GENE  # a table needs records and moments alone, but for its markers
    try:
        return path.is_file() and COLUMN in pq.read_schema(path).names
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> DataError:
    """What to say of a file of a cell that cannot be read."""
    return DataError(
        f"{path} cannot be read ({' '.join(str(error).split())}); remove its folder and run again"
    )


def _read(folder: Path, model: str) -> pd.DataFrame:
    table = pd.read_parquet(folder / PER_GENE)
    record, units = load_record(folder), {s.slide: s.units for s in load_scores(folder)}
    table = table[table[COLUMN] != ""].sort_values("place", kind="stable")
    return table.assign(model=model, fold=record.fold, seed=record.seed, units=table["slide"].map(units))


def _marker(name: str, rows: pd.DataFrame) -> Marker:
    truth = rows.drop_duplicates(["slide", "fold"])
    scored = truth[truth["pcc"].notna()]
    by_model = rows[rows["pcc"].notna()].groupby("model", sort=False)
    values = {str(model): _patient_mean(group, "pcc") for model, group in by_model}
    flat = {str(model): bool((group["pcc"] == 0).all()) for model, group in by_model}
    counted = {score: truth[truth[mask]]["fold"].nunique() for score, mask in SETS.items()}
    return Marker(
        name=name,
        genes=tuple(truth["gene"].unique()),
        nonzero=_patient_mean(truth, "nonzero"),
        patients=scored["patient"].nunique(),
        of=truth["patient"].nunique(),
        counted=counted,
        folds=truth["fold"].nunique(),
        unscored=tuple(_reason(row) for row in truth[truth["pcc"].isna()].to_dict("records")),
        pcc={str(model): values.get(str(model)) for model in rows["model"].unique()},
        constant=tuple(model for model, is_flat in flat.items() if is_flat),
    )


def _patient_mean(rows: pd.DataFrame, column: str) -> float:
    """Mean over slides, and seeds, of a patient, then over patients."""
    return float(rows.groupby("patient")[column].mean().mean())


def _reason(row: Mapping[Hashable, object]) -> str:
    """Why a slide does not score a gene."""
    units = int(str(row["units"]))
    found = round(float(str(row["nonzero"])) * units)
    return f"{row['slide']} has it in {found:,} of {units:,} units"


def markers_section(markers: Sequence[Marker], rows: Sequence[Scored]) -> str:
    """The markers as a section of a job's table; empty without any."""
    if not markers:
        return ""
    head = ("gene", "id", "units non-zero", "patients scored", "in the panel anyway")
    genes = [
        (m.name, ", ".join(m.genes), f"{m.nonzero:.1%}", f"{m.patients} of {m.of}", _counted(m))
        for m in markers
    ]
    lines = [
        (
            f"{row.model} ({row.kind})" if row.kind in ("control", "oracle") else row.model,
            *_cells(row, markers),
        )
        for row in rows
        if all(row.model in m.pcc for m in markers)
    ]
    why = [
        f"- {m.name}: {'; '.join(m.unscored)}, which is too little to score." for m in markers if m.unscored
    ]
    note = (
        "Asked for with `--genes`. Every model predicts them beside its panel, and they are in no other "
        "number of this page unless the panel holds them anyway."
    )
    meaning = "Correlation over units, meaned over slides of a patient, then over the patients scored:"
    parts = ["## Marker genes", note, markdown_table(head, genes), meaning]
    parts += [markdown_table(("model", *(m.name for m in markers)), lines), "\n".join(why)]
    return "\n\n".join(part for part in parts if part)


def _counted(marker: Marker) -> str:
    parts = [
        f"`{score}`" + ("" if count == marker.folds else f" in {count} of {marker.folds} folds")
        for score, count in marker.counted.items()
        if count
    ]
    return ", ".join(parts) or "no"


def _cells(row: Scored, markers: Sequence[Marker]) -> list[str]:
    out = []
    for marker in markers:
        value = marker.pcc[row.model]
        flat = " (constant)" if row.model in marker.constant else ""
        out.append("–" if value is None else f"{value:.3f}{flat}")
    return out
