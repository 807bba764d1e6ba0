"""Where the bins of a Space Ranger run lie, and which row of the table each barcode is."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.data.barcodes import Names, parse, repeated
from hdstbench.data.geometry import Affine, fit_affine
from hdstbench.errors import DataError

NUMBERS = ("in_tissue", "array_row", "array_col")
PIXELS = ("pxl_col_in_fullres", "pxl_row_in_fullres")
MAX_RESIDUAL_UM = 0.8
"""Real maps are projective: VisiumIO's subset of a mouse brain misses a straight grid by 0.26 um."""
MAX_MPP_ERROR = 0.02
MAX_MPP = 1.2  # a full-resolution H&E has less; CytAssist images have 6
FITTED = 50_000
"""Rows that a map is fitted to; its residual is taken over all."""
MAX_SIDE = 10_000
"""Rows or columns of an array: 2 um squares over 20 mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """All bins of a slide, on or off the tissue and the image; N rows in the file's order.

    Attributes:
        barcodes: Names, [N].
        in_tissue: Which lie in tissue, [N].
        grid: Array row and column, int32 [N, 2].
        xy_px: Centres in full-resolution pixels, [N, 2].
    """

    path: Path
    barcodes: Names
    in_tissue: BoolArray
    grid: IntArray
    xy_px: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole array."""
        rows, columns = self.grid.max(axis=0) + 1
        return int(rows), int(columns)

    def place(self) -> IntArray:
        """Number of the row that holds each place of the array, -1 for none, int32 [rows, columns]."""
        out = np.full(self.shape, -1, np.int32)
        out[self.grid[:, 0], self.grid[:, 1]] = np.arange(len(self.grid))
        return out


@dataclass(frozen=True, slots=True)
class Scale:
    """um a full-resolution pixel, and hires pixels a full-resolution pixel."""

    mpp: float
    hires: float


def read_positions(path: Path) -> Positions:
    """Read a tissue_positions.parquet by the names of its columns.

    Unsigned columns, which would wrap around, become int64.

    Raises:
        DataError: If it is cut short, lacks a column, has empty cells or repeated barcodes or places.
    """
    try:
        found = pq.read_schema(path).names
        missing = [name for name in ("barcode", *NUMBERS, *PIXELS) if name not in found]
        if missing:
            msg = f"{path} lacks the column {', '.join(missing)} (found {', '.join(found)})"
            raise DataError(msg)
        table = pq.read_table(path, columns=["barcode", *NUMBERS, *PIXELS])
    except (OSError, pa.ArrowException) as error:
        msg = f"{path} is not a whole parquet file: {str(error).splitlines()[0]}; fetch it again"
        raise DataError(msg) from error
    if table.num_rows == 0 or any(column.null_count for column in table.columns):
        msg = f"{path} has empty cells or no row; fetch it again"
        raise DataError(msg)
    _check_kinds(table, path)
    positions = Positions(
        path=path,
        barcodes=_names(table["barcode"]),
        in_tissue=_whole(table["in_tissue"], path) > 0,
        grid=np.column_stack([_whole(table[name], path) for name in ("array_row", "array_col")]),
        xy_px=np.column_stack([table[name].to_numpy() for name in PIXELS]).astype(np.float64, copy=False),
    )
    del table
    _check(positions)
    return positions


def _check_kinds(table: pa.Table, path: Path) -> None:
    for name in ("barcode", *NUMBERS, *PIXELS):
        kind = table.schema.field(name).type
        text = any(
            test(kind) for test in (pat.is_string, pat.is_large_string, pat.is_binary, pat.is_dictionary)
        )
        number = pat.is_integer(kind) or pat.is_floating(kind) or pat.is_boolean(kind)
        if not (text if name == "barcode" else number):
            wanted = "names" if name == "barcode" else "numbers"
            msg = f"{path}: {name} is of type {kind}, wanted {wanted}; fetch it again"
            raise DataError(msg)


def _whole(column: pa.ChunkedArray, path: Path) -> IntArray:
    values = column.to_numpy()
    if values.dtype.kind not in "iub" and (values != np.floor(values)).any():
        msg = f"{path}: its numbers are {values.dtype}, wanted whole ones; fetch it again"
        raise DataError(msg)
    if len(values) and (values.min() < np.iinfo(np.int32).min or values.max() > np.iinfo(np.int32).max):
        msg = f"{path}: its numbers reach {values.max()}, which no array has; fetch it again"
        raise DataError(msg)
    return np.asarray(values, np.int32)


def _names(column: pa.ChunkedArray) -> Names:
    """Barcodes as fixed-width bytes, without a Python string for each of eleven million."""
    joined = pa.concat_arrays(column.chunks).cast(pa.large_binary())
    width = pc.min_max(pc.binary_length(joined))
    low, high = width["min"].as_py(), width["max"].as_py()
    if low == high > 0:
        _, _, data = joined.buffers()
        return np.frombuffer(data, f"S{high}", len(joined))
    return np.array(joined.to_pylist(), "S")


