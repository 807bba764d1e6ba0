"""Errors in units of the target, and skill against the training mean."""

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.metrics.correlation import check_pair


def mse(predicted: FloatArray, measured: FloatArray) -> float:
    """Mean squared error over all units and genes; inputs [N, G]."""
    check_pair(predicted, measured)
    return float(np.mean((predicted.astype(np.float64) - measured) ** 2))


def mae(predicted: FloatArray, measured: FloatArray) -> float:
    """Mean absolute error over all units and genes; inputs [N, G]."""
    check_pair(predicted, measured)
    return float(np.mean(np.abs(predicted.astype(np.float64) - measured)))


def mse_skill(predicted: FloatArray, measured: FloatArray, train_mean: FloatArray) -> float:
    """1 - sum of squared errors / that of the training mean: 0 is no better than it, 1 is perfect.

    Args:
        predicted: [N, G].
        measured: [N, G].
        train_mean: Mean target of the training units, [G].
    """
    check_pair(predicted, measured)
    ours = np.sum((predicted.astype(np.float64) - measured) ** 2)
    theirs = np.sum((train_mean.astype(np.float64)[None, :] - measured) ** 2)
    return float(1 - ours / theirs) if theirs > 0 else float(ours == 0)
