"""TRIPLEX's network: a unit's patch, the 5 x 5 tiles around it and its whole slide, fused.

Notation: B units of a batch, N units of a slide, T tokens of a patch, E features of the image encoder,
D width, G genes.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from hdstbench.torchkit.encoders import Encoder
from hdstbench_baselines.attention import FeedForward
from hdstbench_baselines.triplex_whole import Stack, WholeEncoder, blocks_of

SIDE = 5
"""Tiles along a side of a unit's surroundings."""
FAR = -65504.0
"""Added to the scores of tiles outside the image, the least number of half precision; finite, so that a
row without any tile has an average and no NaN."""


class Outputs(NamedTuple):
    """Predictions of the fusion and of each branch alone, each [B, G]."""

    fused: Tensor
    target: Tensor
    around: Tensor
    whole: Tensor


class AroundEncoder(nn.Module):
    """A transformer over the tiles around a unit; scores have a learned part for the tiles' distance."""

    apart: Tensor

    def __init__(self, width: int, stack: Stack) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks_of(width, stack))
        self.bias = nn.ParameterList(torch.zeros(stack.heads, SIDE**2) for _ in self.blocks)
        self.norm = nn.LayerNorm(width)
        row, col = torch.arange(SIDE**2) // SIDE, torch.arange(SIDE**2) % SIDE
        apart = SIDE * (row[:, None] - row).abs() + (col[:, None] - col).abs()
        self.register_buffer("apart", apart, persistent=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Mix tiles, [B, 25, D] -> [B, 25, D]; the mask [B, 1, 1, 25] is added to the scores."""
        for block, bias in zip(self.blocks, self.bias, strict=True):
            tokens = block(tokens, bias[:, self.apart] + mask)
        out: Tensor = self.norm(tokens)
        return out


class CrossAttention(nn.Module):
    """One query a unit looks at the unit's own tokens."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Query [B, D] and tokens [B, T, D] -> [B, D]; the mask [B, 1, 1, T] is added to the scores."""
        q = rearrange(self.q(query), "b (h d) -> b h 1 d", h=self.heads)
        k, v = rearrange(self.kv(tokens), "b t (i h d) -> i b h t d", i=2, h=self.heads)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.dropout(self.out(rearrange(mixed, "b h 1 d -> b (h d)")))
        return out


class FusionBlock(nn.Module):
    """Cross-attention and a feed-forward net; one norm serves query and tokens."""

    def __init__(self, width: int, stack: Stack) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, stack.heads, stack.dropout)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = FeedForward(width, stack.ratio * width, stack.dropout)

    def forward(self, query: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Query [B, D] and tokens [B, T, D] -> [B, D]."""
        query = query + self.attention(self.attention_norm(query), self.attention_norm(tokens), mask)
        out: Tensor = query + self.feed(self.feed_norm(query))
        return out


class Fusion(nn.Module):
    """The unit's token of the whole slide looks at its patch, and again at its surroundings."""

    def __init__(self, width: int, stack: Stack) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FusionBlock(width, stack) for _ in range(stack.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, whole: Tensor, target: Tensor, around: Tensor, mask: Tensor) -> Tensor:
        """Fuse [B, D], [B, T, D] and [B, 25, D] -> [B, D]."""
        by_target, by_around = whole, whole
        for block in self.blocks:
            by_target = block(by_target, target, None)
            by_around = block(by_around, around, mask)
        out: Tensor = self.norm(by_target + by_around)
        return out


class Triplex(nn.Module):
    """The whole network.

    `encoder` is that of the unit's own patch and is trained; None where its tokens come from a frozen
    one, as those of tiles and units always do. Where `features`, the width of what encoders give, is
    not D, each branch has a linear layer in front; without `own_tiles` units stand for tiles, and come
    through theirs.
    """

    def __init__(
        self,
        encoder: Encoder | None,
        features: int,
        width: int,
        genes: int,
        stacks: tuple[Stack, Stack, Stack],
        *,
        own_tiles: bool = True,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        fusion, whole, around = stacks
        self.encoder = encoder
        self.enter_target, self.enter_whole, enter_around = (
            nn.Identity() if features == width else nn.Linear(features, width) for _ in range(3)
        )
        self.enter_around = enter_around if own_tiles else nn.Identity()
        self.whole = WholeEncoder(width, whole, kernel)
        self.around = AroundEncoder(width, around)
        self.fusion = Fusion(width, fusion)
        self.head_fused, self.head_target, self.head_around, self.head_whole = (
            nn.Linear(width, genes) for _ in range(4)
        )

    def heads(self) -> tuple[nn.Linear, ...]:
        """The four linear layers that predict."""
        return self.head_fused, self.head_target, self.head_around, self.head_whole

    def target_tokens(self, pixels: Tensor) -> Tensor:
        """Encode standardised patches, float [B, 3, S, S] -> [B, T, E]."""
        assert self.encoder is not None
        maps = self.encoder.net.forward_features(pixels)  # type: ignore[operator]
        return as_tokens(maps, self.encoder.width)

    def forward(self, target: Tensor, around: Tensor, inside: Tensor, whole: Tensor) -> Outputs:
        """Predict a batch.

        Args:
            target: Tokens of the patches, [B, T, E].
            around: Features of the tiles, [B, 25, E]; or units that stand for them, [B, 25, D].
            inside: Which tiles count, bool [B, 25].
            whole: The units' rows of what `whole` gives, [B, D].
        """
        mask = rearrange(torch.where(inside, 0.0, FAR), "b t -> b 1 1 t")
        target = self.enter_target(target)
        around = self.around(self.enter_around(around), mask)
        return Outputs(
            fused=self.head_fused(self.fusion(whole, target, around, mask)),
            target=self.head_target(target.mean(dim=1)),
            around=self.head_around(around.mean(dim=1)),
            whole=self.head_whole(whole),
        )


def as_tokens(maps: Tensor, width: int) -> Tensor:
    """Places of a feature map as tokens, row by row; channels first or last, or tokens already."""
    if maps.ndim == 4:  # noqa: PLR2004 - [B, D, h, w] or [B, h, w, D]
        first = maps.shape[1] == width
        return rearrange(maps, "b d h w -> b (h w) d" if first else "b h w d -> b (h w) d")
    return maps


def triplex_loss(out: Outputs, target: Tensor, *, detach_fusion: bool = False) -> Tensor:
    """Squared errors of the fusion and of each branch, whose own also follows the fusion.

    Args:
        out: Predictions.
        target: [B, G].
        detach_fusion: Let branches follow the fusion without pulling it; the authors let them pull.
    """
    fused = out.fused.detach() if detach_fusion else out.fused
    loss = functional.mse_loss(out.fused, target)
    for branch in (out.target, out.around, out.whole):
        loss = loss + 0.7 * functional.mse_loss(branch, target) + 0.3 * functional.mse_loss(fused, branch)
    return loss
