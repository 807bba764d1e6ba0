"""Blocks for the bootstrap: wide enough that what lies in two of them is nearly independent."""

import numpy as np
from scipy.spatial import cKDTree

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.rng import stream

MIN_BLOCKS = 25
SHRINK = 0.95
LAGS = 24
MAX_UNITS = 1_500
NOISE = 0.01
"""Correlations below this are taken for none."""


def residual_range(xy_um: FloatArray, residual: FloatArray, step_um: float, name: str) -> float:
    """Distance over which residuals are correlated.

    The correlation of residuals at growing distance, averaged over genes, is followed until it
    falls to 1/e of its value at the first step, or below 0.01.

    Args:
        xy_um: Places, [N, 2].
        residual: Prediction minus measurement, [N, G].
        step_um: Width of a step; the pitch of units at least.
        name: Names the draw of units on large slides.

    Returns:
        um; 0 if neighbours are not correlated at all.
    """
    if len(xy_um) > MAX_UNITS:  # whole neighbourhoods: the units nearest to a few places
        xy_um, residual = _thin(xy_um, residual, name)
    size = residual.std(axis=0)
    z = (residual - residual.mean(axis=0))[:, size > 0] / size[size > 0]
    if len(z) < 3 or z.shape[1] == 0:  # noqa: PLR2004 - no pairs to speak of
        return 0.0
    pairs = cKDTree(xy_um).query_pairs(LAGS * step_um, output_type="ndarray")
    lag = np.linalg.norm(xy_um[pairs[:, 0]] - xy_um[pairs[:, 1]], axis=1) / step_um
    bins = np.clip(np.ceil(lag - 0.5).astype(int), 1, LAGS) - 1
    product = (z @ z.T)[pairs[:, 0], pairs[:, 1]] / z.shape[1]
    count = np.bincount(bins, minlength=LAGS)
    mean = np.bincount(bins, product, minlength=LAGS) / np.maximum(count, 1)
    first = int(np.argmax(count > 0))
    floor = max(NOISE, mean[first] / np.e)
    below = np.flatnonzero((mean < floor) & (count > 0) & (np.arange(LAGS) >= first))
    steps = below[0] if len(below) else LAGS
    return float(steps * step_um)


def _thin(xy_um: FloatArray, residual: FloatArray, name: str) -> tuple[FloatArray, FloatArray]:
    centres = stream("residual-range", name).choice(len(xy_um), 6, replace=False)
    _, near = cKDTree(xy_um).query(xy_um[centres], k=MAX_UNITS // 6)
    rows = np.unique(near)
    return xy_um[rows], residual[rows]


def widest_blocks(xy_um: FloatArray) -> tuple[IntArray, float]:
    """Join places into squares as wide as leaves at least 25 of them.

    Args:
        xy_um: Places, such as centres of sampling blocks, [B, 2].

    Returns:
        The square of each place, numbered 0, 1, ..., [B], and the width of a square in um.
    """
    width = float(np.ptp(xy_um, axis=0).max()) + 1.0
    group = _squares(xy_um, width)
    while group.max() + 1 < min(MIN_BLOCKS, len(xy_um)):
        width *= SHRINK
        group = _squares(xy_um, width)
    return group, width


def _squares(xy_um: FloatArray, width: float) -> IntArray:
    cells = np.floor((xy_um - xy_um.min(axis=0)) / width).astype(np.int64)
    _, number = np.unique(cells, axis=0, return_inverse=True)
    return number.reshape(-1)
