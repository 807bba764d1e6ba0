"""Edges between units: the nearest ones on the grid, exactly, with a stated rule for ties."""

import numpy as np
from scipy.spatial import cKDTree

from hdstbench.arrays import IntArray

SMALL = 512
"""Units of which all pairs are looked at."""
ROOM = 64
"""Places of the array a unit, beyond which it is too empty to be written out."""
RING = 3
"""Array steps around a unit at the edge of the tissue, in which its neighbours are looked for first."""
SPARE = 40
"""Units beyond the k nearest that a search by distance takes, so that ties are parted by row and column."""


def nearest_edges(grid: IntArray, k: int) -> IntArray:
    """Connect each unit to its k nearest ones and to itself.

    Nearest by Euclidean distance of array positions; of equally near ones that with the smaller row,
    then column counts as nearer, so that the order of units does not matter. With k or fewer other
    units all are connected.

    Args:
        grid: Array row and column, [n, 2].
        k: Neighbours a unit.

    Returns:
        int64 [2, E], from neighbour (row 0) to unit (row 1); every unit has an edge from itself, and its
        edges stand together, the nearest first.
    """
    n = len(grid)
    near = _of_all_pairs(grid, k) if n <= max(SMALL, k + 1) else _of_array(grid, k)
    return np.stack([near.ravel(), np.repeat(np.arange(n), near.shape[1])])


def _of_all_pairs(grid: IntArray, k: int) -> IntArray:
    """Each unit and its k nearest ones, int64 [n, k + 1]."""
    n = len(grid)
    step = grid[:, None, :].astype(np.int64) - grid[None, :, :]
    key = (step**2).sum(axis=-1) * n + _rank(grid)
    np.fill_diagonal(key, -1)  # itself first
    return np.asarray(np.argsort(key, axis=1)[:, : k + 1])


def _rank(grid: IntArray) -> IntArray:
    """Place of each unit by row, then column, [n]."""
    rank = np.empty(len(grid), np.int64)
    rank[np.lexsort((grid[:, 1], grid[:, 0]))] = np.arange(len(grid))
    return rank


def _of_array(grid: IntArray, k: int) -> IntArray:
    """The same by looking around each unit on the array; k + 1 < n."""
    n, all_units = len(grid), np.arange(len(grid))
    place = grid.astype(np.int64) - grid.min(axis=0)
    steps = _steps_around(max(RING, int(np.ceil(np.sqrt(k + 1)))))
    reach = int(steps.max())
    shape = place.max(axis=0) + 1 + 2 * reach
    if int(shape.prod()) > ROOM * n:
        return _of_tree(grid, k, all_units)
    number = np.full(int(shape.prod()), -1, np.int64)
    at = (place[:, 0] + reach) * shape[1] + place[:, 1] + reach
    number[at] = all_units
    if np.count_nonzero(number >= 0) < n:  # two units of one place
        return _of_tree(grid, k, all_units)
    by = steps[:, 0] * shape[1] + steps[:, 1]
    near = number[at[:, None] + by[: k + 1]]
    edge = np.flatnonzero((near < 0).any(axis=1))
    around = number[at[edge, None] + by]
    held = around >= 0
    seen = np.cumsum(held, axis=1)
    enough = seen[:, -1] > k
    near[edge[enough]] = around[enough][(held & (seen <= k + 1))[enough]].reshape(-1, k + 1)
    lonely = edge[~enough]
    if len(lonely):
        near[lonely] = _of_tree(grid, k, lonely)
    return np.asarray(near)


def _steps_around(reach: int) -> IntArray:
    """Steps to all places within so many, nearest first, ties by row and column, [places, 2]; none is 0."""
    side = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    square = (steps**2).sum(axis=1)
    steps, square = steps[square <= reach**2], square[square <= reach**2]
    return np.asarray(steps[np.lexsort((steps[:, 1], steps[:, 0], square))])


def _of_tree(grid: IntArray, k: int, of: IntArray) -> IntArray:
    """The same for some units, by a search tree."""
    n = len(grid)
    _, near = cKDTree(grid).query(grid[of], k=min(n, k + 1 + SPARE))
    step = ((grid[near].astype(np.int64) - grid[of][:, None]) ** 2).sum(axis=-1)
    key = step * n + _rank(grid)[near]
    key[near == of[:, None]] = -1  # itself first
    return np.asarray(np.take_along_axis(near, np.argsort(key, axis=1)[:, : k + 1], axis=1))
