"""One capture area at one resolution, as read from files."""

from dataclasses import dataclass
from pathlib import Path

from hdstbench.arrays import FloatArray, IntArray, Pixels
from hdstbench.data.counts import Counts
from hdstbench.data.geometry import Affine


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The bins or spots of a capture area that lie in tissue; N units, in the file's order.

    Attributes:
        id: Name of the slide.
        unit_um: Side of a bin, or the pitch of native spots.
        mpp: um a full-resolution pixel.
        grid: Array row and column, int64 [N, 2].
        xy_px: Centres in full-resolution pixels, x right, y down, corner-based, float64 [N, 2].
        to_px: Array (column, row) to pixels, fitted; column 0 has its centre at 0. The positions
            themselves may bend a little.
        grid_shape: Rows and columns of the whole array.
        counts: Raw counts [N, G].
        image: The full-resolution image; None where each unit comes with its patch instead.
        sources: Every file that was read.
        patches: Each unit's own patch, uint8 [N, S, S, 3] at `mpp`, where there is no image.
    """

    id: str
    unit_um: float
    mpp: float
    grid: IntArray
    xy_px: FloatArray
    to_px: Affine
    grid_shape: tuple[int, int]
    counts: Counts
    image: Path | None
    sources: tuple[Path, ...]
    patches: Pixels | None = None
