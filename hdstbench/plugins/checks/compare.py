"""Whether two predictions are the same, and by how much they are not."""

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.plugins.checks.trial import BrokenContractError

NEAR = 2e-5
"""Largest difference of predictions that are the same but for the order of sums."""


def need_same(first: FloatArray, second: FloatArray, what: str) -> None:
    """Refuse predictions that are not the same bits.

    Raises:
        BrokenContractError: Says what differs, and by how much.
    """
    if not np.array_equal(first, second, equal_nan=True):
        msg = f"{what} by up to {_difference(first, second):.2g}"
        raise BrokenContractError(msg)


def need_near(found: FloatArray, wanted: FloatArray, what: str) -> None:
    """Refuse predictions that are not the same but for the order of sums.

    Raises:
        BrokenContractError: Says what differs, and by how much.
    """
    if not np.allclose(found, wanted, rtol=0, atol=NEAR, equal_nan=True):
        msg = f"{what} by up to {_difference(found, wanted):.2g}"
        raise BrokenContractError(msg)


def _difference(a: FloatArray, b: FloatArray) -> float:
    difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
