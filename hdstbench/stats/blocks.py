"""Blocks for the bootstrap: wide enough that what lies in two of them is nearly independent."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import erf

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.rng import stream

MIN_BLOCKS = 25
SHRINK = 0.95
LAGS = 24
MAX_UNITS = 1_500
NOISE = 0.01
"""Correlations between units below this are taken for none."""
COARSE_NOISE = 0.05
"""The same between means over squares, of which there are fewer."""


def residual_range(xy_um: FloatArray, residual: FloatArray, step_um: float, name: str) -> float:
    """Distance over which residuals are correlated.

    The correlation of residuals at growing distance, averaged over genes, is followed until it
    falls to 1/e of its value at the first step, or below 0.01. On a large slide this is done twice,
    between the units of a few neighbourhoods, and up to half the slide between means over squares;
    the larger range counts.

    Args:
        xy_um: Places, [N, 2].
        residual: Prediction minus measurement, [N, G].
        step_um: Width of a step; the pitch of units at least.
        name: Names the draw of units on large slides.

    Returns:
        um; 0 if neighbours are not correlated at all, the slide's extent if it never falls.
    """
    extent = float(np.ptp(xy_um, axis=0).max(initial=0.0))
    far = max(LAGS, int(extent / 2 / step_um))
    if len(xy_um) <= MAX_UNITS:
        return _range(xy_um, residual, _Lags(step_um, far, NOISE), extent)
    fine = _Lags(step_um, LAGS, NOISE)
    near = _range(*_thin(xy_um, residual, name), fine, LAGS * step_um)
    side = max(step_um, extent / np.sqrt(MAX_UNITS))
    coarse = _Lags(side, max(1, int(extent / 2 / side)), COARSE_NOISE)
    return max(near, _range(*_means(xy_um, residual, side), coarse, extent))


@dataclass(frozen=True, slots=True)
class _Lags:
    """Distances that are looked at, and the correlation that is taken for none."""

    step_um: float
    count: int
    noise: float


def _range(xy_um: FloatArray, residual: FloatArray, lags: _Lags, beyond_um: float) -> float:
    """The distance at which correlation has fallen; `beyond_um` if it has not within the lags."""
    size = residual.std(axis=0)
    z = (residual - residual.mean(axis=0))[:, size > 0] / size[size > 0]
    if len(z) < 3 or z.shape[1] == 0:  # noqa: PLR2004 - no pairs to speak of
        return 0.0
    pairs = cKDTree(xy_um).query_pairs(lags.count * lags.step_um, output_type="ndarray")
    lag = np.linalg.norm(xy_um[pairs[:, 0]] - xy_um[pairs[:, 1]], axis=1) / lags.step_um
    bins = np.clip(np.ceil(lag - 0.5).astype(int), 1, lags.count) - 1
    product = (z @ z.T)[pairs[:, 0], pairs[:, 1]] / z.shape[1]
    count = np.bincount(bins, minlength=lags.count)
    mean = np.bincount(bins, product, minlength=lags.count) / np.maximum(count, 1)
    first = int(np.argmax(count > 0))
    floor = max(lags.noise, mean[first] / np.e)
    below = np.flatnonzero((mean < floor) & (count > 0) & (np.arange(lags.count) >= first))
    return float(below[0] * lags.step_um) if len(below) else beyond_um


def _thin(xy_um: FloatArray, residual: FloatArray, name: str) -> tuple[FloatArray, FloatArray]:
    """Whole neighbourhoods: the units nearest to a few places."""
    centres = stream("residual-range", name).choice(len(xy_um), 6, replace=False)
    _, near = cKDTree(xy_um).query(xy_um[centres], k=MAX_UNITS // 6)
    rows = np.unique(near)
    return xy_um[rows], residual[rows]


def _means(xy_um: FloatArray, residual: FloatArray, side_um: float) -> tuple[FloatArray, FloatArray]:
    """Mean place and residual of each square that holds units."""
    group = _squares(xy_um, side_um)
    count = np.bincount(group)
    both = np.concatenate([xy_um, residual], axis=1)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(count)))
    mean = np.add.reduceat(both[order], starts, axis=0) / count[:, None]
    return mean[:, :2], mean[:, 2:]


def widest_blocks(xy_um: FloatArray) -> tuple[IntArray, float]:
    """Join places into squares as wide as leaves at least 25 of them.

    Args:
        xy_um: Places, such as centres of sampling blocks, [B, 2].

    Returns:
        The square of each place, numbered 0, 1, ..., [B], and the width of a square in um.
    """
    width = float(np.ptp(xy_um, axis=0).max()) + 1.0
    group = _squares(xy_um, width)
    places = len(np.unique(xy_um, axis=0))
    while group.max() + 1 < min(MIN_BLOCKS, places):
        width *= SHRINK
        group = _squares(xy_um, width)
    return group, width


def _squares(xy_um: FloatArray, width: float) -> IntArray:
    cells = np.floor((xy_um - xy_um.min(axis=0)) / width).astype(np.int64)
    _, number = np.unique(cells, axis=0, return_inverse=True)
    return number.reshape(-1)


def widening(range_um: float, block_um: float, blocks: int) -> float:
    """By how much resamples of blocks have to be spread, so that their spread is that of new slides.

    Drawn apart, blocks lose what they share across their edges. Where values are correlated as
    exp(-d^2 / r^2), products of two of them are as exp(-2 d^2 / r^2), and the share of the variance of
    their mean that lies within squares of side L is g(sqrt(2) L / r)^2 with g(a) = erf(a) -
    (1 - exp(-a^2)) / (a sqrt(pi)); so the spread is divided by g. Drawing from n blocks with their own
    mean loses another sqrt((n - 1) / n). docs/statistics.md shows what this gives.

    Args:
        range_um: Distance at which residuals' correlation has fallen to 1/e; beyond the blocks' width
            it counts as that, for nothing can be said then.
        block_um: Width of a block.
        blocks: Their number.

    Returns:
        1 or more.
    """
    few = np.sqrt(blocks / (blocks - 1)) if blocks > 1 else 1.0
    if range_um <= 0:
        return float(few)
    a = np.sqrt(2) * max(block_um / range_um, 1.0)
    return float(few / (erf(a) - (1 - np.exp(-(a**2))) / (a * np.sqrt(np.pi))))
