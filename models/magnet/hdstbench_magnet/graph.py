"""Which nodes are connected: within a block, or among whatever units stand in a batch."""

import numpy as np
import torch
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
    one_way = nearest_edges(grid, k)
    one_way = one_way[:, one_way[0] != one_way[1]]
    if loops:
        one_way = np.concatenate([one_way, np.tile(np.arange(len(grid)), (2, 1))], axis=1)
    return torch.from_numpy(np.unique(np.concatenate([one_way, one_way[::-1]], axis=1), axis=1))
