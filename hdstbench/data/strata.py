"""Strata of a slide, such as tumour and stroma, from drawn regions or a table of labels.

They are kept to score by stratum and lie with the labels, where no model looks when it predicts.
"""

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.path import Path as Outline

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.crop import read_crop
from hdstbench.data.levels import cell_of, number_cells
from hdstbench.data.sample import Sample
from hdstbench.data.units import Units
from hdstbench.errors import DataError

NONE = ""
DRAWN = (".geojson", ".json")
LABELS = ("label", "stratum", "DeconvolutionLabel1", "region", "cluster")
"""Columns that are taken for labels, in this order; of a table of two columns, the one beside barcode."""
BARCODE = re.compile(r"^s_(\d{3})um_(\d{5})_(\d{5})-1$")


def read_strata(path: Path, sample: Sample, units: Units) -> npt.NDArray[np.str_]:
    """Name the stratum of each unit, "" where there is none, [N].

    Args:
        path: A GeoJSON of polygons in pixels of the image that Space Ranger got (as QuPath exports them;
            of a cut image too), or a CSV, TSV or parquet with a barcode a bin and its label, of any bin
            size: a unit takes the most frequent label of the smaller bins whose centres it holds, or
            that of the larger one that holds its centre.
        sample: The bins that the units are made of.
        units: The units.

    Raises:
        DataError: If the file is neither, or names no unit of this slide.
    """
    if path.suffix.lower() in DRAWN:
        corner = read_crop(sample.image).corner if sample.image else np.zeros(2)
        names = _drawn(path, units.xy_um / sample.mpp + corner)
    else:
        names = _listed(path, units)
    if not (names != NONE).any():
        msg = f"{path} names none of the {len(names)} units of {sample.id}; it belongs to another slide"
        raise DataError(msg)
    return names


def check_strata(path: Path) -> None:
    """Read a file of strata without asking where it lies.

    Raises:
        DataError: If it is neither regions nor labels.
    """
    if path.suffix.lower() in DRAWN:
        list(_polygons(path))
    else:
        _table(path)


def _drawn(path: Path, xy_px: FloatArray) -> npt.NDArray[np.str_]:
    """Later polygons lie on top of earlier ones; holes are left out."""
    names = np.full(len(xy_px), NONE, object)
    for label, rings in _polygons(path):
        inside = np.zeros(len(xy_px), bool)
        for ring in rings:  # a hole takes away what its outline holds
            inside ^= Outline(ring).contains_points(xy_px)
        names[inside] = label
    return names.astype(np.str_)


def _polygons(path: Path) -> Iterator[tuple[str, list[FloatArray]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = content["features"] if isinstance(content, dict) else content
        for feature in features:
            shape = feature["geometry"]
            parts = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
            if shape["type"] in ("Polygon", "MultiPolygon"):
                for rings in parts:
                    yield (
                        _name(feature.get("properties")),
                        [np.asarray(ring, np.float64)[:, :2] for ring in rings],
                    )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        msg = f"{path} is no GeoJSON of polygons: {error!r}; export annotations in full-resolution pixels"
        raise DataError(msg) from error


def _name(values: Any) -> str:  # noqa: ANN401 - JSON
    values = values if isinstance(values, dict) else {}
    found = values.get("classification")
    if isinstance(found, dict):
        found = found.get("name")
    return str(found or values.get("label") or values.get("name") or "unnamed")


def _listed(path: Path, units: Units) -> npt.NDArray[np.str_]:
    size, grid, names = _table(path)
    if size > _side(units):
        return _holding(grid, names, size, units)
    return _most_frequent((grid[:, ::-1] + 0.5) * size, names, units)


def _table(path: Path) -> tuple[float, IntArray, npt.NDArray[Any]]:
    """Size of the bins that a table labels, their rows and columns, and their labels."""
    table = _read(path)
    label = next((name for name in LABELS if name in table), None)
    rest = [str(name) for name in table if name != "barcode"]
    label = label or (rest[0] if len(rest) == 1 else None)
    if "barcode" not in table or label is None:
        found = ", ".join(map(str, table))
        msg = f"{path} has the columns {found}; wanted barcode and one of {', '.join(LABELS)}"
        raise DataError(msg)
    table = table[["barcode", label]].dropna()
    place = table["barcode"].astype(str).str.extract(BARCODE)
    if place.isna().any(axis=None) or place.empty:
        msg = f"{path}: wanted barcodes s_008um_<row>_<col>-1"
        raise DataError(msg)
    size, row, col = (place[i].astype(int).to_numpy() for i in range(3))
    if len(set(size.tolist())) > 1:
        msg = f"{path} has labels of bins of {sorted(set(size.tolist()))} um; wanted one size"
        raise DataError(msg)
    return float(size[0]), np.stack([row, col], axis=1), table[label].astype(str).to_numpy()


def _holding(grid: IntArray, label: npt.NDArray[Any], size_um: float, units: Units) -> npt.NDArray[np.str_]:
    """The label of the bin that holds each unit's centre."""
    place = pd.MultiIndex.from_arrays(list(cell_of(units.uv_um, size_um).T))
    known = pd.Series(label, index=pd.MultiIndex.from_arrays(list(grid.T)))
    return known[~known.index.duplicated()].reindex(place).fillna(NONE).to_numpy().astype(np.str_)


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        separator = "\t" if ".tsv" in path.suffixes else ","
        return pd.read_csv(path, sep=separator, dtype=str)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        msg = f"{path} is not a whole table: {str(error).splitlines()[0]}; wanted a barcode and a label a bin"
        raise DataError(msg) from error


def _most_frequent(centre: FloatArray, label: npt.NDArray[Any], units: Units) -> npt.NDArray[np.str_]:
    """The most frequent label within each unit; of equals the first in the alphabet."""
    side = _side(units)
    own = cell_of(units.uv_um, side)
    _, number = number_cells(np.concatenate([own, cell_of(centre, side)]))
    names, code = np.unique(label, return_inverse=True)
    count = pd.crosstab(number[len(own) :], code.reshape(-1))
    best = pd.Series(names[count.columns[count.to_numpy().argmax(axis=1)]], index=count.index)
    return best.reindex(number[: len(own)]).fillna(NONE).to_numpy().astype(np.str_)


def _side(units: Units) -> float:
    """Side of a unit in um: what lies between places of the grid."""
    grid: IntArray = units.grid
    far = int(np.argmax(grid.sum(axis=1)))
    return float(units.uv_um[far].sum() / (grid[far].sum() + 1))
