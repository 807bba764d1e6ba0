"""Windows: the sets of units that HisToGene and Hist2ST look at together, the same at every call.

At bin resolutions a window is a sampling block. Native spots are blocks of one; there a window is an
aligned tile of the array. Which units a window holds follows from array places alone.
"""

from collections.abc import Iterator

import numpy as np
import torch

from hdstbench.arrays import IntArray
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import Batch

TILE = 16
"""Rows and columns of a window of native spots: 256 places, as many as a block of 8 um bins has."""


def window_of(slide: Slide) -> IntArray:
    """Number of the window that each unit of a view lies in, [N]."""
    whole = slide.whole().block_of
    if len(np.unique(whole)) < len(whole):
        return slide.block_of
    _, number = np.unique(slide.grid // TILE, axis=0, return_inverse=True)
    return number.reshape(-1)


def windows(slide: Slide) -> list[IntArray]:
    """Units of each window of a view in array order; together all units, once."""
    number = window_of(slide)
    order = np.lexsort((slide.grid[:, 1], slide.grid[:, 0], number))
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []


def whole_windows(slide: Slide) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Windows of all prepared units that hold units of a view.

    Yields:
        Units of `slide.whole()` in the window [n]; places in the window whose unit is in the view [m];
        and those units of the view [m].
    """
    mine = slide.rows("unit")
    order = np.argsort(mine, kind="stable")
    ours = np.append(mine[order], -1)
    for members in windows(slide.whole()):
        place = np.searchsorted(ours[:-1], members)
        found = np.flatnonzero(ours[place] == members)
        if len(found):
            yield members, found, order[place[found]]


def window_batches(slide: Slide, rng: np.random.Generator | None) -> Iterator[tuple[Batch, Slide, IntArray]]:
    """Cut a slide into windows, one a batch; in drawn order to train, and then of the view alone.

    Without a generator, to predict, a window holds all prepared units, so that a prediction does not
    depend on which of them are asked for.

    Yields:
        A batch, the view that its window is of, and the n units of that view in the window. Inputs of
        the batch are "grid", array row and column of those units [n, 2], and "kept", where among them
        the batch's own units stand [B].
    """
    if rng is None:
        view, parts = slide.whole(), whole_windows(slide)
    else:
        view, some = slide, windows(slide)
        drawn = (some[i] for i in rng.permutation(len(some)))
        parts = ((members, np.arange(len(members)), members) for members in drawn)
    grid = view.grid
    for members, kept, mine in parts:
        inputs = {"grid": torch.from_numpy(grid[members]), "kept": torch.from_numpy(kept)}
        yield Batch(slide=slide, index=mine, inputs=inputs), view, members
