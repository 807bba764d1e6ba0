"""How alike two maps are when one of them is moved by a few cells: all moves and turns at once."""

from typing import TypeAlias

import numpy as np

from hdstbench.arrays import BoolArray, FloatArray

Maps: TypeAlias = tuple[FloatArray, BoolArray]
"""Values [..., C, C, L] of L layers, and where they count [..., C, C]."""

MIN_OVERLAP = 0.5
FLAT = 1e-10
"""A layer whose variance over the overlap is a smaller share of its mean square is constant."""


def best_moved(ours: Maps, theirs: Maps, reach: int) -> FloatArray:
    """The highest correlation over cells, mean over layers, that each of T maps reaches when it is moved.

    Sums over the overlap of each pair are products of matrices.

    Args:
        ours: T maps, [T, C, C, L] and [T, C, C].
        theirs: One map, [C, C, L] and [C, C], which is moved by up to `reach` cells.
        reach: Cells, along both axes.

    Returns:
        [T]; 0 where less than half of the larger mask overlaps, or nothing correlates positively.
    """
    a, of_a = _centred(*ours)
    b, of_b = _centred(*theirs)
    b, of_b = (np.stack([_shift(x, dy, dx) for dy, dx in _moves(reach)]) for x in (b, of_b))
    mask_a, mask_b = _flat(of_a[..., None]), _flat(of_b[..., None])
    a, b = _flat(a), _flat(b)
    n = mask_a @ mask_b.swapaxes(1, 2)
    most = np.maximum(mask_a.sum(axis=2)[:, :, None], theirs[1].sum())
    mean_a, mean_b = (x / np.maximum(n, 1) for x in (a @ mask_b.swapaxes(1, 2), mask_a @ b.swapaxes(1, 2)))
    over_a = _variance((a * a) @ mask_b.swapaxes(1, 2), mean_a, n)
    over_b = _variance(mask_a @ (b * b).swapaxes(1, 2), mean_b, n)
    both = a @ b.swapaxes(1, 2) - n * mean_a * mean_b
    norm = np.sqrt(over_a * over_b)
    found = (both / np.where(norm > 0, norm, np.inf)).mean(axis=0)
    enough = (n >= MIN_OVERLAP * np.maximum(most, 1))[0]
    return np.asarray(np.where(enough, found, 0).max(axis=1, initial=0))


def _centred(values: FloatArray, mask: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Values less their mean over the mask, 0 outside of it, and the mask as numbers."""
    weight = mask.astype(np.float64)
    mean = (values * weight[..., None]).sum(axis=(-3, -2)) / np.maximum(weight.sum(axis=(-2, -1)), 1)[
        ..., None
    ]
    return (values - mean[..., None, None, :]) * weight[..., None], weight


def _variance(squares: FloatArray, mean: FloatArray, n: FloatArray) -> FloatArray:
    """Squares around the mean, summed; exactly 0 where rounding is all there is."""
    summed = squares - n * mean * mean
    return np.asarray(np.where(summed > FLAT * squares, summed, 0))


def _moves(reach: int) -> list[tuple[int, int]]:
    steps = range(-reach, reach + 1)
    return [(dy, dx) for dy in steps for dx in steps]


def _shift(a: FloatArray, dy: int, dx: int) -> FloatArray:
    """What lies `dy` below and `dx` right of each cell comes to it; 0 comes in at the edges."""
    rows, cols = a.shape[:2]
    out = np.zeros_like(a)
    out[max(0, -dy) : rows - max(0, dy), max(0, -dx) : cols - max(0, dx)] = a[
        max(0, dy) : rows - max(0, -dy), max(0, dx) : cols - max(0, -dx)
    ]
    return out


def _flat(a: FloatArray) -> FloatArray:
    """[K, C, C, L] as [L, K, C x C]."""
    return np.ascontiguousarray(np.moveaxis(a.reshape(len(a), -1, a.shape[-1]), -1, 0))
