"""A small picture of a part of a slide, read in squares so that a large one is never in memory."""

from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import FloatArray, Pixels
from hdstbench.data.image import RGB, WHITE, SlideImage, read_regions

SQUARE_PX = 128


@dataclass(frozen=True, slots=True)
class Overview:
    """Pixels uint8 [H, W, 3] whose top left corner lies at `corner_um` [2], `step_um` apart."""

    pixels: Pixels
    corner_um: FloatArray
    step_um: float


def read_overview(
    image: SlideImage, mpp: float, low_um: FloatArray, high_um: FloatArray, longest_px: int
) -> Overview:
    """Read a rectangle of the image frame at low resolution; outside the picture it is white.

    Args:
        image: The full-resolution picture.
        mpp: Its um a pixel.
        low_um: Left and top edge, [2].
        high_um: Right and bottom edge, [2].
        longest_px: Longer side of the result, unless that would enlarge the picture.
    """
    step = max(float((high_um - low_um).max()) / longest_px, mpp)
    width, height = np.ceil((high_um - low_um) / step - 1e-6).astype(int).tolist()
    place = np.argwhere(np.ones((-(-height // SQUARE_PX), -(-width // SQUARE_PX)), bool))[:, ::-1]
    corners = low_um + place * SQUARE_PX * step
    out = np.full(
        ((place[:, 1].max() + 1) * SQUARE_PX, (place[:, 0].max() + 1) * SQUARE_PX, RGB), WHITE, np.uint8
    )
    for number, pixels in read_regions(image, corners / mpp, SQUARE_PX * step / mpp, SQUARE_PX):
        x, y = place[number] * SQUARE_PX
        out[y : y + SQUARE_PX, x : x + SQUARE_PX] = pixels
    return Overview(out[:height, :width], np.asarray(low_um, np.float64), step)
