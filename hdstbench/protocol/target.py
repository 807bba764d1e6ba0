"""The values that models predict, as named transforms of counts; docs/targets.md has formulas and sources."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from hdstbench.arrays import CSR, FloatArray, IntArray
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.smoothing import smoothed
from hdstbench.protocol.transforms import (
    SCALE,
    Counts,
    Curve,
    Fit,
    Library,
    egn_minmax,
    hest_log1p,
    of_library,
    stnet_log,
    triplex_release,
)

__all__ = ["MEDIAN", "SCALE", "SMOOTH", "TARGETS", "TRAINING_MEDIAN", "WORDS", "Target", "find_target"]

MEDIAN, TRAINING_MEDIAN = "median-log1p", "median-log1p-train"
"""Scaled to the median library size of each slide's own units, or to that of all training units."""
SMOOTH = "+smooth3x3"
"""Ends the name of a target whose labels are means over neighbouring units."""
CURVES: Mapping[str, Callable[[Counts, Library, Fit], Curve]] = {
    "triplex-release": triplex_release,
    "stnet-log": stnet_log,
    "hest-log1p": hest_log1p,
    "egn-minmax": egn_minmax,
}
FITTED = ("triplex-release", "stnet-log", "egn-minmax")
WORDS = {
    "log1p-cp10k": "ln(1 + counts / library x 10,000), library over all genes",
    MEDIAN: "ln(1 + counts / library x median library of the slide)",
    TRAINING_MEDIAN: "ln(1 + counts / library x median library of the training units)",
    "triplex-release": "log10(1 + counts / sum over the panel x 10,000)",
    "stnet-log": "ln((1 + counts) / (genes + library)), over all genes",
    "hest-log1p": "ln(1 + counts)",
    "egn-minmax": "log10(1 + counts), scaled so that each gene's training units span 0 to 1",
}
"""Each formula in a line."""


@dataclass(frozen=True, slots=True)
class Target:
    """A transform of counts; by default ln(1 + counts / library size x 10,000), 0 where the library is empty.

    Attributes:
        name: One of `TARGETS`, and `+smooth3x3` if labels are means over neighbouring units.
        scale: That of a library size; 0 as long as it is not known.
        fit: What was taken from training units; None as long as none were seen.
    """

    name: str = "log1p-cp10k"
    scale: float = SCALE
    fit: Fit | None = None

    @property
    def base(self) -> str:
        """The name without smoothing."""
        return self.name.removesuffix(SMOOTH)

    @property
    def smooths(self) -> bool:
        """Whether a label is a mean over neighbouring units, and no function of a unit's own counts."""
        return self.name.endswith(SMOOTH)

    @property
    def words(self) -> str:
        """The formula in a line."""
        return WORDS[self.base] + ", mean over the 3 x 3 neighbouring units" * self.smooths

    def of_slide(self, library: Library) -> "Target":
        """The transform on one slide.

        Args:
            library: Counts over all genes of each of its prepared units; the median is over those that
                are not empty, as scanpy's `normalize_total` has it by default.
        """
        return self if self.base != MEDIAN else self._scaled(library)

    def fitted(self, fit: Fit, library: Library) -> "Target":
        """The transform of a fold, given what its training units say and their library sizes."""
        if self.base == TRAINING_MEDIAN:
            return self._scaled(library)
        return replace(self, fit=fit) if self.base in FITTED else self

    def hidden(self) -> "Target":
        """The transform on a slide whose counts are not known."""
        return self if self.base != MEDIAN else replace(self, scale=0.0)

    def curve(self, counts: Counts, library: Library) -> Curve:
        """The transform on some units, smoothing aside.

        Raises:
            DataError: If it depends on counts of a slide, or of training slides, that are not known.
        """
        if self.base in CURVES:
            return CURVES[self.base](counts, library, self._known_fit())
        return of_library(library, self._known_scale())

    def from_counts(self, counts: Counts, library: Library) -> FloatArray:
        """Transform counts, or expected counts.

        Args:
            counts: [N, G], not negative, in the panel's order; dense or sparse.
            library: Counts over all genes of each unit, [N].

        Returns:
            float32 [N, G].

        Raises:
            DataError: If it takes what is not known here: a slide's scale, training units, or neighbours.
        """
        if self.smooths:
            msg = (
                f"target {self.name} is a mean over neighbours; use from_counts of target.plain(), and smooth"
            )
            raise DataError(msg)
        dense = counts.toarray() if sparse.issparse(counts) else counts
        return self.curve(dense, library)(dense).astype(np.float32)

    def plain(self) -> "Target":
        """The same transform without smoothing."""
        return replace(self, name=self.base)

    def of_units(self, counts: Counts, library: Library, grid: IntArray) -> FloatArray:
        """Targets of all units of a slide, smoothed if the target is so; `grid` [N, 2] is their places."""
        values = self.plain().from_counts(counts, library)
        return smoothed(grid, np.arange(len(grid)), lambda rows: values[rows]) if self.smooths else values

    def from_sparse(self, counts: CSR, library: IntArray) -> CSR:
        """Transform sparse counts under a target that takes 0 to 0. float64 [N, G]."""
        out, curve = counts.astype(np.float64), self.curve(counts, library)
        if self.smooths or np.ndim(curve.offset) or np.ndim(curve.slope):
            msg = f"target {self.name} does not keep zeros; use from_counts"
            raise DataError(msg)
        out.data = curve.slope * np.log1p(out.data * np.repeat(curve.rate[:, 0], np.diff(out.indptr)))
        return out

    def _scaled(self, library: Library) -> "Target":
        filled = library[library > 0]
        return replace(self, scale=float(np.median(filled)) if len(filled) else 1.0)

    def _known_scale(self) -> float:
        if not self.scale:
            whose = "a slide's own counts, which a hidden slide does not tell"
            if self.base == TRAINING_MEDIAN:
                whose = "the training slides of a fold, and none were seen"
            msg = f"target {self.name} is scaled by {whose}"
            raise DataError(msg)
        return self.scale

    def _known_fit(self) -> Fit:
        if self.fit is None and self.base in FITTED:
            msg = f"target {self.name} is fitted to the training slides of a fold, and none were seen"
            raise DataError(msg)
        return self.fit or Fit()


TARGETS = {name: Target(name, 0.0 if name in (MEDIAN, TRAINING_MEDIAN) else SCALE) for name in WORDS}


def find_target(name: str) -> Target:
    """Look up a transform.

    Raises:
        MissingError: If there is none of that name.
    """
    base = name.removesuffix(SMOOTH)
    if base not in TARGETS:
        msg = f"no target {name!r}; there are {', '.join(TARGETS)}, each also with {SMOOTH} behind it"
        raise MissingError(msg)
    return replace(TARGETS[base], name=name)
