"""Where the units' array lies in the image."""

from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.data.levels import Resolution
from hdstbench.data.sample import Sample


@dataclass(frozen=True, slots=True)
class Frame:
    """Map from (column, row) of the units' array to um of the image, [2, 3], and the array's shape."""

    to_um: FloatArray
    shape: tuple[int, ...]


def array_frame(sample: Sample, res: Resolution) -> Frame:
    """Frame of bins, or of spots that are sums of them."""
    times = round(res.unit.side_um / sample.unit_um) if res.bin_um else 1
    to_um = sample.to_px.coarser(times).matrix * sample.mpp
    return Frame(to_um, tuple(-(-side // times) for side in sample.grid_shape))


def tile_frame(size: tuple[int, ...], side: int, mpp: float) -> Frame:
    """Frame of tiles of `side` pixels of an image of that width and height."""
    to_um = np.array([[1, 0, 0.5], [0, 1, 0.5]]) * side * mpp
    return Frame(to_um, tuple(length // side for length in reversed(size)))
