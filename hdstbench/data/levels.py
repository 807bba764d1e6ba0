"""Resolutions and levels: bin, spot and region, as squares of the array frame.

Parents follow from coordinates alone, never from expression.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.geometry import Affine
from hdstbench.data.sample import Sample
from hdstbench.errors import MissingError

BASE_UM = 8
"""Coarse levels are summed from the bins of this size, whatever the resolution of the task."""
TILES_BASE_UM = 16
"""Tiles of the image are summed from these, as the MagNet paper does."""
MIN_CUSTOM_UM, MAX_CUSTOM_UM = 4, 64
MIN_TISSUE = 0.8
"""Coarse units with a smaller share of in-tissue bins are no targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A square of the array and the square patch around its centre, in um."""

    name: str
    side_um: float
    patch_um: float


SPOT = Level(name="spot", side_um=56.0, patch_um=56.0)  # 7 x 7 bins of 8 um
REGION = Level(name="region", side_um=128.0, patch_um=128.0)  # 16 x 16 bins of 8 um


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a unit is at one resolution, and how units are sampled.

    Attributes:
        name: As on the command line, such as 16um.
        unit: The unit itself; models call this level "unit".
        block_um: Side of a sampling block; 0 where each unit is a block of its own.
        coarse: The levels above the unit.
        min_umi: Units with fewer UMI leave the task before sampling.
        min_units: At least so many units of a slide are sampled, in at least 96 blocks.
        patch_px: Where units are drawn at random and coarser levels are tiles of the image: sides of all
            levels in pixels of that image, finest first. The um of the levels then are nominal.
    """

    name: str
    unit: Level
    block_um: float
    coarse: tuple[Level, ...]
    min_umi: int
    min_units: int = 6_000
    patch_px: tuple[int, ...] = ()

    @property
    def base_um(self) -> int:
        """The bin size that coarse levels are summed from."""
        return TILES_BASE_UM if self.patch_px else BASE_UM

    @property
    def summed(self) -> bool:
        """Whether a unit is a spot that is summed from bins."""
        return self.unit.side_um == SPOT.side_um

    @property
    def bin_um(self) -> int:
        """The bin size that is read for the units."""
        return self.base_um if self.summed else round(self.unit.side_um)

    @property
    def levels(self) -> tuple[Level, ...]:
        """All levels, finest first."""
        return (self.unit, *self.coarse)


def _bins(um: int, block_um: float, min_umi: int) -> Resolution:
    unit = Level(name="unit", side_um=um, patch_um=28.0)
    return Resolution(name=f"{um}um", unit=unit, block_um=block_um, coarse=(SPOT, REGION), min_umi=min_umi)


RESOLUTIONS = {
    "2um": _bins(2, 32.0, 1),
    "8um": _bins(8, 128.0, 20),
    "16um": _bins(16, 128.0, 50),
    "55um": Resolution(
        name="55um",
        unit=Level(name="unit", side_um=SPOT.side_um, patch_um=SPOT.patch_um),
        block_um=8 * SPOT.side_um,
        coarse=(REGION,),
        min_umi=1,
        min_units=2_500,
    ),
}


def native(name: str, patch_um: float, pitch_um: float) -> Resolution:
    """A resolution whose spots lie apart: every spot is a block of its own, all are taken."""
    unit = Level(name="unit", side_um=pitch_um, patch_um=patch_um)
    return Resolution(name=name, unit=unit, block_um=0.0, coarse=(), min_umi=1)


def resolution(name: str) -> Resolution:
    """Look up a bin resolution, or make a custom one.

    Raises:
        MissingError: If there is none of that name and it is no even size from 4 to 64 um.
    """
    if name in RESOLUTIONS:
        return RESOLUTIONS[name]
    um = int(name.removesuffix("um")) if re.fullmatch(r"[1-9]\d*um", name) else 0
    if um % 2 or not MIN_CUSTOM_UM <= um <= MAX_CUSTOM_UM:
        msg = (
            f"no resolution {name!r}; there are {', '.join(RESOLUTIONS)}, and even bins of {MIN_CUSTOM_UM} "
            f"to {MAX_CUSTOM_UM} um that are summed from finer ones"
        )
        raise MissingError(msg)
    return _custom(um)


def _custom(um: int) -> Resolution:
    """Bins of any even size: blocks near 128 um, a minimum of UMI on the line through 8 and 16 um."""
    unit = Level(name="unit", side_um=um, patch_um=max(28.0, um))
    least = round(20 * (um / 8) ** math.log2(50 / 20))
    side = max(1, round(REGION.side_um / um)) * um
    return Resolution(
        name=f"{um}um", unit=unit, block_um=float(side), coarse=(SPOT, REGION), min_umi=max(1, least)
    )


def array_um(sample: Sample) -> FloatArray:
    """Centres of a sample's bins in um of the array frame, (u, v) = (column, row), [N, 2]."""
    return np.asarray((sample.grid[:, ::-1] + 0.5) * sample.unit_um)


def to_image_um(sample: Sample) -> Affine:
    """The map from um of the array frame to um of the image frame."""
    a, t = sample.to_px.matrix[:, :2], sample.to_px.matrix[:, 2]
    matrix = np.column_stack([a / sample.unit_um, t - a @ [0.5, 0.5]])
    return Affine(sample.mpp * matrix)


def cell_of(uv_um: FloatArray, side_um: float) -> IntArray:
    """Row and column of the square of side `side_um` that holds each point, int64 [N, 2]."""
    return np.asarray(np.floor(uv_um[:, ::-1] / side_um), np.int64)


def number_cells(cells: IntArray) -> tuple[IntArray, IntArray]:
    """Number squares by row and column.

    Returns:
        The squares that occur, sorted, [M, 2], and the number of each input's square, [N].
    """
    squares, number = np.unique(cells, axis=0, return_inverse=True)
    return squares, number.reshape(-1)


def centre_of(squares: IntArray, side_um: float) -> FloatArray:
    """Centres of squares in um of the array frame, [M, 2]."""
    return np.asarray((squares[:, ::-1] + 0.5) * side_um)


def tissue_share(base: Sample, squares: IntArray, side_um: float) -> FloatArray:
    """Share of each square's 8 um bins that lie in tissue, [M]."""
    _, number = number_cells(np.concatenate([squares, cell_of(array_um(base), side_um)]))
    count = np.bincount(number[len(squares) :], minlength=number.max() + 1)
    return np.asarray(count[number[: len(squares)]] / (side_um / BASE_UM) ** 2)
