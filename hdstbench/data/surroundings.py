"""The picture around units: 5 x 5 tiles, each as large as a unit's patch, the unit's own in the middle.

Neighbouring units share nearly all of it. So the slide's picture, at the um a pixel of its patches, is
cut into squares along one grid that starts at the image's corner, and each square that the area around
some unit touches is kept once. Tiles are cut from the squares.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from einops import rearrange

from hdstbench.arrays import BoolArray, FloatArray, IntArray, Pixels
from hdstbench.data.image import RGB, WHITE, SlideImage, read_regions
from hdstbench.data.prepared import Digest, load_arrays, save_arrays, save_blocks

AROUND = 5
"""Tiles along a side of the area that is kept around each unit."""
SQUARE_PX = 256


def place_squares(xy_um: FloatArray, mpp: float, patch_px: int, size_px: tuple[float, float]) -> IntArray:
    """Number the squares that the areas around units touch.

    Args:
        xy_um: Centres of the units in the image frame, [N, 2].
        mpp: um a prepared pixel.
        patch_px: Side of a unit's patch.
        size_px: Width and height of the whole image in prepared pixels.

    Returns:
        int32 [rows, columns] of the whole image: a square's number, -1 where none is kept.
    """
    side = AROUND * patch_px
    width, height = (int(np.ceil(length / SQUARE_PX)) for length in size_px)
    corner = corner_px(xy_um, mpp, side)
    low, high = corner // SQUARE_PX, (corner + side - 1) // SQUARE_PX
    touched = np.zeros((height, width), bool)
    for step in np.ndindex(*((high - low).max(axis=0, initial=0) + 1)):
        place = np.minimum(low + np.array(step), high)
        inside = ((place >= 0) & (place < (width, height))).all(axis=1)
        touched[place[inside, 1], place[inside, 0]] = True
    number = np.full(touched.shape, -1, np.int32)
    number[touched] = np.arange(np.count_nonzero(touched))
    return number


def squares_bytes(number: IntArray) -> int:
    """Bytes that the squares need on disk."""
    return (int(number.max(initial=-1)) + 1) * SQUARE_PX**2 * RGB


def save_squares(
    folder: Path, image: SlideImage, number: IntArray, scale: tuple[float, float], digest: Digest
) -> None:
    """Write the squares of an image and where they lie.

    Args:
        folder: The prepared slide's folder of pixels.
        image: The full-resolution picture.
        number: As `place_squares` gives it.
        scale: um a pixel, of the prepared slide and of the picture.
        digest: Takes their content.
    """
    save_arrays(folder / "around.npz", {"number": number}, digest)
    side = SQUARE_PX * scale[0] / scale[1]
    corners = np.argwhere(number >= 0)[:, ::-1] * side
    images = read_regions(image, corners, side, SQUARE_PX)
    save_blocks(folder / "around.npy", images, len(corners), SQUARE_PX, digest)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The kept squares of one slide.

    Attributes:
        number: Number of the square at each row and column of the image, -1 for none, [rows, columns].
        squares: Their pixels, uint8 [squares, side, side, 3], mapped from the disk.
        size_px: Width and height of the image in prepared pixels.
        mpp: um a prepared pixel.
        patch_px: Side of a tile.
    """

    number: IntArray
    squares: Pixels
    size_px: tuple[float, float]
    mpp: float
    patch_px: int

    def tiles(self, xy_um: FloatArray, side: int) -> Pixels:
        """Cut the tiles around points, uint8 [B, side^2, S, S, 3]; outside of the image is white."""
        out = np.empty((len(xy_um), side**2, self.patch_px, self.patch_px, RGB), np.uint8)
        for i, (left, top) in enumerate(corner_px(xy_um, self.mpp, side * self.patch_px).tolist()):
            area = self._area(left, top, side * self.patch_px)
            out[i] = rearrange(area, "(r h) (c w) k -> (r c) h w k", r=side, c=side)
        return out

    def inside(self, xy_um: FloatArray, side: int) -> BoolArray:
        """Which of these tiles lie wholly in the image, [B, side^2]."""
        step = np.arange(side) * self.patch_px
        low = corner_px(xy_um, self.mpp, side * self.patch_px)[:, :, None] + step
        held = (low >= 0) & (low + self.patch_px <= np.array(self.size_px)[:, None])
        return rearrange(held[:, 1, :, None] & held[:, 0, None, :], "b r c -> b (r c)")

    def _area(self, left: int, top: int, side: int) -> Pixels:
        out = np.full((side, side, RGB), WHITE, np.uint8)
        rows, columns = self.number.shape
        for row in range(max(top // SQUARE_PX, 0), min((top + side - 1) // SQUARE_PX + 1, rows)):
            for col in range(max(left // SQUARE_PX, 0), min((left + side - 1) // SQUARE_PX + 1, columns)):
                square = self.squares[self.number[row, col]]
                y, x = row * SQUARE_PX - top, col * SQUARE_PX - left
                y0, y1 = max(y, 0), min(y + SQUARE_PX, side)
                x0, x1 = max(x, 0), min(x + SQUARE_PX, side)
                out[y0:y1, x0:x1] = square[y0 - y : y1 - y, x0 - x : x1 - x]
        return out


@cache
def load_surroundings(
    pixels: Path, size_px: tuple[float, ...], mpp: float, patch_px: int
) -> Surroundings | None:
    """Open the squares of a prepared slide; None where its units came with their own patches.

    Args:
        pixels: The slide's folder of pixels.
        size_px: Width and height of its image in prepared pixels.
        mpp: um a prepared pixel.
        patch_px: Side of a tile.
    """
    if not (pixels / "around.npz").is_file():
        return None
    width, height = size_px
    return Surroundings(
        number=np.asarray(load_arrays(pixels / "around.npz")["number"]),
        squares=np.asarray(np.load(pixels / "around.npy", mmap_mode="r", allow_pickle=False)),
        size_px=(width, height),
        mpp=mpp,
        patch_px=patch_px,
    )


def corner_px(xy_um: FloatArray, mpp: float, side: int) -> IntArray:
    """Left and top pixel of squares of `side` pixels around points, int64 [N, 2]."""
    return np.asarray(np.floor(xy_um / mpp - side / 2 + 0.5), np.int64)
