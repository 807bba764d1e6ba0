"""The formulas of targets: each takes counts of one slide's units to values, and fits nothing by itself.

All are of one form, y = offset + slope x ln(1 + rate x count), in which rate belongs to a unit, slope to a
gene and offset to either. So expectations over counts are computed alike for all of them.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hdstbench.arrays import CSR, FloatArray, IntArray

Counts: TypeAlias = FloatArray | IntArray | CSR
Library: TypeAlias = FloatArray | IntArray
SCALE = 10_000.0
EPSILON = 1e-8
"""Added to the range of a gene, as in EGN's code."""


@dataclass(frozen=True, slots=True)
class Curve:
    """y = offset + slope x ln(1 + rate x count), float64; rate [N, 1], the others broadcast to [N, G]."""

    rate: FloatArray
    slope: FloatArray | float = 1.0
    offset: FloatArray | float = 0.0

    def __call__(self, counts: FloatArray | IntArray) -> FloatArray:
        """Values of counts, [N, G]."""
        return np.asarray(self.offset + self.slope * np.log1p(counts * self.rate))


@dataclass(frozen=True, slots=True)
class Fit:
    """What transforms take from the training units of a fold.

    Attributes:
        genes: Gene ids in the tables of the training slides, all of them.
        columns: Columns of the headline panel among the genes that are predicted.
        low: Least raw count of each gene over all training units, [G].
        high: Largest raw count of each gene, [G].
    """

    genes: int = 0
    columns: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def of_library(library: Library, scale: float) -> Curve:
    """ln(1 + count / library x scale), library over all genes; 0 where it is empty.

    Source: scanpy's `normalize_total` and `log1p`, with `target_sum` = 10,000 or a median library size.
    """
    return Curve((scale / np.maximum(library, 1))[:, None])


def triplex_release(counts: Counts, _: Library, fit: Fit) -> Curve:
    """log10(1 + 10,000 x count / sum over the panel); 0 where the panel has no counts.

    The sum is over the headline genes alone, so marker genes change nothing. Source: code of TRIPLEX (Chung
    et al., CVPR 2024): scprep's library size normalisation of the chosen genes, then its log, base 10.
    """
    total = np.asarray(counts[:, list(fit.columns)].sum(axis=1)).reshape(-1)
    return Curve((SCALE / np.where(total > 0, total, 1))[:, None], slope=1 / np.log(10))


def stnet_log(_: Counts, library: Library, fit: Fit) -> Curve:
    """ln((1 + count) / (genes + library)), genes those of the training tables, library over all genes.

    Negative, and not 0 where the count is. Source: code of ST-Net (He et al., Nature BME 2020).
    """
    return Curve(np.ones((len(library), 1)), offset=-np.log(fit.genes + np.asarray(library))[:, None])


def hest_log1p(_: Counts, library: Library, __: Fit) -> Curve:
    """ln(1 + count): depth is not taken out. Source: code of HEST-Bench (Jaume et al., NeurIPS 2024)."""
    return Curve(np.ones((len(library), 1)))


def egn_minmax(_: Counts, library: Library, fit: Fit) -> Curve:
    """(log10(1 + count) - m) / (M - m + 1e-8), m and M a gene's least and largest over training units.

    Units of other slides may leave [0, 1]. Source: code of EGN (Yang et al., WACV 2023).
    """
    low, high = np.log10(1 + np.array([fit.low, fit.high]))
    width = high - low + EPSILON
    return Curve(np.ones((len(library), 1)), slope=1 / np.log(10) / width, offset=-low / width)
