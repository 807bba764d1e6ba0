"""Feature-barcode matrices of 10x Genomics (HDF5), read in chunks: the whole is never in memory.

The layout is that of Cell Ranger 3 and later: `/matrix` holds features x barcodes by columns, so a
column is a bin. Barcodes come in any order, bins may be empty, symbols may repeat.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from scipy import sparse
from typing_extensions import override

from hdstbench.arrays import CSR, IntArray
from hdstbench.data.barcodes import CHUNK, Names, repeated
from hdstbench.data.counts import Counts, Genes, narrow
from hdstbench.errors import DataError

CHUNK_ENTRIES = 4_000_000
MERGE_ENTRIES, MERGE_ROWS = 4_000_000, 4_096
KIND = "Gene Expression"
BROKEN = (OSError, KeyError, RuntimeError, TypeError, ValueError, IndexError)
"""What h5py and numpy raise on files that are no matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class H5Counts(Counts):
    """Counts in a file.

    Attributes:
        barcodes: Names of the N bins, in the file's order.
        indptr: Where each bin's entries begin, int64 [N + 1].
        keep: Column of each of the file's features, -1 for those of another type.
        software: What wrote the file; empty if it does not say.
    """

    path: Path
    genes: Genes
    barcodes: Names
    indptr: IntArray
    keep: IntArray
    software: str = ""

    def __len__(self) -> int:
        return len(self.barcodes)

    @override
    def totals(self) -> IntArray:
        out = np.zeros(len(self), np.int64)
        for span, chunk in self._chunks(np.ones(len(self), bool)):
            out[span] = np.asarray(chunk.sum(axis=1)).ravel()
        return out

    @override
    def sums(self, *picks: CSR) -> list[CSR]:
        """See Counts; chunks without a picked bin are not read.

        Raises:
            DataError: If the file breaks off or contradicts itself.
        """
        sums = [_Sum(pick, len(self.genes)) for pick in picks]
        wanted = np.zeros(len(self), bool)
        for one in sums:
            wanted |= np.diff(one.columns.indptr) > 0
        for span, chunk in self._chunks(wanted):
            for one in sums:
                one.add(span, chunk)
        return [one.total() for one in sums]

    def _chunks(self, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[slice, CSR]]:
        """Consecutive bins, about `CHUNK_ENTRIES` entries at a time, that hold any wanted one."""
        start = 0
        try:
            with h5py.File(self.path) as file:
                while start < len(self):
                    limit = self.indptr[start] + CHUNK_ENTRIES
                    stop = int(np.searchsorted(self.indptr, limit, side="right")) - 1
                    stop = min(max(stop, start + 1), len(self))
                    if wanted[start:stop].any():
                        yield slice(start, stop), self._rows(file["matrix"], start, stop)
                    start = stop
        except (OSError, KeyError, RuntimeError) as error:
            raise DataError(_broken(self.path, error)) from error

    def _rows(self, group: h5py.Group, start: int, stop: int) -> CSR:
        span = slice(int(self.indptr[start]), int(self.indptr[stop]))
        data = group["data"][span]
        feature = group["indices"][span].astype(np.int32)
        if len(feature) and (feature.min() < 0 or feature.max() >= len(self.keep)):
            msg = f"{self.path}: feature number {feature.max()}, but only {len(self.keep)} features"
            raise DataError(msg)
        if data.dtype.kind not in "iu" and (data != np.floor(data)).any():
            msg = f"{self.path} holds values that are no whole numbers; wanted raw UMI counts"
            raise DataError(msg)
        if len(data) and data.min() < 0:
            msg = f"{self.path} holds counts below 0; wanted raw UMI counts"
            raise DataError(msg)
        indptr = (self.indptr[start : stop + 1] - self.indptr[start]).astype(np.int32)
        column = self.keep[feature]
        counted = column >= 0
        if not counted.all():
            indptr = np.concatenate([[0], np.cumsum(counted)])[indptr].astype(np.int32)
            data, column = data[counted], column[counted]
        shape = (stop - start, len(self.genes))
        return sparse.csr_array((data.astype(np.int32, copy=False), column, indptr), shape=shape)


class _Sum:
    """Sums of picked bins that grow chunk by chunk."""

    def __init__(self, pick: CSR, genes: int) -> None:
        self.columns = sparse.csc_array(narrow(pick))
        self._shape = (int(pick.shape[0]), genes)
        self._parts: list[CSR] = []
        self._known = self._held = 0

    def add(self, span: slice, chunk: CSR) -> None:
        """Add the bins of a chunk; what has gathered is joined when it outgrows what was joined before."""
        part: CSR = sparse.csr_array(self.columns[:, span]) @ chunk
        if part.nnz:
            self._parts.append(part)
            self._held += part.nnz
        if self._held > max(MERGE_ENTRIES, self._known):
            self._parts = [self.total()]
            self._known, self._held = self._parts[0].nnz, 0

    def total(self) -> CSR:
        """The sums so far: entries are laid side by side row by row, then equal columns are joined."""
        if len(self._parts) == 1:
            return self._parts[0]
        width = np.zeros(self._shape[0], np.int64)
        for part in self._parts:
            width += np.diff(part.indptr)
        indptr = np.concatenate([[0], np.cumsum(width)])
        indices, data = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.int32)
        free = indptr[:-1].copy()
        for part in self._parts:
            for first in range(0, self._shape[0], MERGE_ROWS):
                rows = slice(first, first + MERGE_ROWS)
                bounds = part.indptr[first : first + MERGE_ROWS + 1]
                count, span = np.diff(bounds), slice(bounds[0], bounds[-1])
                place = np.repeat(free[rows] - bounds[:-1], count) + np.arange(bounds[0], bounds[-1])
                indices[place], data[place] = part.indices[span], part.data[span]
                free[rows] += count
        narrow = np.int32 if indptr[-1] < 2**31 else np.int64  # or scipy widens every index
        out = sparse.csr_array((data, indices, indptr.astype(narrow)), shape=self._shape)
        out.sum_duplicates()
        return out.copy()  # at its own size: what duplicates took is kept otherwise