def _check(positions: Positions) -> None:
    """Barcodes and places are there once each, and agree with each other."""
    problem, grid = "", positions.grid
    parsed = parse(positions.barcodes)
    if not np.isfinite(positions.xy_px).all():
        problem = "empty cells: pixel positions that are no numbers"
    elif repeated(positions.barcodes, parsed):
        problem = "repeated barcodes"
    elif grid.max() >= MAX_SIDE:
        problem = f"an array position of {grid.max()}, wanted less than {MAX_SIDE}"
    elif grid.min() < 0 or _filled(positions) != len(grid):
        problem = "array positions that repeat or lie below 0"
    elif parsed is not None and (parsed[:, 1:] != grid).any():
        problem = "barcodes that name other rows and columns than array_row and array_col"
    if problem:
        msg = f"{positions.path} has {problem}; fetch it again"
        raise DataError(msg)


def _filled(positions: Positions) -> int:
    """How many places of the array are taken."""
    seen = np.zeros(positions.shape, bool)
    seen[positions.grid[:, 0], positions.grid[:, 1]] = True
    return int(np.count_nonzero(seen))


def join(barcodes: Names, positions: Positions, matrix: Path, bin_um: int) -> IntArray:
    """Row of the positions of each barcode of a matrix; the two files have different orders.

    Raises:
        DataError: If barcodes are of another bin size, or not among the positions.
    """
    parsed, known = parse(barcodes), parse(positions.barcodes[:1])
    sizes = set(np.unique(parsed[:, 0]).tolist()) if parsed is not None else {bin_um}
    if sizes != {bin_um}:
        msg = f"{matrix} holds bins of {min(sizes - {bin_um})} um in a folder of {bin_um} um bins"
        raise DataError(msg)
    if parsed is not None and known is not None:  # names and places of the positions are known to agree
        place = positions.place()
        inside = (parsed[:, 1:] < place.shape).all(axis=1)
        rows = np.full(len(parsed), -1)
        rows[inside] = place[parsed[inside, 1], parsed[inside, 2]]
    else:  # republished subsets carry other names
        rows = pd.Index(positions.barcodes).get_indexer(pd.Index(barcodes))
    lost = int((rows < 0).sum())
    if lost:
        example = barcodes[int(np.argmin(rows))].decode()
        msg = (
            f"{matrix}: {lost} of {len(rows)} barcodes, such as {example}, are not in "
            "tissue_positions.parquet; the files belong to different runs"
        )
        raise DataError(msg)
    return np.asarray(rows)


def read_scale(path: Path, bin_um: int) -> Scale:
    """Read scalefactors_json.json, the only trustworthy source of the pixel size.

    Raises:
        DataError: If a value is missing or contradicts the folder, or the run had no full-resolution image.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = float(values["bin_size_um"])
        scale = Scale(float(values["microns_per_pixel"]), float(values["tissue_hires_scalef"]))
        if not scale.hires > 0:
            msg = f"tissue_hires_scalef of {scale.hires:g}"
            raise ValueError(msg)
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: wanted bin_size_um, microns_per_pixel and tissue_hires_scalef, got {error!r}"
        raise DataError(msg) from error
    if found != bin_um:
        msg = f"{path} says bins of {found:g} um, its folder says {bin_um} um"
        raise DataError(msg)
    if not 0 < scale.mpp <= MAX_MPP:
        msg = (
            f"{path} says {scale.mpp:g} um a pixel; a full-resolution H&E has less than {MAX_MPP}: the "
            "run had only the CytAssist image, run Space Ranger again with --image"
        )
        raise DataError(msg)
    return scale


def fit(positions: Positions, mpp: float, bin_um: int) -> Affine:
    """Fit the map from array (column, row) to pixels and check it.

    Raises:
        DataError: If positions are no regular grid, or contradict the stated um a pixel.
    """
    folder = positions.path.parent.parent
    some = positions.grid[:: max(1, len(positions.grid) // FITTED)]
    xy = positions.xy_px[:: max(1, len(positions.grid) // FITTED)]
    affine, _ = fit_affine(some[:, ::-1].astype(np.float64), xy)
    residual = max(_residual(affine, positions, start) for start in range(0, len(positions.grid), FITTED))
    if residual * mpp > MAX_RESIDUAL_UM:
        msg = (
            f"{folder}: positions miss a regular grid by {residual:.1f} px; tissue_positions.parquet "
            "belongs to another run"
        )
        raise DataError(msg)
    found = bin_um / affine.scale if affine.scale > 0 else np.inf
    if abs(found / mpp - 1) > MAX_MPP_ERROR:
        msg = (
            f"{folder}: positions give {found:.4f} um a pixel, scalefactors_json.json {mpp:.4f}; "
            "the files belong to different runs"
        )
        raise DataError(msg)
    return affine


def _residual(affine: Affine, positions: Positions, start: int) -> float:
    """Largest miss among some rows; all at once would double the memory of a 2 um table."""
    rows = slice(start, start + FITTED)
    return float(np.abs(affine(positions.grid[rows, ::-1].astype(np.float64)) - positions.xy_px[rows]).max())
