"""Names of Visium HD bins, such as s_008um_00012_00345-1, without a Python string for each."""

import numpy as np
import numpy.typing as npt

from hdstbench.arrays import IntArray

Names = npt.NDArray[np.bytes_]

WIDTH = 21
PATTERN = np.frombuffer(b"s_000um_00000_00000-1", np.uint8)
"""A nought stands for any digit: bin size in um, row, column."""
CHUNK = 1_000_000
MAX_PLACES = 10**8
"""Of an array that is held as a bitmap."""


def parse(names: Names) -> IntArray | None:
    """Bin size, row and column of each name, int32 [N, 3]; None if one is not of the pattern."""
    out = np.zeros((len(names), 3), np.int32)
    for start in range(0, len(names), CHUNK):
        part = names[start : start + CHUNK]
        if part.dtype.itemsize != WIDTH:
            if (np.char.str_len(part) != WIDTH).any():
                return None
            part = part.astype(f"S{WIDTH}")
        if not _read(part, out[start : start + CHUNK]):
            return None
    return out


def _read(names: Names, out: IntArray) -> bool:
    """Read the numbers of names of the right width into `out`; say whether all fit the pattern."""
    letters = np.ascontiguousarray(names).view(np.uint8).reshape(-1, WIDTH)
    digit = np.equal(PATTERN, ord("0"))
    numbers = letters - np.uint8(ord("0"))
    if (letters[:, ~digit] != PATTERN[~digit]).any() or (numbers[:, digit] > 9).any():  # noqa: PLR2004
        return False
    for column, places in enumerate((range(2, 5), range(8, 13), range(14, 19))):
        for place in places:
            out[:, column] = out[:, column] * 10 + numbers[:, place]
    return True


def repeated(names: Names, parsed: IntArray | None = None) -> int:
    """How many names have occurred before; `parsed` if they were read already."""
    parsed = parse(names) if parsed is None else parsed
    if parsed is None:
        return len(names) - len(np.unique(names))
    rows, columns = (int(n) + 1 for n in parsed[:, 1:].max(axis=0, initial=0))
    if rows * columns > MAX_PLACES:
        return len(names) - len(np.unique(names))
    again = 0
    for size in np.unique(parsed[:, 0]):
        own = parsed[parsed[:, 0] == size, 1:]
        seen = np.zeros((rows, columns), bool)
        seen[own[:, 0], own[:, 1]] = True
        again += len(own) - int(np.count_nonzero(seen))
    return again
