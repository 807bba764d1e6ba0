"""Predictions that were made elsewhere: read from a file, checked, and laid beside a slide's units."""

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.slide import Slide
from hdstbench.sweep.cell import KEY, PREDICTIONS, SLIDE

PLACE = ("slide", "array_row", "array_col")
MOST_BYTES = 16 * 2**30
FORMATS = ".npz, .h5ad or .parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What a file predicts.

    Attributes:
        genes: Ids of its G columns.
        values: By slide, [N, G].
        grid: Row and column of each unit, [N, 2]; missing in an .npz, whose units stand as prepared.
        keys: Hash of each slide's prepared pixels and places, of an .npz.
        sha256: Of the file.
    """

    path: Path
    genes: tuple[str, ...]
    values: Mapping[str, FloatArray]
    grid: Mapping[str, IntArray] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""


def read_submitted(path: Path) -> Submitted:
    """Read predictions: a cell's folder or its .npz, an .h5ad as `data export` writes it, or a .parquet.

    No code is ever loaded from it: pickled arrays are refused.

    Raises:
        MissingError: If it is not there.
        DataError: If it is of another format, too large, damaged, or lacks places.
    """
    path = path / PREDICTIONS if path.is_dir() else path
    if not path.is_file():
        msg = f"no predictions at {path}; wanted {FORMATS}, or the folder of a cell"
        raise MissingError(msg)
    if path.stat().st_size > MOST_BYTES:
        size, most = (number / 2**30 for number in (path.stat().st_size, MOST_BYTES))
        msg = f"{path} holds {size:.0f} GiB; files of more than {most:.0f} GiB are not read"
        raise DataError(msg)
    if path.suffix not in READERS:
        msg = f"{path} is no file of predictions; wanted {FORMATS}"
        raise DataError(msg)
    try:
        return READERS[path.suffix](path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ImportError) as error:
        if isinstance(error, DataError):
            raise
        msg = f"{path} cannot be read as predictions ({' '.join(str(error).split())[:200]})"
        raise DataError(msg) from error


def sha256_of_file(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_npz(path: Path) -> Submitted:
    with np.load(path, allow_pickle=False) as file:
        names = [name.removeprefix(SLIDE) for name in file.files if name.startswith(SLIDE)]
        return Submitted(
            path=path,
            genes=tuple(file["genes"].astype(str).tolist()),
            values={name: file[SLIDE + name] for name in names},
            keys={name: str(file[KEY + name]) for name in names if KEY + name in file.files},
            sha256=sha256_of_file(path),
        )


def _read_h5ad(path: Path) -> Submitted:
    from anndata import read_h5ad  # noqa: PLC0415 - slow, and not needed for other formats

    found = read_h5ad(path)
    dense = found.X if isinstance(found.X, np.ndarray) else found.X.toarray()
    return _placed(
        path, found.obs.reset_index(drop=True), tuple(map(str, found.var_names)), np.asarray(dense)
    )


def _read_parquet(path: Path) -> Submitted:
    table = pd.read_parquet(path)
    genes = tuple(str(name) for name in table.columns if name not in PLACE)
    return _placed(path, table, genes, table[list(genes)].to_numpy(np.float32))


def _placed(path: Path, obs: pd.DataFrame, genes: tuple[str, ...], values: FloatArray) -> Submitted:
    missing = [name for name in PLACE if name not in obs]
    if missing:
        names = ", ".join(PLACE)
        msg = f"{path} lacks {', '.join(missing)}; wanted {names} of every unit, as data export writes them"
        raise DataError(msg)
    rows = {
        str(name): np.asarray(index) for name, index in obs.groupby("slide", observed=True).indices.items()
    }
    grid = obs[["array_row", "array_col"]].to_numpy(np.int64)
    return Submitted(
        path=path,
        genes=genes,
        values={name: values[index] for name, index in rows.items()},
        grid={name: grid[index] for name, index in rows.items()},
        sha256=sha256_of_file(path),
    )


READERS: Mapping[str, Callable[[Path], Submitted]] = {
    ".npz": _read_npz,
    ".h5ad": _read_h5ad,
    ".parquet": _read_parquet,
}


def lay_beside(found: Submitted, slide: Slide) -> FloatArray:
    """Predictions of all prepared units of a slide, in their order and that of its genes, [N, G].

    Units and genes that the task does not ask for are passed over.

    Raises:
        DataError: If units or genes are missing or twice there, or an .npz is of other prepared units.
    """
    place = {gene: i for i, gene in enumerate(found.genes)}
    if len(place) < len(found.genes):
        msg = f"{found.path} has {len(found.genes) - len(place)} genes twice; wanted each once"
        raise DataError(msg)
    lacking = [gene for gene in slide.genes if gene not in place]
    if lacking:
        many = f"{len(lacking)} of the {len(slide.genes)} genes"
        msg = f"{found.path} lacks {many} of this fold, such as {lacking[0]}"
        raise DataError(msg)
    values = found.values[slide.id]
    if values.ndim != 2 or values.shape[1] != len(found.genes):  # noqa: PLR2004
        msg = f"{found.path}: {slide.id} has shape {values.shape}, wanted units x {len(found.genes)} genes"
        raise DataError(msg)
    rows = _by_place(found, slide) if slide.id in found.grid else _as_prepared(found, slide)
    return np.asarray(values[rows][:, [place[gene] for gene in slide.genes]], np.float32)


def _by_place(found: Submitted, slide: Slide) -> IntArray:
    at = {(row, col): i for i, (row, col) in enumerate(found.grid[slide.id].tolist())}
    twice = len(found.grid[slide.id]) - len(at)
    if twice:
        msg = f"{found.path}: {twice} units of {slide.id} stand there twice; wanted each once"
        raise DataError(msg)
    missing = [pair for pair in map(tuple, slide.grid.tolist()) if pair not in at]
    if missing:
        row, col = missing[0]
        msg = (
            f"{found.path} lacks {len(missing)} of the {len(slide)} units of {slide.id}, such as array_row "
            f"{row}, array_col {col}; predict all units that `hdstbench data export` lists"
        )
        raise DataError(msg)
    return np.array([at[tuple(pair)] for pair in slide.grid.tolist()], np.int64)


def _as_prepared(found: Submitted, slide: Slide) -> IntArray:
    units = len(found.values[slide.id])
    if found.keys.get(slide.id) != slide.key or units != len(slide):
        msg = (
            f"{found.path}: its {units} units of {slide.id} are not the {len(slide)} of this task; "
            "an .npz has to come from a run on the same prepared slides (key/SLIDE says so); else take .h5ad"
        )
        raise DataError(msg)
    return np.arange(len(slide))
