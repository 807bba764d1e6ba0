"""The values that models predict, as named transforms of counts."""

from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import CSR, FloatArray, IntArray
from hdstbench.errors import MissingError

SCALE = 10_000.0


@dataclass(frozen=True, slots=True)
class Target:
    """log(1 + counts / library size x 10,000), natural logarithm; 0 where the library is empty.

    The library size is taken over all genes of the matrix, not over the panel.
    """

    name: str = "log1p-cp10k"

    def from_counts(self, counts: FloatArray | IntArray, library: FloatArray | IntArray) -> FloatArray:
        """Transform counts, or expected counts.

        Args:
            counts: [N, G], not negative.
            library: Counts over all genes of each unit, [N].

        Returns:
            float32 [N, G].
        """
        per_count = SCALE / np.maximum(library, 1)
        return np.log1p(counts * per_count[:, None]).astype(np.float32)

    def from_sparse(self, counts: CSR, library: IntArray) -> CSR:
        """Transform sparse counts; zeros stay zero. float64 [N, G]."""
        out = counts.astype(np.float64)
        out.data = np.log1p(out.data * np.repeat(SCALE / np.maximum(library, 1), np.diff(out.indptr)))
        return out


TARGETS = {"log1p-cp10k": Target()}


def find_target(name: str) -> Target:
    """Look up a transform.

    Raises:
        MissingError: If there is none of that name.
    """
    if name not in TARGETS:
        msg = f"no target {name!r}; there are {', '.join(TARGETS)}"
        raise MissingError(msg)
    return TARGETS[name]
