"""How features are read off a network: its map, the tokens of a vision transformer, or a pooler's output.

B patches, T tokens, D width of a token, W width of a feature, P places.
"""

from abc import abstractmethod
from math import isqrt
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

MAP, TOKENS = 4, 3
"""Dimensions of a feature map [B, D, h, w] and of tokens [B, T, D]."""


@runtime_checkable
class Reading(Protocol):
    """A network that knows how its features of places are made."""

    def places(self, pixels: Tensor, side: int) -> Tensor:
        """Features of side x side places, float [B, 3, S, S] -> [B, P, W]; side 0: its own map's places."""
        ...


def as_map(net: nn.Module, out: Tensor, width: int) -> Tensor | None:
    """What a network of timm gives before pooling, as a map [B, D, h, w]; None if there is no map.

    Of tokens those of patches count; class and register tokens stand in front of them.
    """
    if out.ndim == MAP and out.shape[1] == width:
        return out
    if out.ndim == MAP and out.shape[3] == width:
        return out.permute(0, 3, 1, 2)
    if out.ndim == TOKENS and out.shape[2] == width and hasattr(net, "num_prefix_tokens"):
        patches = out[:, int(net.num_prefix_tokens) :]  # type: ignore[arg-type]
        side = isqrt(patches.shape[1])
        if side * side == patches.shape[1]:
            return patches.transpose(1, 2).reshape(len(out), width, side, side)
    return None


def cells(maps: Tensor, side: int) -> Tensor:
    """Pool a map to side x side places, [B, D, h, w] -> [B, P, D]; with side 0 each place is one."""
    pooled = functional.adaptive_avg_pool2d(maps, side) if side else maps
    return pooled.flatten(2).transpose(1, 2)


class _Reader(nn.Module):
    """A vision transformer of timm, and what is made of its tokens."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    @abstractmethod
    def places(self, pixels: Tensor, side: int) -> Tensor:
        """Describe places, float [B, 3, S, S] -> [B, P, W]."""

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Describe every place of the map, float [B, 3, S, S] -> [B, P, W]."""
        return self.places(pixels, 0)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Tokens of the transformer, float [B, 3, S, S] -> [B, T, D]."""
        out: Tensor = self.trunk.forward_features(pixels)  # type: ignore[operator]
        return out

    def set_grad_checkpointing(self, enable: bool = True) -> None:  # noqa: FBT001, FBT002 - timm's signature
        """As timm's networks have it."""
        self.trunk.set_grad_checkpointing(enable)  # type: ignore[operator]

    def cells(self, tokens: Tensor, side: int) -> Tensor:
        """Mean tokens of places, [B, T, D] -> [B, P, D]."""
        maps = as_map(self.trunk, tokens, tokens.shape[2])
        assert maps is not None  # these transformers have square maps
        return cells(maps, side)


class ClassAndMean(_Reader):
    """The class token beside the mean of the patch tokens, [B, 2 D]; a place has its own mean.

    Source: Virchow's model card, `torch.cat([class_token, patch_tokens.mean(1)], dim=-1)`.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        """Describe patches, float [B, 3, S, S] -> [B, 2 D]."""
        return self.places(pixels, 1)[:, 0]

    @override
    def places(self, pixels: Tensor, side: int) -> Tensor:
        tokens = self.tokens(pixels)
        means = self.cells(tokens, side)
        return torch.cat([tokens[:, :1].expand(-1, means.shape[1], -1), means], dim=2)


class AttentionPool(nn.Module):
    """One learned query that attends to tokens, [B, T, D] -> [B, W]; tensors are named as CONCH's are."""

    def __init__(self, width: int, out: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, out))
        self.attn = nn.MultiheadAttention(out, heads, kdim=width, vdim=width, batch_first=True)
        self.ln_q = nn.LayerNorm(out)
        self.ln_k = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens, [B, T, D] -> [B, W]."""
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        keys = self.ln_k(tokens)
        out: Tensor = self.attn(query, keys, keys, need_weights=False)[0]
        return out[:, 0]


class AttentionPooled(_Reader):
    """CONCH's image tower up to the normalised output of its contrastive pooler, without projection.

    A place is its mean token, pooled alone. Source: github.com/mahmoodlab/CONCH, `vision_tower.py`,
    `forward_no_head`, which its authors recommend for tasks on images.
    """

    def __init__(self, trunk: nn.Module, width: int, out: int, heads: int) -> None:
        super().__init__(trunk)
        self.attn_pool_contrast = AttentionPool(width, out, heads)
        self.ln_contrast = nn.LayerNorm(out)

    def forward(self, pixels: Tensor) -> Tensor:
        """Describe patches, float [B, 3, S, S] -> [B, W]."""
        out: Tensor = self.ln_contrast(self.attn_pool_contrast(self.tokens(pixels)))
        return out

    @override
    def places(self, pixels: Tensor, side: int) -> Tensor:
        means = self.cells(self.tokens(pixels), side)
        pooled = self.ln_contrast(self.attn_pool_contrast(means.flatten(0, 1)[:, None]))
        out: Tensor = pooled.reshape(*means.shape[:2], -1)
        return out
