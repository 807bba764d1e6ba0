"""Pearson correlations, each with its axis in its name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.metrics.chunks import check_finite, check_pair, check_shapes, row_chunks
from hdstbench.metrics.fast import correlate, suits

BIN_EPSILON = 1e-8
"""Stands under the root of the paper's correlation (MagNet, `calculate_pcc`)."""
SAFE = (1e-200, 1e200)
"""Products of sums of squares within have lost nothing to the range of float64."""


def pearson_per_gene(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """Correlate prediction and measurement over units, separately for each gene.

    It asks whether the spatial pattern of a gene is right. It is blind to a gene's scale and
    offset, so report it beside an error in units.

    Args:
        predicted: [N, G], in the task's target space.
        measured: [N, G], same units and genes.

    Returns:
        float64 [G] in [-1, 1]; NaN for a gene that is constant in either input, so that the caller
        decides how such genes count and cannot miss that they exist.

    Raises:
        ValueError: If the shapes differ, N < 2, or a value is not finite.

    Reference:
        Pearson, "Note on regression and inheritance in the case of two parents", 1895.
    """
    check_shapes(predicted, measured)
    if not suits(predicted, measured):
        check_finite(predicted, measured)
        return pearson_pooled([(predicted, measured)])
    r, doubtful = correlate(predicted, measured)
    if doubtful.any():
        left = np.ascontiguousarray(predicted[:, doubtful]), np.ascontiguousarray(measured[:, doubtful])
        check_finite(*left)
        r[doubtful] = pearson_pooled([left])
    return r


def pearson_pooled(parts: Sequence[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Correlate over the units of several slides together, separately for each gene.

    Pooled, it rewards knowing each slide's mean: a predictor without any pattern within slides scores on
    slides that differ. It is what HEST reports, and no headline here.

    Args:
        parts: Prediction and measurement of each slide, [N, G] each.

    Returns:
        float64 [G] as of `pearson_per_gene`.
    """
    sums = _sums(parts)
    product = sums.pp * sums.mm
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(sums.pm / np.sqrt(product), -1, 1)
    for gene in np.flatnonzero(~((product > SAFE[0]) & (product < SAFE[1]))):
        r[gene] = _pearson_scaled(
            *(np.concatenate([part[side][:, gene] for part in parts]) for side in (0, 1))
        )
    return r


@dataclass(slots=True)
class _Sums:
    """Centred sums of squares and products over the units so far, [G] each."""

    n: int
    mean_p: FloatArray
    mean_m: FloatArray
    pp: FloatArray
    mm: FloatArray
    pm: FloatArray

    def add(self, p: FloatArray, m: FloatArray) -> None:
        """Join a chunk by the update of Chan, Golub and LeVeque, "Updating formulae", 1979."""
        count, total = len(p), self.n + len(p)
        mean_p, mean_m = p.mean(axis=0), m.mean(axis=0)
        p -= mean_p
        m -= mean_m
        gap_p, gap_m = mean_p - self.mean_p, mean_m - self.mean_m
        share = self.n * count / total
        self.pp += np.einsum("ng,ng->g", p, p) + share * gap_p * gap_p
        self.mm += np.einsum("ng,ng->g", m, m) + share * gap_m * gap_m
        self.pm += np.einsum("ng,ng->g", p, m) + share * gap_p * gap_m
        self.mean_p += gap_p * count / total
        self.mean_m += gap_m * count / total
        self.n = total


def _sums(parts: Sequence[tuple[FloatArray, FloatArray]]) -> _Sums:
    """Sums of all parts, each value less the first row, so that a constant gene is 0 exactly."""
    first_p, first_m = (np.asarray(array[0], np.float64) for array in parts[0])
    sums = _Sums(0, *(np.zeros(len(first_p)) for _ in range(5)))
    for predicted, measured in parts:
        for p, m in row_chunks(predicted, measured):
            sums.add(p - first_p, m - first_m)
    return sums


def _pearson_scaled(predicted: FloatArray, measured: FloatArray) -> float:
    """One gene, [N] each, whose squares are 0 or leave the range of float64: values are brought to size 1."""
    if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return float("nan")
    p, m = _sized(predicted), _sized(measured)
    return float(np.clip(p @ m / np.sqrt((p @ p) * (m @ m)), -1, 1))


def _sized(values: FloatArray) -> FloatArray:
    centred = values - values.mean(dtype=np.float64)
    return np.asarray(centred / np.abs(centred).max())


def pearson_per_unit(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """Correlate over genes, separately for each unit: what the MagNet paper calls PCC.

    A predictor that never sees the image scores 0.3-0.5 on it, for it rewards knowing which genes
    are high everywhere. A unit whose genes are all alike counts as 0.

    Args:
        predicted: [N, G], in the task's target space.
        measured: [N, G].

    Returns:
        float64 [N] in [-1, 1], with 1e-8 under the root.

    Raises:
        ValueError: If the shapes differ, N < 2, or a value is not finite.
    """
    check_pair(predicted, measured)
    return np.concatenate([_per_unit(p, m) for p, m in row_chunks(predicted, measured)])


def _per_unit(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    p = predicted - predicted.mean(axis=1, keepdims=True)
    m = measured - measured.mean(axis=1, keepdims=True)
    both = np.einsum("ng,ng->n", p, p) * np.einsum("ng,ng->n", m, m)
    return np.asarray(np.einsum("ng,ng->n", p, m) / np.sqrt(both + BIN_EPSILON))
