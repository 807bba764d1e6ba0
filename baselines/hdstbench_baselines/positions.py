"""Places of units as rows of learned tables, as HisToGene and Hist2ST have them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hdstbench.arrays import IntArray
from hdstbench.protocol.slide import Slide

RASTER_PX, RASTER_STEPS = 56, 30


@dataclass(frozen=True, slots=True)
class PositionMap:
    """Which rows of the tables an array place has.

    Attributes:
        extent: Array indices that the training slides span along the longer axis.
        steps: Rows that this extent is divided into; 0 for a row an index.
    """

    extent: int
    steps: int = 0

    @classmethod
    def of(cls, slides: Sequence[Slide], steps: int) -> "PositionMap":
        """Span all prepared units of some slides."""
        return cls(max(int(slide.whole().grid.max()) + 1 for slide in slides), steps)

    @property
    def rows(self) -> int:
        """Rows that a table needs."""
        return self.steps or self.extent

    def __call__(self, grid: IntArray) -> Tensor:
        """Turn array (row, column) into rows of the (x, y) tables, [N, 2] -> int64 [N, 2].

        Indices outside of the extent, which only an unseen slide has, count as its border.
        """
        column_first = np.clip(grid[:, ::-1], 0, self.extent - 1)
        if self.steps:
            column_first = column_first * self.steps // self.extent
        return torch.from_numpy(np.ascontiguousarray(column_first))


class PositionTables(nn.Module):
    """A learned vector a column (x) and a row (y) of the array, added up."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.x, self.y = nn.Embedding(rows, width), nn.Embedding(rows, width)

    def forward(self, positions: Tensor) -> Tensor:
        """Look up places (x, y), int64 [N, 2] -> [N, D]."""
        out: Tensor = self.x(positions[:, 0]) + self.y(positions[:, 1])
        return out


def raster(spots_px: IntArray) -> tuple[IntArray, IntArray]:
    """Lay HisToGene's super-resolution raster over the spots of a slide.

    The suite does not predict on it; it is for users of `load_official`. As in the authors' code the
    origin is not subtracted, so rows are shifted by the left and upper margin.

    Args:
        spots_px: Spot centres (x, y) in pixels, [M, 2].

    Returns:
        Patch centres (x, y), x fastest, [R, 2]; and their rows of the tables, [R, 2].
    """
    low, high = spots_px.min(axis=0), spots_px.max(axis=0)
    x, y = (np.arange(a, b, RASTER_PX) for a, b in zip(low, high, strict=True))
    centres = np.stack([np.tile(x, len(y)), np.repeat(y, len(x))], axis=1)
    step = np.maximum((high - low) // RASTER_STEPS, 1)
    return centres, centres // step