def read_matrix(path: Path, genes: Genes | None = None) -> H5Counts:
    """Open a matrix: names and offsets are read and checked, counts are not.

    Args:
        path: The .h5.
        genes: Columns that are wanted, found by id; all genes of the file by default.

    Raises:
        DataError: If it is no 10x matrix, is cut short, or contradicts itself.
    """
    try:
        with h5py.File(path) as file:
            group = file["matrix"]
            features = _features(group)
            barcodes = _names(group["barcodes"])
            indptr = group["indptr"][:].astype(np.int64)
            entries = len(group["data"]), len(group["indices"])
            software = _word(file.attrs.get("software_version", ""))
    except BROKEN as error:
        raise DataError(_broken(path, error)) from error
    _check(path, barcodes, indptr, entries)
    found = _genes(path, features)
    keep = np.full(len(features["id"]), -1, np.int32)
    place = {name: column for column, name in enumerate((genes or found).ids)}
    for number, name in enumerate(features["id"]):
        if features["feature_type"][number] == KIND:
            keep[number] = place.pop(name, -1)
    if place:
        msg = f"{path} lacks {len(place)} of {len(genes or found)} genes, such as {next(iter(place))}"
        raise DataError(msg)
    return H5Counts(
        path=path, genes=genes or found, barcodes=barcodes, indptr=indptr, keep=keep, software=software
    )


def read_genes(path: Path) -> Genes:
    """The genes of a matrix.

    Raises:
        DataError: If it is no 10x matrix or repeats a gene id.
    """
    try:
        with h5py.File(path) as file:
            return _genes(path, _features(file["matrix"]))
    except BROKEN as error:
        raise DataError(_broken(path, error)) from error


def _features(group: h5py.Group) -> dict[str, list[str]]:
    columns = {name: _text(group["features"][name]) for name in ("id", "name", "feature_type")}
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{len(values)} {name}" for name, values in columns.items())
        msg = f"features have {lengths}"
        raise ValueError(msg)
    return columns


def _genes(path: Path, features: dict[str, list[str]]) -> Genes:
    counted = [i for i, kind in enumerate(features["feature_type"]) if kind == KIND]
    ids = tuple(features["id"][i] for i in counted)
    if len(set(ids)) != len(ids) or not ids:
        msg = f"{path}: {len(ids)} genes with {len(set(ids))} different ids; wanted unique gene ids"
        raise DataError(msg)
    return Genes(ids=ids, symbols=tuple(features["name"][i] for i in counted))


def _text(dataset: h5py.Dataset) -> list[str]:
    return [_word(value) for value in dataset[()]]


def _word(value: Any) -> str:  # noqa: ANN401 - HDF5 strings come as str, bytes or numpy bytes
    return value.decode() if isinstance(value, bytes) else str(value)


def _names(dataset: h5py.Dataset) -> Names:
    """Names as fixed-width bytes; raw files pad them to 45 letters, which would double the memory."""
    parts = []
    for start in range(0, len(dataset), CHUNK):
        values = dataset[start : start + CHUNK]
        if values.dtype.kind not in "SO":
            msg = f"barcodes are {values.dtype}, no names"
            raise TypeError(msg)
        text = values if values.dtype.kind == "S" else np.array([_word(v) for v in values], "S")
        parts.append(text.astype(f"S{max(1, int(np.char.str_len(text).max()))}"))
    return np.concatenate(parts) if parts else np.zeros(0, "S1")


def _check(path: Path, barcodes: Names, indptr: IntArray, entries: tuple[int, int]) -> None:
    problem = ""
    if indptr.ndim != 1 or barcodes.ndim != 1:
        problem = "offsets or barcodes that are no list"
    elif len(indptr) != len(barcodes) + 1:
        problem = f"{len(indptr)} offsets for {len(barcodes)} barcodes, wanted one more than barcodes"
    elif indptr[0] != 0 or (np.diff(indptr) < 0).any():
        problem = "offsets (indptr) that do not rise from 0"
    elif indptr[-1] != entries[0] or entries[0] != entries[1]:
        problem = f"{entries[0]} counts and {entries[1]} feature numbers, but offsets up to {indptr[-1]}"
    elif len(barcodes) == 0:
        problem = "no barcode"
    elif (same := repeated(barcodes)) > 0:
        problem = f"{same} repeated barcodes"
    if problem:
        msg = f"{path}: {problem}; the file is damaged, fetch it again"
        raise DataError(msg)


def _broken(path: Path, error: Exception) -> str:
    reason = str(error).split("(")[0].strip().strip("'\"") or type(error).__name__
    if not path.exists():
        return f"{path} is not there; wanted a 10x feature-barcode matrix"
    if isinstance(error, PermissionError):
        return f"{path} cannot be read: permission denied"
    return f"{path} is not a whole 10x feature-barcode matrix: {reason}; fetch it again"
