"""Counts of one capture area, whatever file they lie in: totals, chosen rows, sums of groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

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

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[tuple[int, CSR]]:
        """Yield consecutive rows as (number of the first, int32 CSR)."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryCounts:
    """Counts that are in memory already."""

    matrix: CSR
    genes: Genes

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def chunks(self) -> Iterator[tuple[int, CSR]]:
        """Yield everything at once."""
        yield 0, self.matrix


def totals(counts: Counts) -> IntArray:
    """Library size of each unit over all genes, int64 [N]."""
    out = np.zeros(len(counts), np.int64)
    for start, rows in counts.chunks():
        out[start : start + rows.shape[0]] = rows.sum(axis=1)
    return out


def take(counts: Counts, rows: IntArray) -> CSR:
    """Return chosen rows in the order given, int32 [len(rows), G]."""
    order = np.argsort(rows, kind="stable")
    wanted, parts = rows[order], []
    for start, chunk in counts.chunks():
        here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + chunk.shape[0])]
        parts.append(chunk[here - start])
    return sparse.csr_array(sparse.vstack(parts, format="csr")[np.argsort(order, kind="stable")])


def sum_groups(counts: Counts, group: IntArray, groups: int) -> CSR:
    """Sum units into groups; group -1 is left out, int64 [groups, G]."""
    out = sparse.csr_array((groups, len(counts.genes)), dtype=np.int64)
    for start, chunk in counts.chunks():
        here = group[start : start + chunk.shape[0]]
        used = np.flatnonzero(here >= 0)
        ones = np.ones(len(used), np.int64)
        pick = sparse.csr_array((ones, (here[used], used)), shape=(groups, chunk.shape[0]))
        out = out + pick @ chunk
    return out
