"""HEST-1k's tables: what its CSV and JSON say of a sample, with patients where they are known to be wrong.

HEST-1k: Jaume et al., "HEST-1k: A Dataset for Spatial Transcriptomics and Histology Image Analysis",
NeurIPS 2024, arXiv:2406.16192.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from hdstbench.data.h5ad import need_mpp
from hdstbench.errors import DataError

SPOTS, IMAGES, METADATA = "st", "wsis", "metadata"
TABLES = "HEST_v*.csv"
PIXEL_SIZE, SIZE = "pixel_size_um_estimated", ("fullres_px_width", "fullres_px_height")

Row = Mapping[str, str]

CRC = {
    "TENX128": "P2",
    "TENX147": "P5",
    "TENX148": "P2",
    "TENX149": "P1",
    "TENX152": "P2",
    "TENX153": "P3",
    "TENX154": "P5",
    "TENX155": "P2",
    "TENX156": "P1",
}
"""Patients of the colorectal cancer study (doi:10.1038/s41588-025-02193-3): HEST's table says "Patient 1"
for all of its samples, though its `subseries` names the true ones; TENX128 is TENX155 again (HEST #126)."""
CRC_SERIES = re.compile(r"Sample (P\d) (?:CRC|NAT)")


def metadata_of(path: Path) -> Path | None:
    """Where HEST's note on a sample has to lie, if `path` is one of its `st/<id>.h5ad`."""
    if path.parent.name != SPOTS:
        return None
    return path.parent.parent / METADATA / f"{path.stem}.json"


def read_metadata(path: Path) -> dict[str, object]:
    """HEST's note on the sample of an .h5ad; empty where there is none.

    Raises:
        DataError: If it is broken.
    """
    note = metadata_of(path)
    if note is None or not note.is_file():
        return {}
    try:
        values = json.loads(note.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        msg = f"{note} is not whole JSON ({error}); get it again"
        raise DataError(msg) from error
    if not isinstance(values, dict):
        msg = f"{note} holds a {type(values).__name__}, wanted a table of names and values; get it again"
        raise DataError(msg)
    return values


def pixel_size(path: Path) -> tuple[float, str] | None:
    """Give um a pixel by HEST's note on an .h5ad, and where it says so; the embedded size is often wrong.

    Raises:
        DataError: If it is no number above 0.
    """
    note, value = metadata_of(path), read_metadata(path).get(PIXEL_SIZE)
    if note is None or value is None or value != value:  # noqa: PLR0124 - NaN stands for nothing here
        return None
    return need_mpp(value, f"{note}: {PIXEL_SIZE}"), f"{PIXEL_SIZE} of {note.name}"


def stated_size(path: Path) -> tuple[float, float] | None:
    """Width and height of the image by HEST's note on an .h5ad."""
    values = read_metadata(path)
    sides = pd.to_numeric(pd.Series([values.get(name) for name in SIZE]), errors="coerce")
    width, height = sides.astype(float).tolist()
    return (width, height) if width > 0 and height > 0 else None


def read_table(folder: Path) -> dict[str, Row]:
    """HEST's table of samples by id, of the newest version in a folder; empty where there is none.

    Raises:
        DataError: If it is no table with a column `id`.
    """
    found = sorted(folder.glob(TABLES), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)])
    if not found:
        return {}
    path = found[-1]
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except (OSError, ValueError) as error:
        msg = f"{path} is not a whole table: {str(error).splitlines()[0]}; get it again"
        raise DataError(msg) from error
    if "id" not in table:
        shown = ", ".join(map(str, list(table)[:8]))
        msg = f"{path} has the columns {shown}, ...; wanted id among them"
        raise DataError(msg)
    rows = [{str(name): str(value).strip() for name, value in row.items()} for _, row in table.iterrows()]
    return {row["id"]: row for row in rows}


def row_of(path: Path, table: Mapping[str, Row]) -> Row:
    """What is known of the sample of an .h5ad: its note, and over it its row of the table."""
    note = {name: str(value).strip() for name, value in read_metadata(path).items() if value is not None}
    note = {name: "" if value.lower() == "nan" else value for name, value in note.items()}
    return {**note, **{name: value for name, value in table.get(path.stem, {}).items() if value}}


def patients(rows: Mapping[str, Row]) -> dict[str, str]:
    """Whose slide each sample is; "" where that is not known.

    "Patient 1" of two studies are two people: where a name occurs in several, the first sample of the
    study is added to it.
    """
    found = {name: _crc_patient(name, row) for name, row in rows.items()}
    first: dict[str, str] = {}
    studies: dict[str, set[str]] = {}
    for name, row in rows.items():
        title = row.get("dataset_title", "")
        first.setdefault(title, name)
        if not found[name]:
            studies.setdefault(row.get("patient", ""), set()).add(title)
    for name, row in rows.items():
        patient, title = row.get("patient", ""), row.get("dataset_title", "")
        if not found[name] and patient:
            found[name] = f"{patient} of {first[title]}'s study" if len(studies[patient]) > 1 else patient
    return found


def _crc_patient(name: str, row: Row) -> str:
    stated = CRC_SERIES.search(row.get("subseries", ""))
    number = stated[1] if stated else CRC.get(name, "")
    return f"CRC {number}" if number else ""
