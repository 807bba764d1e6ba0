"""Read Space Ranger Visium HD output (3.0 to 4.x), one bin size at a time.

Formats and traps: 10x documentation and the public files; see docs/data.md.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hdstbench.arrays import FloatArray
from hdstbench.data.geometry import Affine, fit_affine
from hdstbench.data.image import open_image
from hdstbench.data.sample import Sample
from hdstbench.data.tenx import H5Counts, read_matrix
from hdstbench.errors import DataError, MissingError

POSITION_COLUMNS = (
    "barcode",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)
MATRIX = "filtered_feature_bc_matrix.h5"
POSITIONS = "tissue_positions.parquet"
SCALEFACTORS = "scalefactors_json.json"
BARCODE = re.compile(r"s_(\d{3})um_(\d{5})_(\d{5})-1")
MAX_RESIDUAL_UM = 0.8
"""Real maps are projective: VisiumIO's subset of a mouse brain misses a straight grid by 0.26 um."""
MAX_MPP_ERROR = 0.02
MAX_MPP = 1.2  # a full-resolution H&E has less; CytAssist images have 6
HIRES_SLACK_PX = 2


def find_bins(path: Path, bin_um: int) -> Path:
    """Find the folder of one bin size from `outs/`, its parent, `binned_outputs/` or itself.

    Raises:
        MissingError: If it is not below `path`; names what is there.
    """
    name = f"square_{bin_um:03d}um"
    places = [path / "outs" / "binned_outputs", path / "binned_outputs", path, path.parent]
    for place in places if path.name.startswith("square_") else places[:3]:
        if (place / name).is_dir():
            return place / name
    there = sorted({f.name for place in places[:3] if place.is_dir() for f in place.glob("square_*")})
    msg = (
        f"no {name} below {path} (found {', '.join(there) or 'no square_* folder'}); wanted Space "
        f"Ranger Visium HD output with {bin_um} um bins"
    )
    raise MissingError(msg)


def input_files(path: Path, bin_um: int) -> list[Path]:
    """The files that are read for one bin size.

    Raises:
        MissingError: If one is not there.
    """
    folder = find_bins(path, bin_um)
    names = (MATRIX, f"spatial/{POSITIONS}", f"spatial/{SCALEFACTORS}")
    return [_need(folder / name) for name in names]


def need_image(path: Path) -> Path:
    """Check that the full-resolution image is there.

    Raises:
        MissingError: If it is not.
    """
    if not path.is_file():
        msg = f"{path} is not there; wanted the full-resolution H&E (it is no part of Space Ranger's outs/)"
        raise MissingError(msg)
    return path


def read_spaceranger(path: Path, bin_um: int, image: Path, name: str) -> Sample:
    """Read the in-tissue bins of one size.

    Args:
        path: `outs/`, its parent, `binned_outputs/` or one `square_*` folder.
        bin_um: Side of a bin in um.
        image: The full-resolution H&E that Space Ranger was given.
        name: Name of the slide.

    Raises:
        MissingError: If a file is not there.
        DataError: If files contradict each other, or the image is not the one of the positions.
    """
    files = input_files(path, bin_um)
    matrix, places, factors = files
    positions = _read_positions(places)
    scale = _read_scalefactors(factors, bin_um)
    counts = read_matrix(matrix)
    affine = _fit(positions, scale, bin_um, matrix.parent)
    _check_image(need_image(image), places.parent, scale.hires)
    rows = _join(counts, positions, bin_um)
    xy = positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(np.float64)
    grid = positions[["array_row", "array_col"]].to_numpy(np.int64)
    return Sample(
        id=name,
        unit_um=float(bin_um),
        mpp=scale.mpp,
        grid=grid[rows],
        xy_px=xy[rows],
        to_px=affine,
        grid_shape=(int(grid[:, 0].max()) + 1, int(grid[:, 1].max()) + 1),
        counts=counts,
        image=image,
        sources=(*files, image),
    )


def _need(path: Path) -> Path:
    if not path.is_file():
        msg = f"{path} is not there; wanted the whole square_* folder of a Space Ranger run"
        raise MissingError(msg)
    return path


