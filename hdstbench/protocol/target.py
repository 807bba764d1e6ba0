"""The values that models predict, as named transforms of counts."""

from dataclasses import dataclass, replace

import numpy as np

from hdstbench.arrays import CSR, FloatArray, IntArray
from hdstbench.errors import DataError, MissingError

SCALE = 10_000.0
MEDIAN = "median-log1p"


@dataclass(frozen=True, slots=True)
class Target:
    """log(1 + counts / library size x scale), natural logarithm; 0 where the library is empty.

    The library size is taken over all genes of the matrix, not over the panel. The scale is 10,000, or of
    `median-log1p` the median library size of a slide's units: 0 as long as no slide is named.
    """

    name: str = "log1p-cp10k"
    scale: float = SCALE

    def of_slide(self, library: FloatArray | IntArray) -> "Target":
        """The transform on one slide.

        Args:
            library: Counts over all genes of each of its prepared units; the median is over those that
                are not empty, as scanpy's `normalize_total` has it by default.
        """
        if self.name != MEDIAN:
            return self
        filled = library[library > 0]
        return replace(self, scale=float(np.median(filled)) if len(filled) else 1.0)

    def hidden(self) -> "Target":
        """The transform on a slide whose counts are not known."""
        return self if self.name != MEDIAN else replace(self, scale=0.0)

    def from_counts(self, counts: FloatArray | IntArray, library: FloatArray | IntArray) -> FloatArray:
        """Transform counts, or expected counts.

        Args:
            counts: [N, G], not negative.
            library: Counts over all genes of each unit, [N].

        Returns:
            float32 [N, G].

        Raises:
            DataError: If the scale is that of a slide, and none is known.
        """
        per_count = self._known_scale() / np.maximum(library, 1)
        return np.log1p(counts * per_count[:, None]).astype(np.float32)

    def from_sparse(self, counts: CSR, library: IntArray) -> CSR:
        """Transform sparse counts; zeros stay zero. float64 [N, G]."""
        out, scale = counts.astype(np.float64), self._known_scale()
        out.data = np.log1p(out.data * np.repeat(scale / np.maximum(library, 1), np.diff(out.indptr)))
        return out

    def _known_scale(self) -> float:
        if not self.scale:
            msg = f"target {self.name} is scaled by a slide's own counts, which a hidden slide does not tell"
            raise DataError(msg)
        return self.scale


TARGETS = {target.name: target for target in (Target(), Target(MEDIAN, 0.0))}


def find_target(name: str) -> Target:
    """Look up a transform.

    Raises:
        MissingError: If there is none of that name.
    """
    if name not in TARGETS:
        msg = f"no target {name!r}; there are {', '.join(TARGETS)}"
        raise MissingError(msg)
    return TARGETS[name]
