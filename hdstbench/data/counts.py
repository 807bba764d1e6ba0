"""Counts of one capture area, whatever file they lie in: library sizes, and sums of chosen units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse
from typing_extensions import override

from hdstbench.arrays import CSR, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Genes:
    """The columns of a count matrix; an id is unique, a symbol need not be."""

    ids: tuple[str, ...]
    symbols: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


class Counts(Protocol):
    """Raw counts of N units x G genes that need not fit into memory."""

    @property
    def genes(self) -> Genes:
        """The columns."""
        ...

    @property
    def software(self) -> str:
        """What wrote the file, "" if it does not say."""
        return ""

    def __len__(self) -> int: ...

    def totals(self) -> IntArray:
        """Library size of each unit over all genes, int64 [N]."""
        ...

    def sums(self, *picks: CSR) -> list[CSR]:
        """Sum units, in one reading: a pick [M, N] holds 1 where a unit counts; integers [M, G] each."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryCounts(Counts):
    """Counts that are in memory already, [N, G]."""

    matrix: CSR
    genes: Genes

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    @override
    def totals(self) -> IntArray:
        return np.asarray(self.matrix.sum(axis=1)).ravel().astype(np.int64)

    @override
    def sums(self, *picks: CSR) -> list[CSR]:
        return [sparse.csr_array(narrow(pick) @ self.matrix) for pick in picks]


@dataclass(frozen=True, slots=True)
class GroupedCounts(Counts):
    """Groups of the units of other counts, such as 8 um bins of 2 um squares.

    `group` [N of base] numbers the group of each unit, -1 for none.
    """

    base: Counts
    group: IntArray
    count: int

    @property
    def genes(self) -> Genes:
        """The columns."""
        return self.base.genes

    @property
    @override
    def software(self) -> str:
        return self.base.software

    def __len__(self) -> int:
        return self.count

    @override
    def totals(self) -> IntArray:
        inside = self.group >= 0
        summed = np.bincount(self.group[inside], self.base.totals()[inside], minlength=self.count)
        return summed.astype(np.int64)

    @override
    def sums(self, *picks: CSR) -> list[CSR]:
        members = picks_groups(self.group, self.count)
        return self.base.sums(*(sparse.csr_array(pick @ members) for pick in picks))


def narrow(pick: CSR) -> CSR:
    """A pick of 32 bits, with which sums take a quarter of the time."""
    small = np.int32 if max(pick.nnz, *pick.shape) < np.iinfo(np.int32).max else np.int64
    parts = (pick.data.astype(np.int32), pick.indices.astype(small), pick.indptr.astype(small))
    return sparse.csr_array(parts, shape=pick.shape)


def picks_groups(group: IntArray, groups: int) -> CSR:
    """What sums units into groups, int64 [groups, N]; group -1 is left out."""
    used = np.flatnonzero(group >= 0)
    ones = np.ones(len(used), np.int64)
    return sparse.csr_array((ones, (group[used], used)), shape=(groups, len(group)))


def picks_rows(rows: IntArray, units: int) -> CSR:
    """What takes chosen units in the order given, int64 [len(rows), units]."""
    ones = np.ones(len(rows), np.int64)
    return sparse.csr_array((ones, (np.arange(len(rows)), rows)), shape=(len(rows), units))


def gather(counts: Counts, wanted: Mapping[str, CSR]) -> dict[str, CSR]:
    """Several sums in one reading of the counts, by name."""
    return dict(zip(wanted, counts.sums(*wanted.values()), strict=True))
