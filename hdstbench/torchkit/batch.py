"""Batches of units, and patches as tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hdstbench.arrays import IntArray, Pixels
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.ahead import send

SYMMETRIES = 8


@dataclass(slots=True, kw_only=True)
class Batch:
    """Some units of one slide.

    Attributes:
        slide: Where they are from.
        index: Units of the slide, [B].
        inputs: Whatever the model's network takes.
    """

    slide: Slide
    index: IntArray
    inputs: dict[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class BatchLabels:
    """Targets of a batch: of its units [B, G], and of coarser levels with a mask of valid rows.

    `counts` [B, G] are raw counts, for models with a count likelihood.
    """

    target: Tensor
    coarse: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    counts: Tensor | None = None


def to_tensor(patches: Pixels, device: str, size: int = 0) -> Tensor:
    """Move patches to the device, uint8 [B, S, S, 3] -> uint8 [B, 3, S', S'].

    Args:
        patches: As a slide gives them.
        device: Where to.
        size: Side to reduce or enlarge them to; 0 leaves them.
    """
    tensor = send(patches, device).permute(0, 3, 1, 2)
    if size in (0, tensor.shape[-1]):
        return tensor.contiguous()
    scaled = functional.interpolate(tensor.float(), (size, size), mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)


def unit_batches(slide: Slide, size: int, order: IntArray | None = None) -> Iterator[Batch]:
    """Cut the units of a slide into batches, in the given order or as they stand.

    In a given order, which is to train, a last unit that would be alone joins the batch before:
    batch normalisation has no variance over one unit.
    """
    shuffled, order = order is not None, np.arange(len(slide)) if order is None else order
    starts = list(range(0, len(order), size))
    if shuffled and len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    for start, end in pairwise([*starts, len(order)]):
        yield Batch(slide=slide, index=order[start:end])


def block_batches(slide: Slide, size: int, rng: np.random.Generator | None = None) -> Iterator[Batch]:
    """Cut a slide into batches of whole blocks with at most `size` units, or of one block."""
    blocks = slide.blocks()
    if rng is not None:
        blocks = [blocks[i] for i in rng.permutation(len(blocks))]
    held: list[IntArray] = []
    for block in blocks:
        if held and sum(map(len, held)) + len(block) > size:
            yield Batch(slide=slide, index=np.concatenate(held))
            held = []
        held.append(block)
    if held:
        yield Batch(slide=slide, index=np.concatenate(held))


def some_blocks(slides: Sequence[Slide], units: int) -> list[Slide]:
    """Take whole blocks of each slide at even steps, about `units` in all; everything for 0."""
    return [_some(slide, units / len(slides)) if units else slide for slide in slides]


def _some(slide: Slide, units: float) -> Slide:
    blocks = slide.blocks()
    wanted = max(1, round(units * len(blocks) / max(len(slide), 1)))
    if wanted >= len(blocks):
        return slide
    step = np.arange(wanted) * len(blocks) // wanted
    return slide.take(np.sort(np.concatenate([blocks[i] for i in step])))


def turn(patches: Tensor, symmetry: Tensor) -> Tensor:
    """Apply one of the eight symmetries of the square to each patch, [B, 3, S, S].

    `symmetry` [B] in 0..7: quarter turns in its last two bits, a flip in the third.
    """
    out = patches
    flipped = (symmetry & 4).bool().view(-1, 1, 1, 1)
    out = torch.where(flipped, out.flip(-1), out)
    for bit, turns in ((1, 1), (2, 2)):
        chosen = (symmetry & bit).bool().view(-1, 1, 1, 1)
        out = torch.where(chosen, out.rot90(turns, (-2, -1)), out)
    return out
