"""Units drawn at random, and tiles of the image above them: the MagNet paper's preparation.

Tiles are squares of the full-resolution image that start at its corner and do not overlap; what is left
at its right and bottom is no tile. A bin belongs to the tile that holds its centre (from the left and
top edge on, up to but without the right and bottom one).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hdstbench.arrays import CSR, BoolArray, FloatArray, IntArray
from hdstbench.data.counts import picks_groups, picks_rows
from hdstbench.data.image import SlideImage, open_image, outside_share, read_regions
from hdstbench.data.levels import (
    MIN_TISSUE,
    REGION,
    RESOLUTIONS,
    Level,
    Resolution,
    array_um,
    number_cells,
)
from hdstbench.data.prepared import Arrays, Digest, save_arrays, save_blocks
from hdstbench.data.sample import Sample
from hdstbench.data.surroundings import corner_px
from hdstbench.data.units import Coarse, Units, bins_in
from hdstbench.errors import DataError, MissingError
from hdstbench.rng import stream

BIN_PX, SPOT_PX, REGION_PX = 112, 224, 512
"""Sides of patches (MagNet, section 3, "Data Preprocessing")."""
BINS, SPOTS = 6_000, 2_500
"""Units of a slide (ibid.)."""
POINTS = 8
"""The tissue of a tile is looked at in 8 x 8 places."""
NO_TILE, NOT_DRAWN = "outside of whole tiles", "not drawn"

Size = tuple[int, int]


def tiled_resolution(name: str) -> Resolution:
    """A resolution of the paper: single bins, or at 55um tiles of 224 px, with pixels as they are.

    Raises:
        MissingError: If it is another size.
    """
    if name not in RESOLUTIONS:
        msg = f"random bins and tiles of the image are made at {', '.join(RESOLUTIONS)}, not at {name!r}"
        raise MissingError(msg)
    res = RESOLUTIONS[name]
    if res.summed:
        return replace(res, block_um=0.0, min_units=SPOTS, coarse=(REGION,), patch_px=(SPOT_PX, REGION_PX))
    return replace(res, block_um=0.0, min_umi=0, min_units=BINS, patch_px=(BIN_PX, SPOT_PX, REGION_PX))


def draw_units(sample: Sample, base: Sample, res: Resolution) -> tuple[Units, list[Coarse]]:
    """Draw the units of a slide by seed, each a block of its own, and place the tiles above them.

    Args:
        sample: Bins of the task's size, in tissue.
        base: Bins that tiles are summed from.
        res: A tiled resolution.

    Raises:
        DataError: If no unit lies on whole tiles.
    """
    assert sample.image is not None
    size = open_image(sample.image).size
    draw = _draw_tiles if res.summed else _draw_bins
    found = draw(sample, res, size)
    xy_um, count = found.xy_px * sample.mpp, len(found.rows)
    units = Units(
        uv_um=found.uv_um,
        xy_um=xy_um,
        grid=found.grid,
        block=np.arange(count),
        block_xy_um=xy_um,
        sampled=np.ones(count, bool),
        window=np.full(count, -1),
        rows=found.rows,
        pick=found.pick,
        left_out=found.left_out,
    )
    sides = zip(res.coarse, res.patch_px[1:], strict=True)
    return units, [_place(found.xy_px, base, level, side) for level, side in sides]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """Drawn units, as in `Units`, with centres in pixels of the image."""

    uv_um: FloatArray
    xy_px: FloatArray
    grid: IntArray
    rows: IntArray
    pick: CSR
    left_out: dict[str, int]


def tiles_of(xy_px: FloatArray, side: int, size: Size) -> tuple[IntArray, BoolArray]:
    """Row and column of the tile that holds each point, [N, 2], and whether it is a whole one, [N].

    Args:
        xy_px: Points in pixels of the image, corner-based, [N, 2].
        side: Of a tile.
        size: Width and height of the image.
    """
    cells = np.floor(xy_px[:, ::-1] / side).astype(np.int64)
    count = np.array(size)[::-1] // side
    return cells, np.all((cells >= 0) & (cells < count), axis=1)


def tissue_of(sample: Sample, squares: IntArray, side: int) -> FloatArray:
    """Share of each tile that lies in bins in tissue, by 8 x 8 places in it, [M]."""
    step = (np.arange(POINTS) + 0.5) / POINTS
    places = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
    xy = ((squares[:, None, ::-1] + places) * side).reshape(-1, 2)
    at = np.floor(sample.to_px.inverse(xy) + 0.5).astype(np.int64)[:, ::-1]
    shape = np.array(sample.grid_shape)
    tissue = np.zeros(shape, bool)
    tissue[sample.grid[:, 0], sample.grid[:, 1]] = True
    on_array = ((at >= 0) & (at < shape)).all(axis=1)
    at = np.clip(at, 0, shape - 1)
    inside = on_array & tissue[at[:, 0], at[:, 1]]
    return np.asarray(inside.reshape(len(squares), -1).mean(axis=1))


def _draw_bins(sample: Sample, res: Resolution, size: Size) -> _Drawn:
    held = [tiles_of(sample.xy_px, side, size)[1] for side in res.patch_px[1:]]
    found = np.flatnonzero(np.all(held, axis=0))
    rows = _draw(sample, res, found, sample.grid)
    return _Drawn(
        uv_um=array_um(sample)[rows],
        xy_px=sample.xy_px[rows],
        grid=sample.grid[rows],
        rows=rows,
        pick=picks_rows(rows, len(sample.counts)),
        left_out={NO_TILE: len(sample.grid) - len(found), NOT_DRAWN: len(found) - len(rows)},
    )


def _draw_tiles(sample: Sample, res: Resolution, size: Size) -> _Drawn:
    side, above = res.patch_px
    cells, whole = tiles_of(sample.xy_px, side, size)
    squares, number = number_cells(cells[whole])
    library = np.bincount(number, sample.counts.totals()[whole], minlength=len(squares))
    xy = (squares[:, ::-1] + 0.5) * side
    thin = tissue_of(sample, squares, side) < MIN_TISSUE
    apart = ~tiles_of(xy, above, size)[1]
    found = np.flatnonzero(~thin & ~apart & (library > 0))
    rows = _draw(sample, res, found, squares)
    group = np.full(len(sample.counts), -1)
    place = np.full(len(squares), -1)
    place[rows] = np.arange(len(rows))
    group[whole] = place[number]
    return _Drawn(
        uv_um=(sample.to_px.inverse(xy[rows]) + 0.5) * sample.unit_um,
        xy_px=xy[rows],
        grid=squares[rows],
        rows=rows,
        pick=picks_groups(group, len(rows)),
        left_out={
            f"less than {MIN_TISSUE:.0%} in tissue": int(thin.sum()),
            NO_TILE: int((apart & ~thin).sum()),
            "without counts": int((~thin & ~apart & (library == 0)).sum()),
            NOT_DRAWN: len(found) - len(rows),
        },
    )


def _draw(sample: Sample, res: Resolution, found: IntArray, grid: IntArray) -> IntArray:
    """Draw some of the units that were found, by their places alone; sorted by place."""
    if not len(found):
        msg = (
            f"{sample.id}: no unit in tissue lies on whole tiles of {max(res.patch_px)} px; the section is "
            "too small for the MagNet paper's preparation"
        )
        raise DataError(msg)
    found = found[np.lexsort((grid[found, 1], grid[found, 0]))]
    order = stream("tiled", f"{sample.id}/{res.name}").permutation(len(found))
    return np.asarray(found[np.sort(order[: res.min_units])])


def _place(xy_px: FloatArray, base: Sample, level: Level, side: int) -> Coarse:
    """Place the tiles that hold units, and the bins inside each."""
    squares, parent = number_cells(np.floor(xy_px[:, ::-1] / side).astype(np.int64))
    return Coarse(
        level=level,
        grid=squares,
        xy_um=(squares[:, ::-1] + 0.5) * side * base.mpp,
        block=np.arange(len(squares)),
        parent=parent,
        target=tissue_of(base, squares, side) >= MIN_TISSUE,
        pick=bins_in(np.floor(base.xy_px[:, ::-1] / side).astype(np.int64), squares),
    )


def tile_bytes(units: Units, coarse: list[Coarse], patch_px: Mapping[str, int]) -> int:
    """Bytes of all patches, each of which is kept for itself."""
    count = {"unit": len(units.xy_um)} | {c.level.name: len(c.xy_um) for c in coarse}
    return sum(count[level] * side**2 * 3 for level, side in patch_px.items())


def write_tiles(
    folder: Path,
    image: SlideImage,
    levels: Mapping[str, tuple[FloatArray, Arrays]],
    scale: tuple[float, Mapping[str, int]],
    digest: Digest,
) -> None:
    """Write every patch of every level as the image has it, moved by less than a pixel to whole ones.

    Args:
        folder: The prepared slide's folder of pixels.
        image: The full-resolution picture.
        levels: Centres of a level in the image frame and what else is kept of it.
        scale: um a pixel, and the sides of patches.
        digest: Takes the content.
    """
    mpp, patch_px = scale
    for name, (xy, extra) in levels.items():
        side, count = patch_px[name], len(xy)
        corner = corner_px(xy, mpp, side).astype(np.float64)
        pad = outside_share(image, corner[:, 0], corner[:, 1], side).astype(np.float32)
        arrays = {"xy_um": xy, "block": np.arange(count), "pad": pad, **extra}
        arrays["offset"] = np.zeros((count, 2), np.int32)
        save_arrays(folder / f"{name}.npz", arrays, digest)
        images = read_regions(image, corner, side, side)
        save_blocks(folder / ("blocks.npy" if name == "unit" else f"{name}.npy"), images, count, side, digest)
