"""Write rows of pixels as a tiled, pyramidal BigTIFF of JPEG tiles; one band is in memory at a time."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import tifffile
from PIL import Image

from hdstbench import __version__
from hdstbench.arrays import Pixels
from hdstbench.data.image import RGB
from hdstbench.errors import DataError

TILE = 512
BUFFER_BYTES = 2**25
UM_PER_CM = 1e4
MPP, QUALITY = (0.05, 10.0), range(1, 101)
REDUCED = 1
"""The flag by which OpenSlide knows a level of a pyramid; without it only the first page is seen."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a picture is written: its um a pixel, and the JPEG quality from 1 to 100."""

    mpp: float
    quality: int

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not MPP[0] <= self.mpp <= MPP[1]:
            msg = f"{self.mpp:g} um a pixel; wanted {MPP[0]} to {MPP[1]}, such as 0.25 for a 40x scan"
            raise DataError(msg)
        if self.quality not in QUALITY:
            msg = f"JPEG quality {self.quality}, wanted 1 to 100"
            raise DataError(msg)


def write_pyramid(
    path: Path, bands: Iterator[Pixels], size: tuple[int, int], style: Style, done: Callable[[int], None]
) -> int:
    """Write a picture that comes in bands, top first.

    Each level is half of the one before, down to one tile; a level waits in an unnamed file beside
    `path` until the one above it is written.

    Args:
        path: New file.
        bands: uint8 [any, width, 3].
        size: Width and height.
        style: Pixel size and JPEG quality.
        done: Told the number of finished rows of the first level.

    Returns:
        How many levels there are.
    """
    level = 0
    with tifffile.TiffWriter(path, bigtiff=True) as tiff, ExitStack() as stack:
        while True:
            below = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
            _write_level(tiff, _tiles(bands, below, done), size, style, level)
            level += 1
            if max(size) <= TILE or min(size) < 2:  # noqa: PLR2004 - cannot be halved
                return level
            size, done = (size[0] // 2, size[1] // 2), _ignore
            bands = _read(below, size)


def _write_level(
    tiff: tifffile.TiffWriter, tiles: Iterator[Pixels], size: tuple[int, int], style: Style, level: int
) -> None:
    per_cm = UM_PER_CM / style.mpp / 2**level
    tiff.write(
        tiles,
        shape=(size[1], size[0], RGB),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        subsampling=(1, 1),  # nuclei are small: colour is kept at full resolution
        compression="jpeg",
        compressionargs={"level": style.quality},
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        subfiletype=REDUCED if level else 0,
        software=f"hdstbench {__version__}",
        metadata=None,
        buffersize=BUFFER_BYTES,
    )


def _ignore(_: int) -> None:
    """Only the first level is reported."""


def _tiles(bands: Iterator[Pixels], below: IO[bytes], done: Callable[[int], None]) -> Iterator[Pixels]:
    """Cut rows into tiles, filled up at the edges; the next level goes into `below` meanwhile."""
    rows = 0
    for band in _blocks(bands):
        below.write(_half(band).tobytes())
        for x in range(0, band.shape[1], TILE):
            tile = band[:, x : x + TILE]
            missing = (TILE - tile.shape[0], TILE - tile.shape[1])
            yield np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        rows += len(band)
        done(rows)


def _blocks(bands: Iterator[Pixels]) -> Iterator[Pixels]:
    """Join and cut bands so that all but the last have the height of a tile."""
    kept: list[Pixels] = []
    count = 0
    for band in bands:
        start = 0
        while start < len(band):
            part = band[start : start + TILE - count]
            kept.append(part)
            count, start = count + len(part), start + len(part)
            if count == TILE:
                yield np.concatenate(kept)
                kept, count = [], 0
    if kept:
        yield np.concatenate(kept)


def _half(band: Pixels) -> Pixels:
    """Means of 2 x 2 pixels; an odd last row or column is left out, so that levels stay aligned."""
    height, width = (n // 2 for n in band.shape[:2])
    if not height or not width:
        return np.zeros((height, width, RGB), np.uint8)
    return np.asarray(Image.fromarray(band[: 2 * height, : 2 * width]).reduce(2))


def _read(file: IO[bytes], size: tuple[int, int]) -> Iterator[Pixels]:
    width, height = size
    file.seek(0)
    for top in range(0, height, TILE):
        rows = min(TILE, height - top)
        data = file.read(rows * width * RGB)
        yield np.frombuffer(data, np.uint8).reshape(rows, width, RGB)
