"""Which blocks of a slide enter a task: spread over the tissue, and three dense windows."""

import numpy as np

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.rng import stream

MIN_BLOCKS = 96
MIN_FILL = 0.25
"""Blocks with a smaller share of their units in the task are left out."""
WINDOWS = 3
CORNERS = 2_000
"""Places that are tried for windows."""
WINDOW_UM = 512.0
"""A dense window is 4 x 4 regions."""


def sample_blocks(squares: IntArray, units: IntArray, full: int, min_units: int, name: str) -> BoolArray:
    """Choose blocks by seed until there are enough of them and of their units.

    Blocks are taken at even steps along a curve that visits near places one after the other, so
    that they cover the tissue.

    Args:
        squares: Row and column of each block, [B, 2].
        units: Units of each block that may enter the task, [B].
        full: Units of a block that lies wholly in tissue.
        min_units: Units wanted; 0 takes every block.
        name: Names the random draw.

    Returns:
        Chosen blocks, [B].
    """
    eligible = np.flatnonzero(units >= MIN_FILL * full)  # thinner ones are hardly tissue
    chosen = np.zeros(len(squares), bool)
    if min_units == 0:
        chosen[eligible] = True
        return chosen
    order = eligible[np.argsort(_morton(squares[eligible]), kind="stable")]
    start = stream("blocks", name).random()
    for wanted in range(min(MIN_BLOCKS, len(order)), len(order) + 1):
        step = np.floor((np.arange(wanted) + start) * len(order) / max(wanted, 1)).astype(int)
        if units[order[step]].sum() >= min_units or wanted == len(order):
            chosen[order[step]] = True
            break
    return chosen


def _morton(squares: IntArray) -> IntArray:
    """Interleave the bits of row and column."""
    low = squares - squares.min(axis=0, initial=0) if len(squares) else squares
    code = np.zeros(len(low), np.int64)
    for bit in range(24):
        code |= ((low[:, 1] >> bit) & 1) << (2 * bit)
        code |= ((low[:, 0] >> bit) & 1) << (2 * bit + 1)
    return code


def place_windows(squares: IntArray, fill: FloatArray, block_um: float, name: str) -> IntArray:
    """Place up to three windows where tissue fills them best, apart from each other.

    Returns:
        The window of each block, -1 for none, [B].
    """
    window = np.full(len(squares), -1)
    side = max(1, round(WINDOW_UM / block_um))
    number = {tuple(square): i for i, square in enumerate(squares.tolist())}
    corners = stream("windows", name).permutation(squares)[:CORNERS]
    offsets = np.argwhere(np.ones((side, side)))
    scored = [(_members(corner, offsets, number), corner) for corner in corners]
    scored.sort(key=lambda item: -float(fill[item[0]].sum()))
    for members, _ in scored:
        if window.max() + 1 == WINDOWS:
            break
        if len(members) == side * side and (window[members] < 0).all():
            window[members] = window.max() + 1
    return window


def _members(corner: IntArray, offsets: IntArray, number: dict[tuple[int, ...], int]) -> list[int]:
    keys = ((int(corner[0] + dr), int(corner[1] + dc)) for dr, dc in offsets)
    return [number[key] for key in keys if key in number]
