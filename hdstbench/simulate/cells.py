"""Cell types: how they look, how much RNA they hold, and the table of a slide's cells."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from hdstbench.arrays import FloatArray, IntArray


class Region(IntEnum):
    """What a place of the section is."""

    BACKGROUND = 0
    LUMEN = 1
    GLAND = 2
    STROMA = 3
    MUSCLE = 4
    IMMUNE = 5


@dataclass(frozen=True, slots=True)
class CellType:
    """One kind of cell.

    Sizes are the axes of its nucleus in um, as a pathologist would call them; darkness is the
    nucleus' haematoxylin density; rna is the relative amount of RNA.
    """

    name: str
    major_um: float
    minor_um: float
    darkness: float
    rna: float


TYPES = (
    CellType("enterocyte", 9.0, 5.0, 0.75, 1.4),
    CellType("goblet", 6.0, 4.5, 0.95, 1.0),
    CellType("stem", 9.5, 5.0, 1.05, 1.6),
    CellType("fibroblast", 13.0, 3.2, 0.75, 0.7),
    CellType("endothelial", 11.0, 3.0, 0.90, 0.6),
    CellType("muscle", 17.0, 3.2, 0.65, 0.6),
    CellType("t-cell", 5.6, 5.2, 1.25, 0.5),
    CellType("b-cell", 5.8, 5.6, 1.20, 0.6),
    CellType("plasma", 6.4, 5.6, 1.10, 1.2),
    CellType("macrophage", 8.5, 6.5, 0.70, 0.9),
)
NAMES = tuple(kind.name for kind in TYPES)
EPITHELIAL, STROMAL, IMMUNE = (0, 1, 2), (3, 4, 5), (6, 7, 8, 9)

STROMA_MIX = np.array([0, 0, 0, 0.50, 0.17, 0, 0.07, 0.03, 0.06, 0.17])
"""Shares outside the epithelium: labels of P1 and P2 CRC together (Oliveira et al. 2025)."""
MUSCLE_MIX = np.array([0, 0, 0, 0.08, 0.08, 0.82, 0, 0, 0, 0.02])
IMMUNE_MIX = np.array([0, 0, 0, 0.05, 0.05, 0, 0.40, 0.30, 0.12, 0.08])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells of a slide, in um of the image frame (x right, y down); all arrays [C]."""

    x: FloatArray
    y: FloatArray
    kind: IntArray
    angle: FloatArray

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissue:
    """A section: rasters of `step_um` um a pixel, and cells.

    `region` holds `Region` values, `zone` a smooth field in [0, 1] that sets crypt size and goblet
    share, `hidden` a smooth standard normal field that leaves no trace in the image; all [H, W].
    """

    step_um: float
    region: IntArray
    zone: FloatArray
    hidden: FloatArray
    cells: Cells

    def at(self, field: FloatArray) -> FloatArray:
        """Return the values of a raster under each cell, [C]."""
        rows = np.clip((self.cells.y / self.step_um).astype(int), 0, field.shape[0] - 1)
        cols = np.clip((self.cells.x / self.step_um).astype(int), 0, field.shape[1] - 1)
        return np.asarray(field[rows, cols])
