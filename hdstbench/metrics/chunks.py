"""Arrays in chunks of rows, so that a million units need no copy of the whole."""

from collections.abc import Iterator

import numpy as np

from hdstbench.arrays import FloatArray

ROWS = 1024
"""Rows of a chunk: of 250 genes in float64 these are 2 MB, which stays in a processor's cache."""


def row_chunks(*arrays: FloatArray) -> Iterator[tuple[FloatArray, ...]]:
    """Yield the same rows of each array, in float64."""
    for start in range(0, len(arrays[0]), ROWS):
        yield tuple(np.asarray(array[start : start + ROWS], np.float64) for array in arrays)


def check_pair(predicted: FloatArray, measured: FloatArray) -> None:
    """Refuse what cannot be compared.

    Raises:
        ValueError: If the shapes differ, N < 2, or a value is not finite.
    """
    check_shapes(predicted, measured)
    check_finite(predicted, measured)


def check_shapes(predicted: FloatArray, measured: FloatArray) -> None:
    """Refuse arrays that are not of one shape, or of fewer than two units."""
    if predicted.shape != measured.shape or predicted.ndim != 2 or len(predicted) < 2:  # noqa: PLR2004
        msg = f"need two equal [N>=2, G] arrays, got {predicted.shape} and {measured.shape}"
        raise ValueError(msg)


def check_finite(predicted: FloatArray, measured: FloatArray) -> None:
    """Refuse arrays with a value that is not finite."""
    if not (_is_finite(predicted) and _is_finite(measured)):
        msg = "predicted and measured must be finite"
        raise ValueError(msg)


def _is_finite(values: FloatArray) -> bool:
    """Whether all are; smallest and largest tell it without an array of truths."""
    return values.size == 0 or bool(np.isfinite(values.min()) and np.isfinite(values.max()))
