"""Write counts, positions and scale factors as Space Ranger 3.1 writes them.

Layout, types and attributes follow the public files and the format facts of Space Ranger 3.1.1.
"""

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hdstbench.arrays import CSR, BoolArray, FloatArray, IntArray
from hdstbench.simulate.tables import GeneTable

SOFTWARE = "spaceranger-3.1.1"
RAW, FILTERED = "raw_feature_bc_matrix.h5", "filtered_feature_bc_matrix.h5"
POSITIONS = pa.schema(
    [
        pa.field("barcode", pa.string(), nullable=False),
        pa.field("in_tissue", pa.uint8(), nullable=False),
        pa.field("array_row", pa.uint32(), nullable=False),
        pa.field("array_col", pa.uint32(), nullable=False),
        pa.field("pxl_row_in_fullres", pa.float64(), nullable=False),
        pa.field("pxl_col_in_fullres", pa.float64(), nullable=False),
    ]
)


def barcodes(bin_um: int, row: IntArray, col: IntArray) -> list[str]:
    """Names of bins: size, row, column."""
    return [f"s_{bin_um:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, col, strict=True)]


def write_positions(path: Path, bin_um: int, in_tissue: BoolArray, xy_px: FloatArray) -> None:
    """Write every bin of the slide, sorted by row and column.

    Args:
        path: Where to.
        bin_um: Side of a bin.
        in_tissue: [side, side].
        xy_px: Centres in full-resolution pixels, [side^2, 2].
    """
    row, col = (a.ravel() for a in np.indices(in_tissue.shape))
    columns = [
        pa.array(barcodes(bin_um, row, col)),
        pa.array(in_tissue.ravel().astype(np.uint8)),
        pa.array(row.astype(np.uint32)),
        pa.array(col.astype(np.uint32)),
        pa.array(xy_px[:, 1]),
        pa.array(xy_px[:, 0]),
    ]
    table = pa.table(columns, schema=POSITIONS)
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=3,
        store_schema=False,
        row_group_size=len(row),
    )


def write_scalefactors(path: Path, bin_um: int, mpp: float, hires: float, lowres: float) -> None:
    """Write scalefactors_json.json."""
    values = {
        "spot_diameter_fullres": bin_um / mpp,
        "bin_size_um": float(bin_um),
        "microns_per_pixel": mpp,
        "regist_target_img_scalef": hires,
        "tissue_lowres_scalef": lowres,
        "fiducial_diameter_fullres": 330 / mpp,
        "tissue_hires_scalef": hires,
    }
    path.write_text(json.dumps(values, indent=4), encoding="utf-8")


def write_matrix(path: Path, counts: CSR, names: list[str], genes: GeneTable, library: str) -> None:
    """Write a feature-barcode matrix; counts are int32 [bins, genes] in the order of `names`.

    The two files are written by two programs, which differ in chunks, string widths and levels.
    """
    filtered = path.name == FILTERED
    chunk, level = (80_000, 4) if filtered else (65_536, 1)
    arrays = {"data": np.int32, "indices": np.int64, "indptr": np.int64}
    with h5py.File(path, "w") as file:
        _write_attributes(file, library)
        group = file.create_group("matrix")
        text = np.array(names, "S21" if filtered else "S45")
        group.create_dataset("barcodes", data=text, compression="gzip", compression_opts=level)
        for name, kind in arrays.items():
            values = getattr(counts, name).astype(kind)
            group.create_dataset(
                name,
                data=values,
                chunks=(min(chunk, max(1, len(values))),),
                maxshape=(None,),
                compression="gzip",
                compression_opts=level,
                shuffle=True,
            )
        group.create_dataset("shape", data=np.array([len(genes.ids), len(names)], np.int32))
        _write_features(group.create_group("features"), genes, filtered=filtered)


def _write_attributes(file: h5py.File, library: str) -> None:
    file.attrs["filetype"] = "matrix"
    file.attrs["software_version"] = SOFTWARE
    file.attrs["version"] = np.int64(2)
    file.attrs["chemistry_description"] = "Visium HD v1 (simulated)"
    file.attrs["library_ids"] = np.array([library], "S")
    file.attrs["original_gem_groups"] = np.array([1], np.int64)


def _write_features(group: h5py.Group, genes: GeneTable, *, filtered: bool) -> None:
    columns = {
        "id": list(genes.ids),
        "name": list(genes.symbols),
        "feature_type": ["Gene Expression"] * len(genes.ids),
        "genome": ["simulated"] * len(genes.ids),
        "_all_tag_keys": ["genome"],
    }
    width = "S" if filtered else "S256"
    for name, values in columns.items():
        group.create_dataset(name, data=np.array(values, width), compression="gzip")
    target = np.flatnonzero(genes.on_target)  # strings in the filtered file, numbers in the raw one
    sets = group.create_group("target_sets")
    sets.create_dataset("simulated", data=target.astype("S" if filtered else "u4"))
