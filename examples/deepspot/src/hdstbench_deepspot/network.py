"""The deep set: every member goes through the same networks, and a set becomes one vector.

B units, S sub-tiles of each, K tiles around each, E features of the encoder, D width, G genes.
"""

import torch
from torch import Tensor, nn


class Members(nn.Module):
    """Several networks that see the same; their outputs are stacked in front."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of all, [members, ...]."""
        return torch.stack([network(x) for network in self.networks])


class DeepSet(nn.Module):
    """Predict units from their tile, its sub-tiles and the tiles around it.

    Args:
        features: Of the encoder, E.
        genes: G.
        width: Of the vector of each set, D.
        members: Networks of each kind.
        dropout: Share that is left out in training.
    """

    def __init__(self, features: int, genes: int, width: int, members: int, dropout: float) -> None:
        super().__init__()
        self.each = Members(
            [
                nn.Sequential(nn.Linear(features, width), nn.Dropout(dropout), nn.ReLU())
                for _ in range(members)
            ]
        )
        self.all = Members(
            [nn.Sequential(nn.Dropout(dropout), nn.Linear(3 * width, genes)) for _ in range(members)]
        )

    def forward(self, tile: Tensor, inside: Tensor, around: Tensor, there: Tensor) -> Tensor:
        """Predict.

        Args:
            tile: Features of the units' tiles, [B, E].
            inside: Of their sub-tiles, [B, S, E].
            around: Of the tiles around them, [B, K, E].
            there: Which of those lie in the image, [B, K].

        Returns:
            [B, G].
        """
        near = self._embed(around) * there[:, :, None]
        vectors = (self._embed(tile), self._embed(inside).sum(dim=1), near.amax(dim=1))
        out: Tensor = self.all(torch.cat(vectors, dim=1)).mean(dim=0)
        return out

    def _embed(self, x: Tensor) -> Tensor:
        """The members' median of each entry."""
        values: Tensor = self.each(x).median(dim=0).values
        return values
