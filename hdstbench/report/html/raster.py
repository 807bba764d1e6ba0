"""Units as pixels: maps of one slide as small indexed pictures, all of one frame."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image
from scipy.spatial import cKDTree

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.protocol.slide import Slide

LEVELS, ERROR_LEVELS = 64, 33
"""Colours of a map and of an error; the latter is odd, so that no error has a colour of its own."""
PALETTE, ERROR_PALETTE = "viridis", "PuOr_r"
"""Both can be told apart with any kind of colour blindness."""
SHARE = 0.6
"""Diameter of a lone spot over the pitch, as it is drawn."""
OFF = 0.1
"""How far a bin may lie from its place on the lattice, of its side."""
MOST_CELLS = 10_000
"""Of a slide: so many, 32 genes, seven models and four slides make a report of less than 20 MB."""
MOST_PIXELS = 2400
"""Along the longer side; units become smaller than two pixels rather than a picture larger."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How the pixels of a slide's maps lie on it.

    Attributes:
        cell: Number of the cell that each pixel shows, -1 where there is none, [H, W].
        group: The cell of each unit, [N]; a cell shows the mean of its units.
        across: Units along the side of a cell.
        matrix: Six numbers a to f: the corner at pixels (x, y) lies at (ax + cy + e, bx + dy + f) um.
    """

    cell: IntArray
    group: IntArray
    across: int
    matrix: tuple[float, ...]

    def corners(self) -> FloatArray:
        """Places of the four corners, um, [4, 2]."""
        high, wide = self.cell.shape
        a, b, c, d, e, f = self.matrix
        pixels = np.array([[0, 0], [wide, 0], [0, high], [wide, high]])
        return np.asarray(pixels @ [[a, b], [c, d]] + [e, f])

    def means(self, values: FloatArray) -> FloatArray:
        """Of the units of each cell."""
        return np.asarray(np.bincount(self.group, values) / np.bincount(self.group))


def frame_of(slide: Slide) -> Frame:
    """Lay pixels over all units of a slide: one a bin, along the array; discs where units lie alone.

    Where a slide has more than `MOST_CELLS` bins, a pixel is a square of several: a report stays small.
    """
    if len(slide.blocks()) < len(slide):
        found = _along_array(slide)
        if found is not None:
            return found
        return _along_image(slide, slide.unit_um, math.sqrt(0.5))  # as far as the corner of a square
    return _along_image(slide, SHARE * slide.unit_um, 0.5)


def _along_array(slide: Slide) -> Frame | None:
    """A pixel for each row and column, turned and mirrored as the array is; None if it is no lattice."""
    across = math.ceil(math.sqrt(len(slide) / MOST_CELLS))
    row, col = slide.grid.T
    known = np.stack([col + 0.5, row + 0.5, np.ones(len(row))], axis=1)
    fit, _, rank, _ = np.linalg.lstsq(known, slide.xy_um, rcond=None)
    if rank < len(fit) or np.abs(known @ fit - slide.xy_um).max() > OFF * slide.unit_um:
        return None
    low = slide.grid.min(axis=0) // across  # cells are aligned with blocks
    place = slide.grid // across - low
    cells, group = np.unique(place, axis=0, return_inverse=True)
    cell = np.full(place.max(axis=0) + 1, -1)
    cell[tuple(cells.T)] = np.arange(len(cells))
    first = np.array([low[1] * across, low[0] * across, 1]) @ fit
    turn = (fit[:2] * across).ravel().tolist()
    return Frame(cell, group.ravel(), across, (*turn, float(first[0]), float(first[1])))


def _along_image(slide: Slide, side: float, reach: float) -> Frame:
    """Two pixels along the side of a unit, each of the unit that is nearest, up to `reach` sides away."""
    low, high = slide.xy_um.min(axis=0) - side, slide.xy_um.max(axis=0) + side
    step = max(side / 2, float((high - low).max()) / MOST_PIXELS)
    width, height = np.ceil((high - low) / step).astype(int).tolist()
    x, y = low[0] + (np.arange(width) + 0.5) * step, low[1] + (np.arange(height) + 0.5) * step
    middles = np.stack(np.meshgrid(x, y), axis=-1)
    _, near = cKDTree(slide.xy_um).query(middles, distance_upper_bound=max(reach * side, step))
    cell = np.where(near == len(slide), -1, near)
    return Frame(cell, np.arange(len(slide)), 1, (step, 0.0, 0.0, step, float(low[0]), float(low[1])))


def write_map(path: Path, frame: Frame, values: FloatArray, low: float, top: float) -> None:
    """Write a map of N values; those beyond the scale get the colour of its end.

    Args:
        path: A PNG.
        frame: Of the slide.
        values: One a unit, [N].
        low: Lower end of the colour scale.
        top: Its upper end.
    """
    share = np.clip((frame.means(values) - low) / (top - low), 0, 1)
    _write(path, frame, np.rint(share * (LEVELS - 1)).astype(np.uint8), colours(PALETTE, LEVELS))


def write_error(path: Path, frame: Frame, errors: FloatArray, reach: float) -> None:
    """Write a map of N errors, prediction less measurement, on a scale from -reach to reach."""
    half = ERROR_LEVELS // 2
    steps = np.rint(np.clip(frame.means(errors) / reach, -1, 1) * half) + half
    _write(path, frame, steps.astype(np.uint8), colours(ERROR_PALETTE, ERROR_LEVELS))


def colours(name: str, count: int) -> IntArray:
    """Colours of a palette from end to end, uint8 [count, 3]."""
    return np.asarray(np.rint(colormaps[name](np.linspace(0, 1, count))[:, :3] * 255), np.uint8)


def _write(path: Path, frame: Frame, steps: IntArray, palette: IntArray) -> None:
    """Write an indexed PNG whose colour 0 is transparent."""
    index = np.where(frame.cell < 0, 0, steps[frame.cell] + 1).astype(np.uint8)
    image = Image.fromarray(index, "P")
    image.putpalette([255, 255, 255, *palette.ravel().tolist()])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, transparency=0, optimize=True)
