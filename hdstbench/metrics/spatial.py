"""Whether a predicted map looks like the measured one: autocorrelation, structure, smoothness."""

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree

from hdstbench.arrays import BoolArray, FloatArray, IntArray

SIDE = 7
"""Units along a side of a window of the structural similarity, as Wang et al. 2004 in its uniform form."""
K1, K2 = 0.01, 0.03
AT_ONCE = 1_000_000
"""Places of maps that are looked at together."""
TOUCHING = 1.01
FLAT = 1e-12
"""Share of a gene's mean square below which its variance is rounding."""


def neighbours(grid: IntArray) -> IntArray:
    """Pairs of units that share a side of the grid, each once, [P, 2]; `grid` is row and column, [N, 2]."""
    return cKDTree(grid).query_pairs(TOUCHING, output_type="ndarray")


def morans_i(values: FloatArray, pairs: IntArray) -> FloatArray:
    """Spatial autocorrelation of each gene (Moran 1950), binary weights of units that touch.

    Args:
        values: [N, G].
        pairs: As of `neighbours`.

    Returns:
        float64 [G]; NaN for a constant gene, and without any pair.
    """
    z = values - values.mean(axis=0, dtype=np.float64)
    square = np.einsum("ng,ng->g", z, z)
    flat = _flat(values)
    if not len(pairs):
        return np.full(values.shape[1], np.nan)
    product = np.einsum("pg,pg->g", z[pairs[:, 0]], z[pairs[:, 1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flat, np.nan, len(values) / len(pairs) * product / square)


def variance_ratio(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """Variance of the prediction over that of the measurement, [G]; below 1 where a map is too smooth.

    The measured variance holds counting noise, which no model should reproduce: even a perfect one stays
    below 1. NaN where the measurement is constant.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.var(predicted, axis=0, dtype=np.float64) / np.var(measured, axis=0, dtype=np.float64)
    return np.where(_flat(measured), np.nan, ratio)


def _flat(values: FloatArray) -> BoolArray:
    variance = np.var(values, axis=0, dtype=np.float64)
    return np.asarray(variance <= FLAT * np.mean(np.square(values, dtype=np.float64), axis=0))


def ssim_per_gene(predicted: FloatArray, measured: FloatArray, grid: IntArray) -> FloatArray:
    """Structural similarity of each gene's map (Wang et al. 2004), meaned over windows of 7 x 7 units.

    Windows that are not full of units, or in which nothing was measured, are left out. The range of values,
    by which its constants are scaled, is the measurement's; variances have n - 1 below.

    Args:
        predicted: [N, G].
        measured: [N, G].
        grid: Row and column of each unit, [N, 2].

    Returns:
        float64 [G]; NaN for a gene without any window, or whose measurement is constant.
    """
    rows, cols = (grid - grid.min(axis=0)).T
    shape = (int(rows.max()) + 1, int(cols.max()) + 1)
    if min(shape) < SIDE:
        return np.full(predicted.shape[1], np.nan)
    there = np.zeros(shape)
    there[rows, cols] = 1.0
    full = _inner(there) > 1 - 0.5 / SIDE**2
    out = np.full(predicted.shape[1], np.nan)
    varied = np.flatnonzero(~_flat(measured))
    pieces = min(-(-len(varied) * there.size // AT_ONCE), len(varied))
    for genes in np.array_split(varied, max(pieces, 1)):
        x, y = (np.zeros((len(genes), *shape)) for _ in range(2))
        x[:, rows, cols], y[:, rows, cols] = predicted[:, genes].T, measured[:, genes].T
        spread = np.ptp(measured[:, genes], axis=0).astype(np.float64)[:, None, None]
        kept = full & (_inner((y != 0).astype(np.float64)) > 0.5 / SIDE**2)
        for gene, found, where in zip(genes, _similarity(x, y, spread), kept, strict=True):
            if where.any():
                out[gene] = found[where].mean()
    return out


def _similarity(x: FloatArray, y: FloatArray, spread: FloatArray) -> FloatArray:
    """Similarity at every window inside two stacks of maps, [G, H, W]; `spread` is [G, 1, 1]."""
    c1, c2 = (K1 * spread) ** 2, (K2 * spread) ** 2
    unbiased = SIDE**2 / (SIDE**2 - 1)
    mx, my = _inner(x), _inner(y)
    vx = unbiased * (_inner(x * x) - mx * mx)
    vy = unbiased * (_inner(y * y) - my * my)
    vxy = unbiased * (_inner(x * y) - mx * my)
    return np.asarray((2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2)))


def _inner(maps: FloatArray) -> FloatArray:
    """Mean over each window that lies inside, [..., H, W] -> [..., H - 6, W - 6]."""
    margin, size = SIDE // 2, (1,) * (maps.ndim - 2) + (SIDE, SIDE)
    return np.asarray(uniform_filter(maps, size)[..., margin:-margin, margin:-margin])
