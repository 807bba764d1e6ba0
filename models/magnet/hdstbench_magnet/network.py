"""The network: fusion of levels, graph rounds, a transformer over a node's rounds, heads.

Notation: N units, M units of a coarser level, K keys of one patch, D width, G genes, E edges, T tokens.
"""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from hdstbench_magnet.config import MagNetConfig

UNIT = "unit"


class CrossLevel(nn.Module):
    """A unit attends to the feature map of the spot or region that it lies in (equation 1)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)

    def forward(self, unit: Tensor, keys: Tensor) -> Tensor:
        """Query [N, D] with each unit's own keys [N, K, D] -> [N, D]."""
        query = rearrange(unit, "n d -> n 1 d")
        found, _ = self.attention(query, keys, keys, need_weights=False)
        return rearrange(found, "n 1 d -> n d")


class MeanRound(nn.Module):
    """The released "graph attention": a mean over neighbours, projected, of unit length.

    Its attention is a positive number a row, which the length takes out again, so it is left out.
    """

    def __init__(self, width: int) -> None:
        from torch_geometric.nn import SimpleConv  # noqa: PLC0415 - slow to import

        super().__init__()
        self.mean = SimpleConv(aggr="mean")
        self.project = nn.Linear(width, width, bias=False)
        nn.init.xavier_uniform_(self.project.weight)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes [N, D], edges [2, E] -> [N, D]."""
        around: Tensor = self.mean(nodes, edges)
        return functional.normalize(functional.relu(self.project(around)), dim=1, eps=1e-12)


class AttentionRound(nn.Module):
    """Graph attention, its heads concatenated (equation 2)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        from torch_geometric.nn import GATConv  # noqa: PLC0415 - slow to import

        super().__init__()
        self.attend = GATConv(width, width // heads, heads=heads, dropout=dropout, add_self_loops=False)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes [N, D], edges [2, E] -> [N, D]."""
        return functional.elu(self.attend(nodes, edges))


class GraphRounds(nn.ModuleList):
    """The rounds of one level; each level has its own."""

    def __init__(self, config: MagNetConfig) -> None:
        made: list[nn.Module] = []
        for _ in range(config.graph_depth if config.graph_attention != "off" else 0):
            attends = config.graph_attention == "gat"
            made.append(
                AttentionRound(config.width, config.heads, config.dropout)
                if attends
                else MeanRound(config.width)
            )
        super().__init__(made)
        self.stacked = config.rounds == "stacked"
        self.round_zero = config.round_zero or not len(self)

    def forward(self, nodes: Tensor, edges: Tensor) -> list[Tensor]:
        """Nodes [N, D], edges [2, E] from neighbour to node -> the T tokens of each node, [N, D] each."""
        last, rounds = nodes, []
        for one in self:
            last = one(last if self.stacked else nodes, edges)
            rounds.append(last)
        return [nodes, *rounds] if self.round_zero else rounds


class TokenMixer(nn.Module):
    """A transformer over the rounds of a node (section 2.2); all levels share it."""

    def __init__(self, config: MagNetConfig, extra: int) -> None:
        super().__init__()
        self.mixed = config.tokens == "mixed"
        self.place = nn.Parameter(config.place_sd * torch.randn(config.token_count + extra, config.width))
        width, heads = config.width, config.heads
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, config.dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Tokens, [N, D] each -> [N, D]."""
        if self.mixed:  # row i is made of rows 3 i to 3 i + 2 of the stack, whosever they are
            stack = torch.stack(list(tokens))
            joined = stack.reshape(stack.shape[1], stack.shape[0], stack.shape[2])
        else:
            joined = torch.stack(list(tokens), dim=1)
        out: Tensor = self.layers(joined + self.place[: len(tokens)])
        return out.mean(dim=1)


def make_head(width: int, genes: int) -> nn.Sequential:
    """A regression head."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, genes))


class MagNetwork(nn.Module):
    """MagNet on features of width D: of units [N, D], and of coarser levels [M, K, D].

    `coarse` are the names of those levels; a task of native spots has none.
    """

    def __init__(self, coarse: Sequence[str], genes: int, config: MagNetConfig) -> None:
        super().__init__()
        self.coarse, width = tuple(coarse), config.width
        self.attend = nn.ModuleDict(
            {name: CrossLevel(width, config.heads, config.dropout) for name in self.coarse}
        )
        self.concat = config.fusion == "concat" and bool(self.coarse)
        self.join = nn.Linear((1 + len(self.coarse)) * width, width) if self.concat else nn.Identity()
        self.rounds = nn.ModuleDict({name: GraphRounds(config) for name in (UNIT, *self.coarse)})
        self.cross = config.cross_level_tokens
        self.mixer = TokenMixer(config, len(self.coarse) if self.cross else 0)
        named = ("all",) if config.share_head else (UNIT, *self.coarse)
        self.heads = nn.ModuleDict({name: make_head(width, genes) for name in named})

    def head_of(self, level: str) -> nn.Module:
        """The head that predicts a level."""
        return self.heads["all" if "all" in self.heads else level]

    def set_start(self, mean: Tensor) -> None:
        """Let every head start at the training mean, [G]."""
        for head in self.heads.values():
            last = head[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)
            with torch.no_grad():
                last.bias.copy_(mean)

    def forward(
        self,
        unit: Tensor,
        keys: Mapping[str, Tensor],
        parent: Mapping[str, Tensor],
        edges: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Predict every level.

        Args:
            unit: Features of the units, [N, D].
            keys: Feature maps of each coarser level, [M, K, D].
            parent: Each unit's parent among them, [N].
            edges: Edges within each level, from neighbour to node, [2, E].

        Returns:
            Predictions by level: [N, G], and [M, G] of the coarser ones.
        """
        views = {name: keys[name][parent[name]] for name in self.coarse}
        nodes = {UNIT: self.fuse(unit, views)} | {name: keys[name].mean(dim=1) for name in self.coarse}
        return self.predict(nodes, parent, edges)

    def fuse(self, unit: Tensor, views: Mapping[str, Tensor]) -> Tensor:
        """Join a unit, [N, D], with what it finds in its spot and region, [N, K, D] each -> [N, D]."""
        heard = [unit, *(self.attend[name](unit, views[name]) for name in self.coarse)]
        joined: Tensor = self.join(torch.cat(heard, dim=-1)) if self.concat else torch.stack(heard).sum(dim=0)
        return joined

    def predict(
        self, nodes: Mapping[str, Tensor], parent: Mapping[str, Tensor], edges: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Graph, transformer and head of every level, [N, D] each -> [N, G] each."""
        tokens = {name: self.rounds[name](nodes[name], edges[name]) for name in (*self.coarse, UNIT)}
        if self.cross:
            tokens[UNIT] += [tokens[name][-1][parent[name]] for name in self.coarse]
        return {name: self.head_of(name)(self.mixer(tokens[name])) for name in tokens}
