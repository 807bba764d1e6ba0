"""Correlation over the units of several slides together, from their stored sums."""

from collections.abc import Sequence

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.metrics.moments import CONSTANT, Moments


def pooled_correlation(slides: Sequence[Moments]) -> FloatArray:
    """What `pearson_pooled` gives for the predictions that the sums were made of.

    Args:
        slides: Moments of each slide over the same G genes.

    Returns:
        float64 [G]; 0 where the prediction is constant over all slides, NaN where the measurement is,
        constant meaning a millionth of the largest variance of the other genes.
    """
    n = np.array([slide.n.sum() for slide in slides])
    gap_p, gap_m = (
        _gaps(np.array(means), n) for means in ([s.mean_p for s in slides], [s.mean_m for s in slides])
    )
    pp = sum(s.pp.sum(axis=0) for s in slides) + n @ gap_p**2
    mm = sum(s.mm.sum(axis=0) for s in slides) + n @ gap_m**2
    pm = sum(s.pm.sum(axis=0) for s in slides) + n @ (gap_p * gap_m)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(pm / np.sqrt(pp * mm), -1, 1)
    return np.where(_flat(mm), np.nan, np.where(_flat(pp), 0.0, r))


def _gaps(means: FloatArray, n: FloatArray) -> FloatArray:
    """Each slide's mean less that over all units, [S, G]."""
    return np.asarray(means - n @ means / n.sum())


def _flat(squares: FloatArray) -> FloatArray:
    return np.asarray(squares <= CONSTANT**2 * squares.max(initial=0.0))
