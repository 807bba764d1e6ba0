"""Read the her2st layout: one H&E JPEG, a table of counts and a table of spots a section.

Source of the layout: github.com/almaan/her2st (Andersson et al. 2021, doi 10.1038/s41467-021-26271-2).
"""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from hdstbench.arrays import FloatArray
from hdstbench.data.counts import Genes, MemoryCounts
from hdstbench.data.geometry import Affine, fit_affine
from hdstbench.data.sample import Sample
from hdstbench.errors import DataError, MissingError

PITCH_UM = 200.0
SPOT_COLUMNS = ("x", "y", "new_x", "new_y", "pixel_x", "pixel_y", "selected")
MAX_RESIDUAL_SPOTS = 0.15


def input_files(folder: Path, section: str) -> list[Path]:
    """The counts, spots and image of a section.

    Raises:
        MissingError: If one is not there.
    """
    for path in file_paths(folder, section):
        if not path.is_file():
            msg = f"{path} is not there; wanted images/, counts/ and spots/ of her2st in {folder}"
            raise MissingError(msg)
    return file_paths(folder, section)


def file_paths(folder: Path, section: str) -> list[Path]:
    """Where the counts, spots and image of a section have to be."""
    names = (f"counts/{section}.tsv.gz", f"spots/{section}_selection.tsv", f"images/{section}.jpg")
    return [folder / name for name in names]


def read_st(folder: Path, section: str) -> Sample:
    """Read one section.

    Counts and spots are joined on the integer array position `<x>x<y>`; a spot without counts or
    counts without a selected spot are left out.

    Args:
        folder: Holds `images/`, `counts/` and `spots/`.
        section: Name such as C2.

    Raises:
        MissingError: If a file is not there.
        DataError: If a table is not what it has to be.
    """
    counts_path, spots_path, image = input_files(folder, section)
    spots, counts = _read_spots(spots_path), _read_table(counts_path, index_col=0)
    shared = spots.index.intersection(counts.index)
    if shared.empty:
        msg = f"{counts_path} and {spots_path} share no position <x>x<y>; they are of two sections"
        raise DataError(msg)
    spots, counts = spots.loc[shared], counts.loc[shared]
    affine = _fit(spots, spots_path)
    genes = Genes(ids=tuple(counts.columns), symbols=tuple(counts.columns))
    return Sample(
        id=section,
        unit_um=PITCH_UM,
        mpp=PITCH_UM / affine.scale,
        grid=spots[["y", "x"]].to_numpy(np.int64),
        xy_px=spots[["pixel_x", "pixel_y"]].to_numpy(np.float64),
        to_px=affine,
        grid_shape=(int(spots["y"].max()) + 1, int(spots["x"].max()) + 1),
        counts=MemoryCounts(_sparse(counts, counts_path), genes),
        image=image,
        sources=(counts_path, spots_path, image),
    )


def _read_table(path: Path, index_col: int | None = None) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t", index_col=index_col)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        msg = f"{path} is not a whole table: {error}"
        raise DataError(msg) from error


def _read_spots(path: Path) -> pd.DataFrame:
    spots = _read_table(path)
    missing = [name for name in SPOT_COLUMNS if name not in spots]
    if missing:
        msg = f"{path} lacks the column {', '.join(missing)} (found {', '.join(map(str, spots))})"
        raise DataError(msg)
    spots = spots[spots["selected"] == 1]
    spots.index = pd.Index(spots["x"].astype(str) + "x" + spots["y"].astype(str))
    return spots


def _sparse(counts: pd.DataFrame, path: Path) -> sparse.csr_array:
    values = counts.to_numpy()
    if not np.issubdtype(values.dtype, np.number) or (values < 0).any() or (values % 1 != 0).any():
        msg = f"{path} holds values that are no counts; wanted raw UMI counts"
        raise DataError(msg)
    return sparse.csr_array(values.astype(np.int32))


def _fit(spots: pd.DataFrame, path: Path) -> Affine:
    """Map fitted array positions to pixels: spots sit within a fraction of a pitch of the grid."""
    uv: FloatArray = spots[["new_x", "new_y"]].to_numpy(np.float64)
    affine, residual = fit_affine(uv, spots[["pixel_x", "pixel_y"]].to_numpy(np.float64))
    if residual > MAX_RESIDUAL_SPOTS * affine.scale:
        msg = f"{path}: pixel positions miss the array by {residual:.0f} px; wanted less than a spot"
        raise DataError(msg)
    return affine
