"""Read a 10x feature-barcode matrix (HDF5, version 2) in chunks of bins.

The matrix is stored with one column a bin; only a few million of its entries are held at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy import sparse

from hdstbench.arrays import CSR, IntArray
from hdstbench.data.counts import Genes
from hdstbench.errors import DataError

CHUNK_ENTRIES = 4_000_000
KIND = "Gene Expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class H5Counts:
    """Counts in a file; `keep` maps the file's features to columns, -1 for other feature types."""

    path: Path
    genes: Genes
    barcodes: tuple[str, ...]
    indptr: IntArray
    keep: IntArray

    def __len__(self) -> int:
        return len(self.barcodes)

    def chunks(self) -> Iterator[tuple[int, CSR]]:
        """Yield consecutive bins, about `CHUNK_ENTRIES` counts at a time.

        Raises:
            DataError: If the file breaks off or holds a feature number that it has no name for.
        """
        start = 0
        try:
            with h5py.File(self.path) as file:
                while start < len(self):
                    limit = self.indptr[start] + CHUNK_ENTRIES
                    stop = int(np.searchsorted(self.indptr, limit, side="right")) - 1
                    stop = min(max(stop, start + 1), len(self))
                    yield start, self._rows(file["matrix"], start, stop)
                    start = stop
        except (OSError, KeyError, RuntimeError) as error:
            raise DataError(_broken(self.path, error)) from error

    def _rows(self, group: h5py.Group, start: int, stop: int) -> CSR:
        span = slice(int(self.indptr[start]), int(self.indptr[stop]))
        data = group["data"][span].astype(np.int32, copy=False)
        feature = group["indices"][span]
        if len(feature) and (feature.min() < 0 or feature.max() >= len(self.keep)):
            msg = f"{self.path}: feature number {feature.max()}, but only {len(self.keep)} features"
            raise DataError(msg)
        column = self.keep[feature]
        counted = column >= 0
        row = np.repeat(np.arange(stop - start), np.diff(self.indptr[start : stop + 1]))
        indptr = np.searchsorted(row[counted], np.arange(stop - start + 1))
        matrix = sparse.csr_array(
            (data[counted], column[counted], indptr), shape=(stop - start, len(self.genes))
        )
        matrix.sort_indices()
        return matrix


def read_matrix(path: Path) -> H5Counts:
    """Open a matrix: names and offsets are read and checked, counts are not.

    Raises:
        DataError: If it is no 10x matrix, is cut short, or contradicts itself.
    """
    try:
        with h5py.File(path) as file:
            group = file["matrix"]
            features = {name: _text(group["features"][name]) for name in ("id", "name")}
            kinds = _text(group["features"]["feature_type"])
            barcodes = tuple(_text(group["barcodes"]))
            indptr = group["indptr"][()].astype(np.int64)
            entries = len(group["data"]), len(group["indices"])
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(_broken(path, error)) from error
    _check(path, barcodes, indptr, entries)
    wanted = [i for i, kind in enumerate(kinds) if kind == KIND]
    keep = np.full(len(kinds), -1, np.int32)
    keep[wanted] = np.arange(len(wanted))
    ids = tuple(features["id"][i] for i in wanted)
    if len(set(ids)) != len(ids) or not ids:
        msg = f"{path}: {len(ids)} genes with {len(set(ids))} different ids; wanted unique gene ids"
        raise DataError(msg)
    genes = Genes(ids=ids, symbols=tuple(features["name"][i] for i in wanted))
    return H5Counts(path=path, genes=genes, barcodes=barcodes, indptr=indptr, keep=keep)


def _text(dataset: h5py.Dataset) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in dataset[()]]


def _check(path: Path, barcodes: tuple[str, ...], indptr: IntArray, entries: tuple[int, int]) -> None:
    problem = ""
    if len(indptr) != len(barcodes) + 1:
        problem = f"{len(indptr)} offsets for {len(barcodes)} barcodes, wanted one more than barcodes"
    elif indptr[0] != 0 or (np.diff(indptr) < 0).any():
        problem = "offsets (indptr) that do not rise from 0"
    elif indptr[-1] != entries[0] or entries[0] != entries[1]:
        problem = f"{entries[0]} counts and {entries[1]} feature numbers, but offsets up to {indptr[-1]}"
    elif len(set(barcodes)) != len(barcodes):
        problem = f"{len(barcodes) - len(set(barcodes))} repeated barcodes"
    if problem:
        msg = f"{path}: {problem}; the file is damaged, fetch it again"
        raise DataError(msg)


def _broken(path: Path, error: Exception) -> str:
    reason = str(error).split("(")[0].strip().strip("'\"") or type(error).__name__
    if not path.exists():
        return f"{path} is not there; wanted a 10x feature-barcode matrix"
    return f"{path} is not a whole 10x feature-barcode matrix: {reason}; fetch it again"
