"""Hist2ST's graph of a window: which units are neighbours on the array."""

from typing import Literal

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.torchkit.graph import nearest_edges

Prune = Literal["NA", "Grid", "STD"]
GRID_REACH = 2.0


def adjacency(grid: IntArray, k: int, prune: Prune = "NA", *, self_loop: bool = False) -> FloatArray:
    """Join each unit to its k nearest others.

    Of equally near units the one with the smaller row, then column counts as nearer
    (`hdstbench.torchkit.graph`). With k or fewer others all are neighbours.

    Args:
        grid: Array row and column, [N, 2].
        k: Neighbours a unit.
        prune: Edges that are left out again: `NA` none; `Grid` those longer than 2 array units; `STD`
            those longer than a unit's mean edge by more than the deviation of its edges.
        self_loop: Make each unit a neighbour of itself too.

    Returns:
        float32 [N, N], 1 where the column's unit is a neighbour of the row's; directed.
    """
    start, end = nearest_edges(grid, k)
    out = np.zeros((len(grid), len(grid)), np.float32)
    out[end, start] = 1
    np.fill_diagonal(out, 0)
    if prune != "NA" and len(grid) > 1:
        out[~_within(grid, out > 0, prune)] = 0
    if self_loop:
        np.fill_diagonal(out, 1)
    return out


def _within(grid: IntArray, near: np.ndarray, prune: Prune) -> np.ndarray:
    length = np.sqrt(((grid[:, None] - grid[None]) ** 2).sum(axis=-1))
    if prune == "Grid":
        return length <= GRID_REACH
    edges = length[near].reshape(len(grid), -1)  # every unit has as many
    return length <= edges.mean(axis=1, keepdims=True) + edges.std(axis=1, keepdims=True)
