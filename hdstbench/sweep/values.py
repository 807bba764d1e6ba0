"""Predictions on disk, written and read a part at a time, so that memory does not grow with the slide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray

PART_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Values:
    """A growing float32 [N, G] array in a file: rows one after the other, nothing else."""

    path: Path
    genes: int

    def append(self, rows: FloatArray) -> None:
        """Add the predictions of some more units, [B, G]."""
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, np.float32).tobytes())

    def __len__(self) -> int:
        return self.path.stat().st_size // (4 * self.genes) if self.path.exists() else 0

    def parts(self) -> Iterator[FloatArray]:
        """All rows in their order, some at a time."""
        count = max(1, PART_BYTES // (4 * self.genes))
        with self.path.open("rb") as file:
            while data := file.read(4 * self.genes * count):
                yield np.frombuffer(data, np.float32).reshape(-1, self.genes)

    def columns(self, genes: Sequence[int]) -> FloatArray:
        """Some genes of all units, [N, len(genes)]."""
        return np.concatenate([part[:, list(genes)] for part in self.parts()])

    def spread(self) -> FloatArray:
        """Variance of each gene over all units, float64 [G]."""
        total = np.zeros((2, self.genes))
        for part in self.parts():
            total += part.sum(axis=0, dtype=np.float64), np.square(part, dtype=np.float64).sum(axis=0)
        mean, square = total / max(1, len(self))
        return np.asarray(square - mean**2)
