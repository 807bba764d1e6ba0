"""Choose the units of a task on one slide, and place their coarser levels."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from hdstbench.arrays import CSR, BoolArray, FloatArray, IntArray
from hdstbench.data.blocks import MIN_FILL, place_windows, sample_blocks
from hdstbench.data.counts import picks_groups, picks_rows
from hdstbench.data.geometry import Affine
from hdstbench.data.levels import (
    MIN_TISSUE,
    SPOT,
    Level,
    Resolution,
    array_um,
    cell_of,
    centre_of,
    number_cells,
    tissue_share,
    to_image_um,
)
from hdstbench.data.sample import Sample
from hdstbench.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """The N units of a slide that are prepared, ordered by block and place.

    Attributes:
        uv_um: Centres in the array frame, [N, 2].
        xy_um: Centres in the image frame, [N, 2].
        grid: Array row and column, [N, 2].
        block: Number of the block that holds each unit, [N].
        block_xy_um: Block centres in the image frame, [B, 2].
        sampled: Units of the headline; the others lie in dense windows only, [N].
        window: Dense window of each unit, -1 for none, [N].
        rows: The sample's row of each lone unit, [N]; of summed ones their number.
        pick: The sample's bins that make up each unit, [N, bins].
        left_out: Units that did not enter, by reason.
    """

    uv_um: FloatArray
    xy_um: FloatArray
    grid: IntArray
    block: IntArray
    block_xy_um: FloatArray
    sampled: BoolArray
    window: IntArray
    rows: IntArray
    pick: CSR
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarse:
    """The M spots or regions above the units of a slide.

    Attributes:
        grid: Row and column among the squares of the level, [M, 2].
        xy_um: Centres in the image frame, [M, 2].
        block: A block whose image holds the patch, [M].
        parent: Number of each unit's own, [N].
        target: Which lie in tissue enough to be a target, [M].
        pick: The 8 um bins that lie in each, [M, bins].
    """

    level: Level
    grid: IntArray
    xy_um: FloatArray
    block: IntArray
    parent: IntArray
    target: BoolArray
    pick: CSR


def choose_units(sample: Sample, base: Sample, res: Resolution, *, everything: bool) -> Units:
    """Choose the units of a slide.

    Args:
        sample: Bins of the task's size, or native spots.
        base: Bins of 8 um; not used for native spots.
        res: The resolution.
        everything: Take every block of the tissue.

    Raises:
        DataError: If no unit is deep enough.
    """
    if not res.block_um:
        return _lone_units(sample)
    return _bin_units(sample, base, res, everything=everything)


def _lone_units(sample: Sample) -> Units:
    deep = np.flatnonzero(sample.counts.totals() > 0)
    _need_some(sample, len(deep), 1)
    rows = deep[np.lexsort((sample.grid[deep, 1], sample.grid[deep, 0]))]
    xy = sample.xy_px[rows] * sample.mpp
    return Units(
        uv_um=array_um(sample)[rows],
        xy_um=xy,
        grid=sample.grid[rows],
        block=np.arange(len(rows)),
        block_xy_um=xy,
        sampled=np.ones(len(rows), bool),
        window=np.full(len(rows), -1),
        rows=rows,
        pick=picks_rows(rows, len(sample.counts)),
        left_out={"without counts": len(sample.counts) - len(rows)},
    )


def _bin_units(sample: Sample, base: Sample, res: Resolution, *, everything: bool) -> Units:
    found = _candidates(sample, base, res)
    uv, grid, group = found.uv_um, found.grid, found.group
    deep = np.flatnonzero(found.umi >= res.min_umi)
    _need_some(sample, len(deep), res.min_umi)
    squares, block = number_cells(cell_of(uv[deep], res.block_um))
    units = np.bincount(block)
    full = round((res.block_um / res.unit.side_um) ** 2)
    name = f"{sample.id}/{res.name}"
    sampled = sample_blocks(squares, units, full, 0 if everything else res.min_units, name)
    window = place_windows(squares, np.minimum(units / full, 1.0), res.block_um, name)
    if not sampled.any():
        most = units.max() / full
        msg = (
            f"{sample.id}: no block of {res.block_um:g} um has {MIN_FILL:.0%} of its units with "
            f"{res.min_umi} UMI (the best has {most:.0%}); too shallow for {res.name}, try a coarser --res"
        )
        raise DataError(msg)
    used, thin = sampled | (window >= 0), units < MIN_FILL * full
    keep = used[block]
    order = np.lexsort((grid[deep, 1], grid[deep, 0], block))
    order = order[keep[order]]
    rows, of = deep[order], np.searchsorted(np.flatnonzero(used), block[order])
    to_image = to_image_um(sample)
    return Units(
        uv_um=uv[rows],
        xy_um=to_image(uv[rows]) if group is not None else sample.xy_px[rows] * sample.mpp,
        grid=grid[rows],
        block=of,
        block_xy_um=to_image(centre_of(squares[used], res.block_um)),
        sampled=sampled[block[order]],
        window=window[block[order]],
        rows=rows,
        pick=_bins_of(group, rows) if group is not None else picks_rows(rows, len(sample.counts)),
        left_out={
            f"less than {MIN_TISSUE:.0%} in tissue": found.partial,
            f"below {res.min_umi} UMI": len(uv) - len(deep),
            f"in blocks filled below {MIN_FILL:.0%}": int(units[~used & thin].sum()),
            "in blocks not drawn": int(units[~used & ~thin].sum()),
            "in dense windows only": int(units[used & ~sampled].sum()),
        },
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Units before any is left out: places, grid, library sizes.

    For summed units `group` is the unit of each bin of the sample, -1 for none, and `partial` counts
    the squares that lie too little in tissue to be one.
    """

    uv_um: FloatArray
    grid: IntArray
    umi: IntArray
    group: IntArray | None = None
    partial: int = 0


