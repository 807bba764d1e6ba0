"""Errors in units of the target, and skill against the training mean."""

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.metrics.chunks import check_pair, row_chunks


def mse(predicted: FloatArray, measured: FloatArray) -> float:
    """Mean squared error over all units and genes; inputs [N, G]."""
    return float(mse_per_gene(predicted, measured).mean())


def mae(predicted: FloatArray, measured: FloatArray) -> float:
    """Mean absolute error over all units and genes; inputs [N, G]."""
    return float(mae_per_gene(predicted, measured).mean())


def mse_per_gene(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """Mean squared error over units, float64 [G]; inputs [N, G]."""
    check_pair(predicted, measured)
    sums = [((p - m) ** 2).sum(axis=0) for p, m in row_chunks(predicted, measured)]
    return np.asarray(np.sum(sums, axis=0) / len(measured))


def mae_per_gene(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """Mean absolute error over units, float64 [G]; inputs [N, G]."""
    check_pair(predicted, measured)
    sums = [np.abs(p - m).sum(axis=0) for p, m in row_chunks(predicted, measured)]
    return np.asarray(np.sum(sums, axis=0) / len(measured))


def mse_skill(predicted: FloatArray, measured: FloatArray, train_mean: FloatArray) -> float:
    """1 - sum of squared errors / that of the training mean: 0 is no better than it, 1 is perfect.

    Args:
        predicted: [N, G].
        measured: [N, G].
        train_mean: Mean target of the training units, [G].

    Returns:
        Where the training mean is right everywhere, 1 for a prediction that is too, else 0.
    """
    ours = mse(predicted, measured)
    theirs = mse(np.broadcast_to(train_mean.astype(np.float64), measured.shape), measured)
    return float(1 - ours / theirs) if theirs > 0 else float(ours == 0)
