"""Write feature_slice.h5: how the array lies on the image, and UMI totals of the 2 um squares.

The slices of single genes, which nothing here reads, are left out.
"""

import json
from pathlib import Path

import h5py
import numpy as np

from hdstbench.arrays import CSR, BoolArray, FloatArray, IntArray
from hdstbench.simulate.constants import COUNTS
from hdstbench.simulate.frame import SQUARE_UM, Frame
from hdstbench.simulate.images import HIRES
from hdstbench.simulate.tables import GeneTable
from hdstbench.simulate.tenx import SOFTWARE


def write_feature_slice(
    path: Path, frame: Frame, counts: CSR, in_tissue: BoolArray, genes: GeneTable
) -> None:
    """Write one slide's file.

    Args:
        path: Where to.
        frame: Where the array lies.
        counts: All counts of the 2 um squares, [squares^2, G].
        in_tissue: Which squares lie under tissue, [squares, squares].
        genes: Columns of the counts.
    """
    with h5py.File(path, "w") as file:
        file.attrs["filetype"] = "feature_slice"
        file.attrs["version"] = "0.1.0"
        file.attrs["software_version"] = SOFTWARE
        file.attrs["metadata_json"] = json.dumps(_metadata(path.stem, frame))
        for name, values in {"id": genes.ids, "name": genes.symbols}.items():
            file[f"features/{name}"] = np.array(values, "S")
        total = np.asarray(counts.sum(axis=1)).ravel()
        _write_squares(file.create_group("umis/total"), total.reshape(in_tissue.shape))
        _write_squares(file.create_group("masks/filtered"), in_tissue.astype(np.uint32))


def _write_squares(group: h5py.Group, values: FloatArray | IntArray) -> None:
    row, col = np.nonzero(values)
    for name, column in {"row": row, "col": col, "data": values[row, col]}.items():
        group.create_dataset(name, data=column.astype(np.uint32), compression="gzip")


def _metadata(sample: str, frame: Frame) -> dict[str, object]:
    spot = _spot_to_image(frame)
    small = np.array([[-HIRES, 0, HIRES * frame.image_px[0]], [0, HIRES, 0], [0, 0, 1]])
    matrices = {
        "spot_colrow_to_microscope_colrow": spot,
        "microscope_colrow_to_spot_colrow": np.linalg.inv(spot),
        "spot_colrow_to_cytassist_colrow": small @ spot,
        "cytassist_colrow_to_spot_colrow": np.linalg.inv(small @ spot),
    }
    return {
        "sample_id": sample,
        "sample_desc": "simulated",
        "nrows": frame.squares,
        "ncols": frame.squares,
        "slide_name": "simulated",
        "spot_pitch": SQUARE_UM,
        "hd_layout_json": json.dumps({"file_format": "1.0", "transform": np.eye(3).ravel().tolist()}),
        "transform_matrices": {name: matrix.tolist() for name, matrix in matrices.items()},
    }


def _spot_to_image(frame: Frame) -> FloatArray:
    """From column and row of a square, whose centre has whole numbers, to pixels, [3, 3]."""
    centre = frame.matrix @ np.full(2, SQUARE_UM / 2) + frame.origin
    linear = np.column_stack([frame.matrix * SQUARE_UM, centre]) / COUNTS.mpp
    return np.vstack([linear, [0, 0, 1]])
