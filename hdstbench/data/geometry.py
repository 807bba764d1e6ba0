"""The map from bins of the array to pixels of the image."""

from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Affine:
    """(x, y) = matrix @ (u, v, 1), float64 [2, 3]; u runs along array columns, v along rows."""

    matrix: FloatArray

    def __call__(self, uv: FloatArray) -> FloatArray:
        """Map points [N, 2] to [N, 2]."""
        return np.asarray(uv @ self.matrix[:, :2].T + self.matrix[:, 2])

    def moved(self, step: FloatArray) -> "Affine":
        """The same map with its results shifted by `step` [2]."""
        matrix = self.matrix.copy()
        matrix[:, 2] += step
        return Affine(matrix)

    def coarser(self, times: int) -> "Affine":
        """The map of the squares that are made of `times` x `times` of these; both count from centres."""
        linear = self.matrix[:, :2]
        middle = self.matrix[:, 2] + linear @ np.full(2, (times - 1) / 2)
        return Affine(np.column_stack([linear * times, middle]))

    @property
    def inverse(self) -> "Affine":
        """The map back."""
        linear = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    @property
    def scale(self) -> float:
        """Square root of the area that a unit square covers."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))


def fit_affine(uv: FloatArray | IntArray, xy: FloatArray) -> tuple[Affine, float]:
    """Fit the least-squares map of N >= 3 points.

    Returns:
        The map and its largest residual in units of `xy`.
    """
    design = np.column_stack([uv, np.ones(len(uv))]).astype(np.float64)
    solution, *_ = np.linalg.lstsq(design, xy, rcond=None)
    residual = np.abs(design @ solution - xy).max() if len(uv) else 0.0
    return Affine(solution.T), float(residual)
