"""EGN's network: tokens of a patch that are refined by exemplars, units whose expression is known."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from hdstbench_baselines.attention import Attention, FeedForward

GATE_HEADS = 4
"""Fixed in the authors' code; only sets the hidden width of the gates."""
POOL_SHARE, POOL_SHARPNESS = 0.5, 0.1
"""Weight and inverse temperature of the softmax part of the pooling."""
PCC_SHARE, EPSILON = 0.5, 1e-8
"""Weight of the correlation in the loss, and what keeps it finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EGNShape:
    """Sizes of the network; defaults are the authors'.

    Attributes:
        patch: Side of the square that makes a token, px.
        grid: Tokens along a side.
        features: Width M of a unit's feature vector.
        exemplar_heads: Heads of the exemplar blocks, each `exemplar_width` wide.
        every: One block in so many is followed by an exemplar block.
        paper_update: Add to the query that the exemplars changed, as in the paper, instead of to the
            one before, as in the authors' code.
    """

    genes: int
    patch: int
    features: int
    grid: int = 8
    width: int = 1024
    depth: int = 8
    heads: int = 16
    head_width: int = 64
    hidden: int = 4096
    exemplar_heads: int = 8
    exemplar_width: int = 64
    every: int = 2
    projector_layers: int = 2
    paper_update: bool = False


class Projector(nn.Module):
    """Bring a unit and its exemplars into one space of width D."""

    def __init__(self, shape: EGNShape) -> None:
        super().__init__()
        self.query = nn.Linear(shape.features, shape.width)
        self.exemplar = nn.Linear(shape.features + shape.genes, shape.width)
        self.value = nn.Linear(shape.genes, shape.width)
        self.layers = nn.ModuleList(_Residual(shape.width) for _ in range(shape.projector_layers))

    def forward(self, query: Tensor, exemplars: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project.

        Args:
            query: Features of the units, [B, M].
            exemplars: Features of their exemplars, [B, k, M].
            values: Targets of the exemplars, [B, k, G].

        Returns:
            Queries [B, 1, D], exemplars [B, k, D] and values [B, k, D].
        """
        tokens = torch.cat(
            [self.query(query)[:, None], self.exemplar(torch.cat([exemplars, values], dim=-1))], dim=1
        )
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens[:, :1], tokens[:, 1:], self.value(values)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.feed = FeedForward(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = tokens + self.feed(self.norm(tokens))
        return out


class ExemplarBlock(nn.Module):
    """Let the exemplars say where in the patch to look, and the patch refine the query."""

    def __init__(self, shape: EGNShape) -> None:
        super().__init__()
        width, inner = shape.width, shape.exemplar_heads * shape.exemplar_width
        gate = GATE_HEADS * shape.exemplar_width
        self.grid, self.heads, self.paper_update = shape.grid, shape.exemplar_heads, shape.paper_update
        self.value = nn.Linear(width, width)
        self.gates = nn.Sequential(nn.Linear(2 * width, gate), nn.SiLU(), nn.Linear(gate, 2 * width))
        self.exemplar_norm = nn.LayerNorm(width)
        self.key_norm, self.content_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.key = nn.Linear(width, shape.grid**2 * shape.exemplar_heads)
        self.content = nn.Linear(width, inner)
        self.to_tokens = nn.Linear(inner, width, bias=False)
        self.to_query = nn.Linear(inner, width, bias=False)

    def forward(
        self, tokens: Tensor, query: Tensor, exemplars: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update tokens [B, L, D], queries [B, 1, D] and exemplars [B, k, D]; values are [B, k, D]."""
        value = self.value(values)
        gates = self.gates(torch.cat([query - exemplars, exemplars], dim=-1))
        to_query, to_exemplar = gates.sigmoid().chunk(2, dim=-1)
        told = query + (to_query * value).mean(dim=1, keepdim=True)
        place = rearrange(self.key(self.key_norm(told)), "b 1 (h l) -> b l h 1", h=self.heads).sigmoid()
        content = rearrange(self.content(self.content_norm(tokens)), "b l (h d) -> b l h d", h=self.heads)
        seen = rearrange(content * place, "b l h d -> b l (h d)")
        old = told if self.paper_update else query
        query = old + self.to_query(seen.mean(dim=1, keepdim=True))
        return tokens + self.to_tokens(seen), query, self.exemplar_norm(exemplars + to_exemplar * value)


class Block(nn.Module):
    """Attention that is told the positions anew, in some blocks the exemplars, a feed-forward net."""

    def __init__(self, shape: EGNShape, number: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width)
        self.attention = Attention(shape.width, shape.heads, shape.head_width)
        self.exemplars = ExemplarBlock(shape) if number % shape.every == 0 else None
        self.feed_norm = nn.LayerNorm(shape.width)
        self.feed = FeedForward(shape.width, shape.hidden)

    def forward(
        self, tokens: Tensor, positions: Tensor, known: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Update tokens [B, L, D] and what is known: queries, exemplars and values."""
        tokens = tokens + self.attention(self.attention_norm(tokens + positions))
        if self.exemplars is not None:
            tokens, query, exemplars = self.exemplars(tokens, *known)
            known = (query, exemplars, known[2])
        return tokens + self.feed(self.feed_norm(tokens)), known


class EGNetwork(nn.Module):
    """A transformer over the squares of a patch, with exemplar blocks.

    The position table has a row more than there are squares, as the authors' has; it is never used.
    """

    def __init__(self, shape: EGNShape) -> None:
        super().__init__()
        self.patch = shape.patch
        self.embed = nn.Linear(3 * shape.patch**2, shape.width)
        self.positions = nn.Parameter(torch.randn(1, shape.grid**2 + 1, shape.width))
        self.projector = Projector(shape)
        self.blocks = nn.ModuleList(Block(shape, number) for number in range(1, shape.depth + 1))
        self.pool = nn.Linear(shape.width, shape.width)
        self.head_norm = nn.LayerNorm(2 * shape.width)
        self.head = nn.Linear(2 * shape.width, shape.genes)

    def features(self, pixels: Tensor, query: Tensor, exemplars: Tensor, values: Tensor) -> Tensor:
        """What the head sees: pooled tokens and the query, normalised, [B, 2 D]."""
        squares = rearrange(pixels, "b c (r p) (s q) -> b (r s) (p q c)", p=self.patch, q=self.patch)
        positions = self.positions[:, :-1]
        tokens = self.embed(squares) + positions
        known = self.projector(query, exemplars, values)
        for block in self.blocks:
            tokens, known = block(tokens, positions, known)
        scores = self.pool(tokens)
        focus = (scores * functional.softmax(POOL_SHARPNESS * scores, dim=1)).sum(dim=1)
        pooled, refined = scores.mean(dim=1) + POOL_SHARE * focus, known[0][:, 0]
        out: Tensor = self.head_norm(torch.cat([pooled, refined], dim=-1))
        return out

    def forward(self, pixels: Tensor, query: Tensor, exemplars: Tensor, values: Tensor) -> Tensor:
        """Predict.

        Args:
            pixels: Standardised patches of grid * patch pixels a side, [B, 3, S, S].
            query: Features of the units, [B, M].
            exemplars: Features of their exemplars, [B, k, M].
            values: What the exemplars measured, in the space that is trained on, [B, k, G].

        Returns:
            Predictions in that space, [B, G].
        """
        out: Tensor = self.head(self.features(pixels, query, exemplars, values))
        return out


def correlation(predicted: Tensor, target: Tensor) -> Tensor:
    """Pearson's r of each gene over the units of a batch, [B, G] -> [G]; 0 where one is constant."""
    p, t = predicted - predicted.mean(dim=0), target - target.mean(dim=0)
    norms = torch.linalg.vector_norm(p, dim=0) * torch.linalg.vector_norm(t, dim=0)
    return (p * t).sum(dim=0) / (norms + EPSILON)


def egn_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error and half of one less the mean correlation, [B, G] each."""
    predicted = predicted.float()
    distance = 1 - correlation(predicted, target).mean()
    return functional.mse_loss(predicted, target) + PCC_SHARE * distance
