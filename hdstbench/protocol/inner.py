"""Parts of a slide: whole blocks with a gap around them, for inner validation and splits within slides."""

import numpy as np
from scipy.spatial import cKDTree

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.protocol.slide import Slide
from hdstbench.rng import stream

SHARE = 0.15
"""Share of a training slide's units that validates."""


def split_inner(slide: Slide) -> tuple[Slide, Slide]:
    """Part a training slide into training and validation units.

    Validation blocks lie together at one side of the tissue, which side the seed says, so that the
    gap costs little. Training blocks whose patches could share a pixel with theirs are dropped, and
    with them every spot or region that both sides would have as a parent.

    Returns:
        The training and the validation view.
    """
    blocks = slide.blocks()
    centre = np.array([slide.xy_um[block].mean(axis=0) for block in blocks])
    angle = stream("inner", slide.id).uniform(0, 2 * np.pi)
    order = np.argsort(centre @ [np.cos(angle), np.sin(angle)], kind="stable")
    share = np.cumsum([len(blocks[i]) for i in order]) / len(slide)
    count = int(np.searchsorted(share, SHARE)) + 1
    if count >= len(blocks):
        count = len(blocks) // 2
    held = [blocks[i] for i in order[:count]]
    rest = [blocks[i] for i in order[count:]]
    if not held:  # a slide of one block cannot be parted
        return slide, slide.take(np.arange(0))
    val = np.sort(np.concatenate(held))
    train = np.sort(np.concatenate(rest))
    return slide.take(_clear_of(slide, train, val)), slide.take(val)


def split_part(slide: Slide, parts: int, number: int) -> tuple[Slide, Slide]:
    """Part a slide into what is left to train and one of several parts to test.

    Parts are stripes of whole blocks across the longer side of the tissue, of about as many units each.
    The same gap lies around a tested part as around inner validation.

    Returns:
        The training and the test view; either may be empty on a slide of few blocks.
    """
    blocks = slide.blocks()
    centre = np.array([slide.xy_um[block].mean(axis=0) for block in blocks])
    order = np.argsort(centre[:, np.argmax(np.ptp(centre, axis=0))], kind="stable")
    size = np.array([len(blocks[i]) for i in order])
    part = ((np.cumsum(size) - size / 2) / len(slide) * parts).astype(int)
    sides = (order[part != number], order[part == number])
    rest, test = (np.sort(np.concatenate([np.arange(0), *(blocks[i] for i in side)])) for side in sides)
    if len(rest) and len(test):
        rest = _clear_of(slide, rest, test)
    return slide.take(rest), slide.take(test)


def _clear_of(slide: Slide, train: IntArray, val: IntArray) -> IntArray:
    """Training units of blocks that keep their distance from every validation unit."""
    gap = max(slide.patch_px.values()) * slide.mpp
    block = np.empty(len(slide), np.int64)
    for number, units in enumerate(slide.blocks()):
        block[units] = number
    xy = slide.xy_um
    near = _within(xy[train], xy[val], gap)
    spoiled = np.unique(block[train[near]])
    keep = train[~np.isin(block[train], spoiled)]
    return keep if len(keep) else train[~near]


def _within(a: FloatArray, b: FloatArray, distance: float) -> BoolArray:
    """Which points of `a` lie closer than `distance` to a point of `b`, in both axes."""
    gap, _ = cKDTree(b).query(a, distance_upper_bound=distance, p=np.inf)
    return np.isfinite(gap)
