"""Split counts at random into independent parts of less depth, and sum what the parts have in common."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse

from hdstbench.arrays import CSR, FloatArray, IntArray

Transform: TypeAlias = Callable[[IntArray, IntArray], FloatArray]
"""From counts [N, G] and library sizes [N] to targets [N, G], element by element."""
DEGREE = 3
"""Of the polynomial in the logarithm of the library size that is what depth alone explains."""


@dataclass(frozen=True, slots=True)
class Depth:
    """Counts of the panel, CSR [N, G], and library sizes over all genes, [N]."""

    counts: CSR
    library: IntArray

    def halves(self, rng: np.random.Generator) -> "tuple[Depth, Depth]":
        """Give each molecule to one of two halves by the toss of a coin.

        The molecules of all genes outside of the panel are tossed as one binomial. Given the shares of a
        unit's genes and the library sizes of its halves, the halves' counts are independent.
        """
        first = self.counts.copy()
        first.data = rng.binomial(self.counts.data, 0.5)
        second = self.counts.copy()
        second.data = self.counts.data - first.data
        rest = self.library - _row_sums(self.counts)
        library = _row_sums(first) + rng.binomial(rest, 0.5)
        return Depth(first, library), Depth(second, self.library - library)


def _row_sums(counts: CSR) -> IntArray:
    return np.asarray(counts.sum(axis=1)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Sums over the units of each of B groups for K parts of equal depth; G genes.

    Attributes:
        n: Units, [B].
        each: Sum of each part's values, [K, B, G].
        square: Sum over parts of squared values, [B, G].
        product: Sum over pairs of parts, in both orders, of their product, [B, G].
    """

    n: FloatArray
    each: FloatArray
    square: FloatArray
    product: FloatArray

    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Covariance between parts and variance of a part, [1 + B, G]: of all units, then without each group.

        NaN without the only group.
        """
        parts, n = len(self.each), _without_each(self.n)[:, None]
        n = np.where(n > 0, n, np.nan)
        each, square, product = (_without_each(a) / n for a in (self.each, self.square, self.product))
        own = (each**2).sum(axis=0)
        both = each.sum(axis=0) ** 2 - own
        return (product - both) / (parts * (parts - 1)), (square - own) / parts


def _without_each(sums: FloatArray) -> FloatArray:
    """The total and the total without each group, along the axis of groups: [..., B, G] or [B]."""
    axis = 0 if sums.ndim == 1 else -2
    total = sums.sum(axis=axis, keepdims=True)
    return np.concatenate([total, total - sums], axis=axis)


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws splits of counts whose units are sorted by group; `starts` [B] is where each group begins."""

    depth: Depth
    transform: Transform
    starts: IntArray

    def draw(self, rng: np.random.Generator) -> tuple[Shared, Shared, Shared]:
        """Split once: sums of halves, of quarters, and of halves less what the library size explains."""
        halves = self.depth.halves(rng)
        quarters = [quarter for half in halves for quarter in half.halves(rng)]
        values = [self.values(half) for half in halves]
        basis = polynomials(self.depth.library)
        rest = (v - basis @ (basis.T @ v) for v in values)
        return self._sum(iter(values)), self._sum(self.values(q) for q in quarters), self._sum(rest)

    def values(self, part: Depth) -> FloatArray:
        """Target of a part less its mean, [N, G]; a constant gene becomes 0 exactly."""
        values = self.transform(part.counts.toarray(), part.library)
        centred = values - values.mean(axis=0, dtype=np.float64).astype(values.dtype)
        centred[:, np.ptp(values, axis=0) == 0] = 0
        return np.asarray(centred)

    def _sum(self, parts: Iterator[FloatArray]) -> Shared:
        each: list[FloatArray] = []
        total, square = None, None
        for values in parts:
            each.append(self._by_group(values))
            total = values.copy() if total is None else total + values
            square = values**2 if square is None else square + values**2
        assert total is not None
        assert square is not None
        own = self._by_group(square)
        n = np.diff(np.append(self.starts, len(self.depth.library))).astype(np.float64)
        return Shared(n=n, each=np.array(each), square=own, product=self._by_group(total**2) - own)

    def _by_group(self, values: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(values, self.starts, axis=0), np.float64)


def polynomials(library: IntArray) -> FloatArray:
    """Orthonormal polynomials in the logarithm of library sizes up to the third degree, float32 [N, 4].

    Fewer than four columns where there are fewer sizes.
    """
    x = np.log1p(library.astype(np.float64))
    x = (x - x.mean()) / max(float(x.std()), 1e-12)
    basis, size = np.linalg.qr(np.vander(x, DEGREE + 1, increasing=True))
    full = np.abs(np.diag(size)) > 1e-6 * np.sqrt(len(x))
    return np.asarray(basis[:, full], np.float32)


def sparse_counts(counts: CSR | IntArray) -> CSR:
    """Counts as CSR of int64 without stored zeros.

    Raises:
        ValueError: If a count is negative.
    """
    out = sparse.csr_array(counts).astype(np.int64)
    if out.nnz and out.data.min() < 0:
        msg = f"counts cannot be negative, got {out.data.min()}"
        raise ValueError(msg)
    out.eliminate_zeros()
    return out
