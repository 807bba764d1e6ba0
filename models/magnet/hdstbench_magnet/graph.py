"""Which nodes are connected: within a block, or among whatever units stand in a batch."""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from hdstbench.arrays import IntArray
from hdstbench.torchkit.graph import nearest_edges


def edges_within(grid: IntArray, block: IntArray, k: int, *, loops: bool) -> Tensor:
    """Connect each node to its k nearest ones of the same block.

    Args:
        grid: Array row and column of each node, [N, 2].
        block: Number of its block, [N]; all the same for a batch that is one graph.
        k: Neighbours a node, as far as there are so many.
        loops: Whether a node is connected to itself too.

    Returns:
        int64 [2, E], from neighbour to node.
    """
    parts = [np.zeros((2, 0), np.int64)]
    for name in np.unique(block):
        members = np.flatnonzero(block == name)
        edges = nearest_edges(grid[members], k)
        parts.append(members[edges if loops else edges[:, edges[0] != edges[1]]])
    return torch.from_numpy(np.concatenate(parts, axis=1))


def edges_of_slide(grid: IntArray, k: int, *, loops: bool) -> Tensor:
    """Connect the tiles of a whole slide to their k nearest ones, in both directions, as the released script.

    Args:
        grid: Row and column of each tile, [M, 2].
        k: Neighbours that a tile looks for; it may be found by more.
        loops: Whether a tile is connected to itself too.

    Returns:
        int64 [2, E], every pair once in each direction.
    """
    one_way = _nearest(grid, k)
    if loops:
        one_way = np.concatenate([one_way, np.tile(np.arange(len(grid)), (2, 1))], axis=1)
    return torch.from_numpy(np.unique(np.concatenate([one_way, one_way[::-1]], axis=1), axis=1))


SPARE = 40
"""Nodes beyond the k nearest that are looked at, so that ties are parted by row and column."""


def _nearest(grid: IntArray, k: int) -> IntArray:
    """The rule of `nearest_edges` for thousands of nodes, none to itself, int64 [2, E]."""
    n = len(grid)
    wanted = min(n, k + 1 + SPARE)
    if n < 2 or not k:  # noqa: PLR2004 - no pair
        return np.zeros((2, 0), np.int64)
    _, near = cKDTree(grid).query(grid, k=wanted)
    step = ((grid[near] - grid[:, None]) ** 2).sum(axis=-1)
    rank = np.empty(n, np.int64)
    rank[np.lexsort((grid[:, 1], grid[:, 0]))] = np.arange(n)
    key = step.astype(np.int64) * n + rank[near]
    key[near == np.arange(n)[:, None]] = -1  # itself first
    order = np.argsort(key, axis=1)[:, 1 : k + 1]
    found = np.take_along_axis(near, order, axis=1)
    return np.stack([found.ravel(), np.repeat(np.arange(n), found.shape[1])])
