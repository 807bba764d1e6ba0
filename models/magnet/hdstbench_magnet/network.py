"""The network: fusion of levels, graph rounds, a transformer over a node's rounds, heads.

Notation: N units, M units of a coarser level, K keys of one patch, D width, G genes, E edges.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from hdstbench_magnet.config import MagNetConfig


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


class GraphRounds(nn.Module):
    """Rounds of graph attention, and a transformer that weighs the rounds of each node (2.2)."""

    def __init__(self, config: MagNetConfig) -> None:
        super().__init__()
        from torch_geometric.nn import GATConv  # noqa: PLC0415 - slow to import

        width, heads = config.width, config.heads
        self.rounds = nn.ModuleList(
            GATConv(width, width // heads, heads=heads, dropout=config.dropout, add_self_loops=False)
            for _ in range(config.rounds)
        )
        self.place = nn.Parameter(0.02 * torch.randn(config.rounds + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, config.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.mixer = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes [N, D], edges int64 [2, E] with a loop a node -> [N, D]."""
        rounds = [nodes]
        for attend in self.rounds:
            rounds.append(nn.functional.elu(attend(rounds[-1], edges)))
        tokens = torch.stack(rounds, dim=1) + self.place
        mixed: Tensor = self.mixer(tokens)
        return mixed.mean(dim=1)


class Level(nn.Module):
    """What each level has of its own: projection, graph rounds, head."""

    def __init__(self, encoder_width: int, genes: int, config: MagNetConfig) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(encoder_width), nn.Linear(encoder_width, config.width))
        self.graph = GraphRounds(config)
        self.head = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, genes))

    def predict(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes [N, D] -> [N, G]."""
        out: Tensor = self.head(self.graph(nodes, edges))
        return out


class MagNetwork(nn.Module):
    """MagNet on features: of units [N, E], and of coarser levels [M, K, E].

    `levels` are those that the task has, "unit" first; a task of native spots has no others.
    """

    def __init__(self, levels: tuple[str, ...], encoder_width: int, genes: int, config: MagNetConfig) -> None:
        super().__init__()
        self.levels = nn.ModuleDict({name: Level(encoder_width, genes, config) for name in levels})
        self.coarse = levels[1:]
        width, heads = config.width, config.heads
        self.attend = nn.ModuleDict({name: CrossLevel(width, heads, config.dropout) for name in self.coarse})
        self.concat = config.fusion == "concat" and bool(self.coarse)
        self.join = nn.Linear(len(levels) * width, width) if self.concat else nn.Identity()

    def set_start(self, mean: Tensor) -> None:
        """Let every head start at the training mean, [G]."""
        for head in (level.head[-1] for level in self.levels.values()):  # type: ignore[index]
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.weight)
            with torch.no_grad():
                head.bias.copy_(mean)

    def forward(
        self, unit: Tensor, keys: dict[str, Tensor], parent: dict[str, Tensor], edges: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Predict every level.

        Args:
            unit: Features of the units, [N, E].
            keys: Feature maps of each coarser level, [M, K, E].
            parent: Each unit's parent among them, [N].
            edges: Edges within each level, [2, E].

        Returns:
            Predictions by level: [N, G], and [M, G] of the coarser ones.
        """
        query = self.levels["unit"].project(unit)  # type: ignore[operator]
        views, out = [query], {}
        for name in self.coarse:
            level = self.levels[name]
            projected = level.project(keys[name])  # type: ignore[operator]
            views.append(self.attend[name](query, projected[parent[name]]))
            out[name] = level.predict(projected.mean(dim=1), edges[name])  # type: ignore[operator]
        fused = self.join(torch.cat(views, dim=-1)) if self.concat else torch.stack(views).sum(dim=0)
        out["unit"] = self.levels["unit"].predict(fused, edges["unit"])  # type: ignore[operator]
        return out
