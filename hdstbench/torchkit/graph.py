"""Edges between units: the nearest ones on the grid, exactly, with a stated rule for ties."""

import numpy as np

from hdstbench.arrays import IntArray


def nearest_edges(grid: IntArray, k: int) -> IntArray:
    """Connect each unit to its k nearest ones and to itself.

    Nearest by Euclidean distance of array positions; of equally near ones that with the smaller row,
    then column counts as nearer, so that the order of units does not matter. With k or fewer other
    units all are connected.

    Args:
        grid: Array row and column, [n, 2]; n is a block, some hundred at most.
        k: Neighbours a unit.

    Returns:
        int64 [2, E], from neighbour (row 0) to unit (row 1); every unit has an edge from itself.
    """
    n = len(grid)
    step = grid[:, None, :].astype(np.int64) - grid[None, :, :]
    rank = np.empty(n, np.int64)
    rank[np.lexsort((grid[:, 1], grid[:, 0]))] = np.arange(n)
    key = (step**2).sum(axis=-1) * n + rank
    np.fill_diagonal(key, -1)  # itself first
    order = np.argsort(key, axis=1)[:, : k + 1]
    to = np.repeat(np.arange(n), order.shape[1])
    return np.stack([order.ravel(), to])
