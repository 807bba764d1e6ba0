"""Sums a block and gene, from which every interval is computed without the predictions."""

from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import FloatArray, IntArray

CONSTANT = 1e-6
"""Share of a gene's variance on the slide below which blocks are constant; stored sums are float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Sums over the units of each block; B blocks, G genes; p predicted, m measured, slide-centred.

    Attributes:
        n: Units of each block, [B].
        p: Sum of p, [B, G].
        m: Sum of m.
        pp: Sum of p squared.
        mm: Sum of m squared.
        pm: Sum of p m.
        ad: Sum of |prediction - measurement|, not centred.
        mean_p: The slide's mean of the prediction, which p was centred by, [G].
        mean_m: The slide's mean of the measurement.
    """

    n: FloatArray
    p: FloatArray
    m: FloatArray
    pp: FloatArray
    mm: FloatArray
    pm: FloatArray
    ad: FloatArray
    mean_p: FloatArray
    mean_m: FloatArray


def block_moments(predicted: FloatArray, measured: FloatArray, block: IntArray) -> Moments:
    """Sum a slide's values by block.

    Args:
        predicted: [N, G].
        measured: [N, G].
        block: Block of each unit, numbered 0, 1, ..., [N].
    """
    p, m = _centred(predicted), _centred(measured)
    order = np.argsort(block, kind="stable")
    starts = np.searchsorted(block[order], np.arange(int(block.max()) + 1))
    n = np.bincount(block).astype(np.float64)

    def summed(values: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(values[order], starts, axis=0))

    return Moments(
        n=n,
        p=summed(p),
        m=summed(m),
        pp=summed(p * p),
        mm=summed(m * m),
        pm=summed(p * m),
        ad=summed(np.abs(predicted.astype(np.float64) - measured)),
        mean_p=predicted.mean(axis=0, dtype=np.float64),
        mean_m=measured.mean(axis=0, dtype=np.float64),
    )


def _centred(values: FloatArray) -> FloatArray:
    """Take the mean of each column away; a constant column becomes 0 exactly."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    centred[:, np.ptp(values, axis=0) == 0] = 0
    return np.asarray(centred)


def correlation_of(weights: FloatArray, moments: Moments) -> FloatArray:
    """Correlation per gene of weighted blocks.

    Args:
        weights: How often each block is drawn, [R, B].
        moments: Of one slide.

    Returns:
        float64 [R, G]; 0 where the prediction is constant, NaN where the measurement is, constant
        meaning less than a millionth of its variance on the whole slide.
    """
    n = (weights @ moments.n)[:, None]
    p, m = weights @ moments.p / n, weights @ moments.m / n
    var_p, var_m = weights @ moments.pp / n - p * p, weights @ moments.mm / n - m * m
    cov = weights @ moments.pm / n - p * m
    flat_p = var_p <= CONSTANT * moments.pp.sum(axis=0) / moments.n.sum()
    flat_m = var_m <= CONSTANT * moments.mm.sum(axis=0) / moments.n.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(cov / np.sqrt(var_p * var_m), -1, 1)
    return np.where(flat_m, np.nan, np.where(flat_p, 0.0, r))
