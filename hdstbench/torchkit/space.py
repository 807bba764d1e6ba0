"""The space in which a model is trained: an exact affine map of the task's target, a gene at a time.

Authors predict log10 values, or values scaled to [0, 1]. Where such a space follows from the task's
target alone, a model may be trained in it, and its predictions are mapped back exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.protocol.slide import Slide

SpaceName = Literal["task", "log10", "minmax"]
EPSILON = 1e-8
"""Added to the range of a gene, as in EGN, so that a constant gene has a scale."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is trained on is (target - shift) / scale; both float32, [G] or one number."""

    scale: FloatArray
    shift: FloatArray

    def inward(self, target: FloatArray) -> FloatArray:
        """Map targets of the task to what is trained on, [..., G]."""
        return np.asarray((target - self.shift) / self.scale, np.float32)

    def outward(self, predicted: FloatArray) -> FloatArray:
        """Map predictions back to the task's target, [..., G]."""
        return np.asarray(predicted * self.scale + self.shift, np.float32)


TASK = Space(np.ones(1, np.float32), np.zeros(1, np.float32))


def make_space(name: SpaceName, train: Sequence[Slide]) -> Space:
    """Make a space from training slides alone.

    `log10` divides by ln 10: a target of natural logarithms becomes one of base 10. `minmax` brings
    each gene's training values to [0, 1]; other slides may leave that range.
    """
    if name == "log10":
        return Space(np.full(1, np.log(10), np.float32), np.zeros(1, np.float32))
    if name == "minmax":
        targets = [slide.need_labels().target() for slide in train]
        low = np.min([t.min(axis=0) for t in targets], axis=0)
        high = np.max([t.max(axis=0) for t in targets], axis=0)
        return Space((high - low + EPSILON).astype(np.float32), low.astype(np.float32))
    return TASK
