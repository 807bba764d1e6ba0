"""Cells that wait for a worker."""

import time
from collections import deque
from collections.abc import Iterable

from hdstbench.sweep.cell import Cell

AGAIN_S = 2.0


class Queue:
    """First in, first out; a cell that another run is at comes back after a while."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._waiting = deque((0.0, cell) for cell in cells)

    def __len__(self) -> int:
        return len(self._waiting)

    def next(self) -> Cell | None:
        """Take the first cell that may be tried now; None if there is none."""
        now = time.monotonic()
        for number, (when, cell) in enumerate(self._waiting):
            if when <= now:
                del self._waiting[number]
                return cell
        return None

    def later(self, cell: Cell) -> None:
        """Put a cell back."""
        self._waiting.append((time.monotonic() + AGAIN_S, cell))
