"""What TRIPLEX knows of a whole slide: frozen features, tiles around units, cells of the array.

N prepared units of a slide, E features of the image encoder.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench_baselines.triplex_network import SIDE
from hdstbench_baselines.triplex_whole import Places, find_places

UNIT = "unit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be known.

    Attributes:
        spec: Features of units.
        target_grid: Tokens a side of a patch, 0 for one token; None for no tokens.
        tiles: Whether tiles have features of their own; else units stand for them.
        global_keys: Units that all others look at, at most.
    """

    spec: FeatureSpec
    target_grid: int | None
    tiles: bool
    global_keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of all N prepared units of a slide, whatever a view holds.

    Attributes:
        features: Of their patches, [N, E], on the device.
        places: Their cells of the array.
        keys: Units that all look at; None for all.
        target: Tokens of their patches, [N, T, E]; None where the encoder is trained.
        tiles: Features of their tiles, [N, 25, E]; None where units stand for them.
        near: Unit that would stand for each tile, [N, 25].
        inside: Tiles that count, [N, 25].
    """

    features: Tensor
    places: Places
    keys: Tensor | None
    target: FloatArray | None
    tiles: FloatArray | None
    near: IntArray
    inside: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The U units of a slide that a batch depends on, and what is known of them.

    Attributes:
        units: Among the slide's, [U].
        number: Of each of the slide's units in the part, -1 where it is not, [N].
        places: Their cells; right around the batch's units, and around keys of a deep network.
        keys: Units of the part that all look at; None for all.
        rows: The batch's units in the part, [B].
    """

    units: Tensor
    number: Tensor
    places: Places
    keys: Tensor | None
    rows: Tensor


def part_for(known: Known, rows: Tensor, near: Tensor | None, *, deep: bool) -> Part:
    """Find the units that the tokens of some units depend on; the result is that of all units.

    Args:
        known: The slide.
        rows: Units of a batch, [B].
        near: Units that stand for their tiles.
        deep: Whether blocks follow the position layer, so that keys go through it too.
    """
    cell, around = known.places
    if known.keys is None:
        everything = torch.arange(len(cell), device=cell.device)
        return Part(units=everything, number=everything, places=known.places, keys=None, rows=rows)
    taken = torch.zeros(len(around) + 1, dtype=torch.bool, device=cell.device)
    taken[around[cell[torch.cat([rows, known.keys]) if deep else rows]]] = True
    wanted = taken[cell]
    wanted[known.keys] = True
    if near is not None:
        wanted[near] = True
    units = wanted.nonzero()[:, 0]
    taken[cell[units]], taken[-1] = True, False
    number = torch.full_like(cell, -1)
    number[units] = torch.arange(len(units), device=cell.device)
    cells = int(taken.sum())
    cell_number = torch.full((len(taken),), cells, device=cell.device)
    cell_number[taken] = torch.arange(cells, device=cell.device)
    return Part(
        units=units,
        number=number,
        places=Places(cell_number[cell[units]], cell_number[around[taken[:-1]]]),
        keys=number[known.keys],
        rows=number[rows],
    )


def look_up(whole: Slide, wanted: Wanted, context: RunContext) -> Known:
    """Gather what is wanted of a slide's prepared units; features are computed once and cached."""

    def frozen(spec: FeatureSpec) -> FloatArray:
        return frozen_features([whole], spec, context)[0]

    features = frozen(wanted.spec)
    target = features[:, None] if wanted.target_grid == 0 else None
    if wanted.target_grid:
        target = frozen(replace(wanted.spec, grid=wanted.target_grid))
    tiles, (near, inside) = None, nearest_units(whole)
    if wanted.tiles:
        tiles = frozen(replace(wanted.spec, around=SIDE))
        inside = whole.tiles_inside(np.arange(len(whole)), SIDE)
    places, keys = find_places(whole.grid), spread(whole.grid, wanted.global_keys)
    return Known(
        features=torch.from_numpy(features).to(context.device),
        places=Places(*(numbers.to(context.device) for numbers in places)),
        keys=None if keys is None else torch.from_numpy(keys).to(context.device),
        target=target,
        tiles=tiles,
        near=near,
        inside=inside,
    )


def nearest_units(whole: Slide) -> tuple[IntArray, BoolArray]:
    """Find the unit nearest to the centre of each tile around each unit, within half a tile.

    Returns:
        Units, 0 where there is none, and whether there is one, both [N, 25].
    """
    tile_um = whole.patch_px[UNIT] * whole.mpp
    place = np.arange(SIDE**2)
    step = np.stack([place % SIDE, place // SIDE], axis=1) - SIDE // 2
    xy = whole.xy_um
    centres = xy[:, None] + step * tile_um
    _, found = cKDTree(xy).query(centres, distance_upper_bound=tile_um / 2 * (1 + 1e-9))
    near = np.asarray(found, np.int64)
    near[:, SIDE**2 // 2] = np.arange(len(whole))
    inside = np.asarray(near < len(whole))
    return np.where(inside, near, 0), inside


def spread(grid: IntArray, most: int) -> IntArray | None:
    """Choose at most so many units, at even steps along rows of the array; None for all, [N, 2] -> [most]."""
    if len(grid) <= most:
        return None
    order = np.lexsort((grid[:, 1], grid[:, 0]))
    return order[np.arange(most) * len(grid) // most]
