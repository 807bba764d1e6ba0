"""Units laid over the tissue of a slide that nobody measured: places and pixels, no counts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage, sparse

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.data.geometry import Affine
from hdstbench.data.image import SlideImage
from hdstbench.data.levels import Resolution, cell_of, centre_of, number_cells
from hdstbench.data.overview import Overview, read_overview
from hdstbench.data.positions import fit, read_positions
from hdstbench.data.units import Coarse, Units, parents_of
from hdstbench.errors import DataError

THUMBNAIL_PX = 1500
LEAST_UM = 100.0
"""Pieces of tissue, and holes in it, that are smaller than a square of this side do not count."""
BINS = 256
BLACK = 24
"""A pixel whose brightest channel is below it is no tissue: scanners fill what they did not scan."""


@dataclass(frozen=True, slots=True)
class Places:
    """N squares of an array over a picture.

    Attributes:
        grid: Array row and column, int64 [N, 2].
        xy_um: Centres in the image frame, [N, 2].
        uv_um: Centres in the array frame, [N, 2].
        to_image: From um of the array frame to um of the image.
    """

    grid: IntArray
    xy_um: FloatArray
    uv_um: FloatArray
    to_image: Affine

    def __len__(self) -> int:
        return len(self.grid)

    def take(self, index: IntArray) -> "Places":
        """Some of the squares, in the order given."""
        return replace(self, grid=self.grid[index], xy_um=self.xy_um[index], uv_um=self.uv_um[index])


def look_at(image: SlideImage, mpp: float) -> Overview:
    """A small picture of a whole slide."""
    size = np.array(image.size) * mpp
    return read_overview(image, mpp, np.zeros(2), size, THUMBNAIL_PX)


def tissue_mask(view: Overview) -> BoolArray:
    """Which pixels of a small picture show tissue: those of more colour than the glass, by Otsu's threshold.

    Colour is the difference between the brightest and the darkest channel, smoothed. Small pieces go,
    small holes are filled.

    Reference:
        Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9, 1979.
    """
    pixels = view.pixels.astype(np.float32)
    colour = ndimage.gaussian_filter(pixels.max(axis=2) - pixels.min(axis=2), 1.0)
    mask = (colour > otsu(colour)) & (pixels.max(axis=2) > BLACK)
    least = max(1, round((LEAST_UM / view.step_um) ** 2))
    mask = _without_small(mask, least)
    return ~_without_small(~mask, least)


def otsu(values: FloatArray) -> float:
    """The threshold that parts values into two classes with the largest variance between them."""
    count, edge = np.histogram(values, bins=BINS)
    middle, below = (edge[:-1] + edge[1:]) / 2, np.cumsum(count)
    total, summed = below[-1], np.cumsum(count * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = summed / below, (summed[-1] - summed) / (total - below)
        between = below * (total - below) * (low - high) ** 2
    return float(edge[1:][np.nanargmax(np.nan_to_num(between))])


def _without_small(mask: BoolArray, least: int) -> BoolArray:
    labels, _ = ndimage.label(mask)
    size = np.bincount(labels.ravel())
    size[0] = 0
    return np.asarray((size >= least)[labels])


def lay_grid(size_um: FloatArray, unit_um: float, view: Overview, mask: BoolArray | None) -> Places:
    """Lay an array over a picture from its corner, and take the squares whose centre lies in tissue.

    Args:
        size_um: Width and height of the picture.
        unit_um: Side of a square.
        view: A small picture of it.
        mask: Where that shows tissue; None to take all squares that lie wholly in the picture.

    Raises:
        DataError: If there is none.
    """
    columns, rows = (size_um // unit_um).astype(int)
    if mask is None:
        grid = np.argwhere(np.ones((rows, columns), bool))
    else:
        at = [
            ((np.arange(count) + 0.5) * unit_um - corner) / view.step_um
            for count, corner in zip((rows, columns), view.corner_um[::-1], strict=True)
        ]
        row, column = (np.minimum(a.astype(int), n - 1) for a, n in zip(at, mask.shape, strict=True))
        grid = np.argwhere(mask[np.ix_(row, column)])
    if not len(grid):
        msg = "no tissue was found; give --tissue all to predict the whole picture, or another --mpp"
        raise DataError(msg)
    uv = (grid[:, ::-1] + 0.5) * unit_um
    return Places(grid, uv, uv, Affine(np.eye(2, 3)))


def read_places(path: Path, mpp: float, unit_um: float) -> Places:
    """Take the in-tissue bins of a Space Ranger run, by its tissue_positions.parquet alone.

    Raises:
        DataError: If the file is not one, or its bins are of another size than a unit.
    """
    positions = read_positions(path)
    to_px = fit(positions, mpp, round(unit_um))
    rows = np.flatnonzero(positions.in_tissue)
    grid = positions.grid[rows].astype(np.int64)
    linear, shift = to_px.matrix[:, :2], to_px.matrix[:, 2]
    um = np.column_stack([linear / unit_um, shift - linear @ [0.5, 0.5]]) * mpp
    return Places(grid, positions.xy_px[rows] * mpp, (grid[:, ::-1] + 0.5) * unit_um, Affine(um))


def chunks(places: Places, block_um: float, least: int) -> Iterator[IntArray]:
    """Cut units into parts of whole blocks, at least so many in each but the last; row by row of blocks.

    Args:
        places: The units.
        block_um: Side of a block; 0 where each unit is one.
        least: Units; 0 for one part of all.
    """
    cells = cell_of(places.uv_um, block_um) if block_um else places.grid
    order = np.lexsort((places.grid[:, 1], places.grid[:, 0], cells[:, 1], cells[:, 0]))
    if least == 0:
        yield order
        return
    same = (np.diff(cells[order], axis=0) == 0).all(axis=1)
    starts, begin = np.append(np.flatnonzero(~same) + 1, len(order)), 0
    for start in starts:
        if start - begin >= least or start == len(order):
            yield order[begin:start]
            begin = start


def units_at(places: Places, index: IntArray, res: Resolution) -> tuple[Units, list[Coarse]]:
    """Units of a part, in the order given, and the squares of coarser levels above them."""
    uv, xy, grid = places.uv_um[index], places.xy_um[index], places.grid[index]
    if res.block_um:
        squares, block = number_cells(cell_of(uv, res.block_um))
        block_xy = places.to_image(centre_of(squares, res.block_um))
    else:
        block, block_xy = np.arange(len(uv)), xy
    units = Units(
        uv_um=uv,
        xy_um=xy,
        grid=grid,
        block=block,
        block_xy_um=block_xy,
        sampled=np.ones(len(uv), bool),
        window=np.full(len(uv), -1),
        rows=np.arange(len(uv)),
        pick=sparse.csr_array((len(uv), 0), dtype=np.int64),
        left_out={},
    )
    return units, [parents_of(units, places.to_image, level) for level in res.coarse]
