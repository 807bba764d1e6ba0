"""TRIPLEX's global branch: a transformer over all units of a slide, and where they lie in its array.

Notation: N units of a slide, C taken cells of its array, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from hdstbench.arrays import IntArray
from hdstbench_baselines.attention import TransformerBlock

ROWS_AT_ONCE = 8_192
"""Units whose attention is computed at once where no gradient is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Transformer blocks; `ratio` is the width of their hidden layer over D."""

    depth: int
    heads: int
    ratio: int
    dropout: float


def blocks_of(width: int, stack: Stack) -> Sequence[TransformerBlock]:
    """Make the blocks of a stack."""
    sizes = (width, stack.heads, width // stack.heads, stack.ratio * width, stack.dropout)
    return [TransformerBlock(*sizes) for _ in range(stack.depth)]


class Places(NamedTuple):
    """Which cells of the slide's array are taken, C of them, and which of them touch.

    Attributes:
        cell: Cell of each unit, int64 [N].
        near: Cell at each place of the kernel around each cell, row by row, C for none, [C, side^2].
    """

    cell: Tensor
    near: Tensor


def find_places(grid: IntArray, side: int = 3) -> Places:
    """Find the cells around each taken cell; units may share one and stand in any order.

    Args:
        grid: Array row and column of the units, [N, 2].
        side: Of the kernel, whose rows run along array columns, as in the authors' code.
    """
    cells, cell = np.unique(grid, axis=0, return_inverse=True)
    reach = side // 2
    cells = cells - cells.min(axis=0) + reach
    span = int(cells[:, 1].max()) + reach + 1  # so wide that no step leads into the next row
    number = cells @ [span, 1]
    step = np.arange(side) - reach
    wanted = number[:, None, None] + step[:, None] + span * step
    place = np.searchsorted(number, wanted).clip(max=len(number) - 1)
    near = np.where(number[place] == wanted, place, len(number))
    return Places(torch.from_numpy(cell.reshape(-1)), torch.from_numpy(rearrange(near, "c a b -> c (a b)")))


class PositionLayer(nn.Module):
    """A depthwise convolution over the taken cells of the array, added to the tokens.

    Cells without a unit are zeros. They are never made: each cell gathers what touches it.
    """

    def __init__(self, width: int, side: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, side, padding=side // 2, groups=width)

    def forward(self, tokens: Tensor, places: Places) -> Tensor:
        """Add what is near, [N, D] -> [N, D]; units of one cell stand there as their mean."""
        count = len(places.near)
        shared = tokens.new_zeros(count + 1, tokens.shape[1]).index_add(0, places.cell, tokens)
        units = torch.bincount(places.cell, minlength=count + 1).clamp(min=1)
        cells = shared / units[:, None]
        kernel = rearrange(self.conv.weight, "d 1 a b -> (a b) d")
        assert self.conv.bias is not None
        mixed = self.conv.bias.expand(count, -1)
        for weight, there in zip(kernel, places.near.unbind(dim=1), strict=True):
            mixed = mixed + weight * cells.index_select(0, there)
        return tokens + mixed.index_select(0, places.cell)


class WholeEncoder(nn.Module):
    """A transformer over all units of a slide, with the position layer after its first block."""

    def __init__(self, width: int, stack: Stack, kernel: int = 3) -> None:
        super().__init__()
        blocks = blocks_of(width, stack)
        self.first, self.rest = blocks[0], nn.ModuleList(blocks[1:])
        self.position = PositionLayer(width, kernel)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, places: Places, keys: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Mix the units of a slide.

        Args:
            tokens: [N, D].
            places: Their cells.
            keys: Units that all units look at; None for all.
            rows: Units that are wanted; None for all.

        Returns:
            [N, D], or [len(rows), D].
        """
        tokens = self.position(_apply(self.first, tokens, keys, None), places)
        if keys is not None and rows is not None:  # no other token is looked at from here on
            tokens = tokens[torch.cat([keys, rows])]
            keys, rows = torch.arange(len(tokens), device=tokens.device).split([len(keys), len(rows)])
        for number, block in enumerate(self.rest, start=1):
            tokens = _apply(block, tokens, keys, rows if number == len(self.rest) else None)
        if rows is not None and not len(self.rest):
            tokens = tokens[rows]
        out: Tensor = self.norm(tokens)
        return out


def _apply(block: nn.Module, tokens: Tensor, keys: Tensor | None, rows: Tensor | None) -> Tensor:
    """Let the units `rows` look at the units `keys`; some at a time where no gradient is wanted."""
    if keys is None and rows is None and (torch.is_grad_enabled() or len(tokens) <= ROWS_AT_ONCE):
        out: Tensor = block(tokens[None])[0]
        return out
    seen = tokens[None] if keys is None else tokens[keys][None]
    looking = tokens if rows is None else tokens[rows]
    size = max(1, len(looking)) if torch.is_grad_enabled() else ROWS_AT_ONCE
    return torch.cat([block(part[None], seen=seen)[0] for part in looking.split(size)])