def _read_positions(path: Path) -> pd.DataFrame:
    """Read the columns by name; integer columns come unsigned and wrap, so they are widened."""
    try:
        found = pq.read_schema(path).names
        missing = [name for name in POSITION_COLUMNS if name not in found]
        if missing:
            msg = f"{path} lacks the column {', '.join(missing)} (found {', '.join(found)})"
            raise DataError(msg)
        table = pd.read_parquet(path, columns=list(POSITION_COLUMNS))
    except (OSError, pa.ArrowException) as error:
        msg = f"{path} is not a whole parquet file: {str(error).splitlines()[0]}; fetch it again"
        raise DataError(msg) from error
    if table.isna().any(axis=None) or table["barcode"].duplicated().any():
        msg = f"{path} has empty cells or repeated barcodes; fetch it again"
        raise DataError(msg)
    return table.astype({"array_row": np.int64, "array_col": np.int64})


@dataclass(frozen=True, slots=True)
class _Scale:
    mpp: float
    hires: float


def _read_scalefactors(path: Path, bin_um: int) -> _Scale:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = float(values["bin_size_um"])
        scale = _Scale(float(values["microns_per_pixel"]), float(values["tissue_hires_scalef"]))
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


def _fit(positions: pd.DataFrame, scale: _Scale, bin_um: int, folder: Path) -> Affine:
    uv = positions[["array_col", "array_row"]].to_numpy(np.float64)
    xy = positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(np.float64)
    affine, residual = fit_affine(uv, xy)
    if residual * scale.mpp > MAX_RESIDUAL_UM:
        msg = (
            f"{folder}: positions miss a regular grid by {residual:.1f} px; tissue_positions.parquet "
            "belongs to another run"
        )
        raise DataError(msg)
    mpp = bin_um / affine.scale
    if abs(mpp / scale.mpp - 1) > MAX_MPP_ERROR:
        msg = (
            f"{folder}: positions give {mpp:.4f} um a pixel, scalefactors_json.json {scale.mpp:.4f}; "
            "the files belong to different runs"
        )
        raise DataError(msg)
    return affine


def _check_image(image: Path, spatial: Path, hires_scale: float) -> None:
    """The full-resolution image has to be the one that hires was made from."""
    width, height = open_image(image).size
    hires = spatial / "tissue_hires_image.png"
    if not hires.is_file():
        return
    try:
        with Image.open(hires) as small:
            wanted = small.size
    except (OSError, ValueError) as error:
        msg = f"{hires} is not a whole PNG; fetch it again"
        raise DataError(msg) from error
    found = (width * hires_scale, height * hires_scale)
    if all(abs(f - w) <= HIRES_SLACK_PX for f, w in zip(found, wanted, strict=True)):
        return
    turned = all(abs(f - w) <= HIRES_SLACK_PX for f, w in zip(found[::-1], wanted, strict=True))
    hint = (
        "it is rotated: give the image as Space Ranger got it"
        if turned
        else "give the full-resolution H&E that Space Ranger got, not hires or CytAssist"
    )
    full = " x ".join(f"{w / hires_scale:.0f}" for w in wanted)
    msg = f"{image} is {width} x {height} px, the positions belong to one of {full} px; {hint}"
    raise DataError(msg)


def _join(counts: H5Counts, positions: pd.DataFrame, bin_um: int) -> FloatArray:
    """Row of the positions table of each barcode; the two files have different orders."""
    first = BARCODE.fullmatch(counts.barcodes[0]) if counts.barcodes else None
    if first is not None and int(first[1]) != bin_um:
        msg = f"{counts.path} holds bins of {int(first[1])} um in a folder of {bin_um} um bins"
        raise DataError(msg)
    rows = pd.Index(positions["barcode"]).get_indexer(pd.Index(counts.barcodes))
    lost = int((rows < 0).sum())
    if lost:
        example = counts.barcodes[int(np.argmin(rows))]
        msg = (
            f"{counts.path}: {lost} of {len(rows)} barcodes, such as {example}, are not in "
            "tissue_positions.parquet; the files belong to different runs"
        )
        raise DataError(msg)
    return np.asarray(rows)
