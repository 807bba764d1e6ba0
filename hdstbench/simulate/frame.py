"""The capture area's place on the image: mirrored, a little turned, partly off the picture."""

from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.simulate.constants import COUNTS

SQUARE_UM = 2.0
OFF_IMAGE_UM = 12.0
MARGIN_UM = 40.0
TURN_DEGREES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Array frame (u along columns, v along rows) to image frame (x right, y down), all in um.

    `matrix` [2, 2] has determinant -1: the array is mirrored, as on every public HD slide.
    """

    matrix: FloatArray
    origin: FloatArray
    squares: int
    width_um: float
    height_um: float

    @property
    def image_px(self) -> tuple[int, int]:
        """Width and height of the full-resolution image."""
        return int(self.width_um / COUNTS.mpp), int(self.height_um / COUNTS.mpp)

    def to_image(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Map array um to image um."""
        x, y = self.matrix @ np.stack([u, v]) + self.origin[:, None]
        return x, y

    def to_array(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Map image um to array um."""
        u, v = np.linalg.inv(self.matrix) @ (np.stack([x, y]) - self.origin[:, None])
        return u, v


def place(size_mm: float, index: int) -> Frame:
    """Lay a capture area of `size_mm` on its image; every second slide is mirrored the other way."""
    squares = round(size_mm * 1000 / SQUARE_UM)
    side = squares * SQUARE_UM
    turn = np.deg2rad(TURN_DEGREES)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    mirror = np.diag([1.0, -1.0]) if index % 2 == 0 else np.diag([-1.0, 1.0])
    matrix = rotation @ mirror
    corners = matrix @ np.array([[0, side, 0, side], [0, 0, side, side]])
    origin = np.array([-OFF_IMAGE_UM, MARGIN_UM]) - corners.min(axis=1)
    width, height = (corners + origin[:, None]).max(axis=1) + MARGIN_UM
    return Frame(
        matrix=matrix, origin=origin, squares=squares, width_um=float(width), height_um=float(height)
    )