def _candidates(sample: Sample, base: Sample, res: Resolution) -> _Candidates:
    umi = sample.counts.totals()
    if res.unit.side_um != SPOT.side_um:
        return _Candidates(array_um(sample), sample.grid, umi)
    squares, group = number_cells(cell_of(array_um(sample), SPOT.side_um))
    whole = tissue_share(base, squares, SPOT.side_um) >= MIN_TISSUE
    group = np.where(whole, np.cumsum(whole) - 1, -1)[group]
    summed = np.bincount(group[group >= 0], umi[group >= 0], minlength=int(whole.sum()))
    squares = squares[whole]
    centre = centre_of(squares, SPOT.side_um)
    return _Candidates(centre, squares, summed.astype(np.int64), group, int((~whole).sum()))


def _bins_of(group: IntArray, rows: IntArray) -> CSR:
    """The bins of each chosen group."""
    number = np.full(group.max(initial=-1) + 2, -1)  # last entry serves group -1
    number[rows] = np.arange(len(rows))
    return picks_groups(number[group], len(rows))


def _need_some(sample: Sample, units: int, min_umi: int) -> None:
    if not units:
        msg = f"{sample.id}: no unit in tissue has {min_umi} UMI; look at its counts and positions"
        raise DataError(msg)


def place_coarse(units: Units, base: Sample, level: Level) -> Coarse:
    """Place the spots or regions that are parents of the units, and the 8 um bins inside."""
    found = parents_of(units, to_image_um(base), level)
    return replace(
        found,
        target=tissue_share(base, found.grid, level.side_um) >= MIN_TISSUE,
        pick=bins_in(cell_of(array_um(base), level.side_um), found.grid),
    )


def parents_of(units: Units, to_image: Affine, level: Level) -> Coarse:
    """Place the squares of a coarser level that hold the units; none has bins, each may be a target."""
    squares, parent = number_cells(cell_of(units.uv_um, level.side_um))
    first = np.full(len(squares), len(units.block_xy_um))
    np.minimum.at(first, parent, units.block)
    return Coarse(
        level=level,
        grid=squares,
        xy_um=to_image(centre_of(squares, level.side_um)),
        block=first,
        parent=parent,
        target=np.ones(len(squares), bool),
        pick=sparse.csr_array((len(squares), 0), dtype=np.int64),
    )


def bins_in(cells: IntArray, squares: IntArray) -> CSR:
    """The bins of each square, int64 [M, bins].

    Args:
        cells: Row and column of the square that holds each bin, [bins, 2].
        squares: Row and column of the squares that are wanted, [M, 2].
    """
    both, number = number_cells(np.concatenate([squares, cells]))
    place = np.full(len(both), -1)
    place[number[: len(squares)]] = np.arange(len(squares))
    return picks_groups(place[number[len(squares) :]], len(squares))
