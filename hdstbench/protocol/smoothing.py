"""Means over the 3 x 3 places around a unit, as TRIPLEX smooths its labels: a task of its own."""

from collections.abc import Callable

import numpy as np

from hdstbench.arrays import FloatArray, IntArray

STEPS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))


def neighbours(grid: IntArray, rows: IntArray) -> IntArray:
    """Find the units at the nine places around some units.

    Args:
        grid: Row and column of every unit of the slide, [N, 2]; no two units share a place.
        rows: Units of which neighbours are wanted, [B].

    Returns:
        int64 [B, 9]: numbers among the N units, the unit's own in the middle; -1 where none is.
    """
    corner = grid.min(axis=0, initial=0)
    width = int(grid[:, 1].max(initial=0) - corner[1]) + 3
    place = _number(grid - corner + 1, width)
    order = np.argsort(place, kind="stable")
    wanted = np.stack([_number(grid[rows] - corner + 1 + step, width) for step in STEPS], axis=1)
    at = np.minimum(np.searchsorted(place[order], wanted), len(order) - 1)
    found = order[at]
    return np.where(place[found] == wanted, found, -1)


def _number(grid: IntArray, width: int) -> IntArray:
    return np.asarray(grid[:, 0] * width + grid[:, 1], np.int64)


def smoothed(grid: IntArray, rows: IntArray, values: Callable[[IntArray], FloatArray]) -> FloatArray:
    """Mean over the units that are there at the nine places around some units, float32 [B, G].

    Args:
        grid: Row and column of every unit of the slide, [N, 2].
        rows: Units of which means are wanted, [B].
        values: Of units by their numbers, [M] to [M, G]; asked once.
    """
    if not len(rows):
        return values(rows)
    near = neighbours(grid, rows)
    needed = np.unique(near[near >= 0])
    known = values(needed)
    total = np.zeros((len(rows), known.shape[1]))
    for column in near.T:
        there = column >= 0
        total[there] += known[np.searchsorted(needed, column[there])]
    return np.asarray(total / (near >= 0).sum(axis=1, keepdims=True), np.float32)
