"""Neighbours in space: what place alone tells about a unit whose own slide was trained on.

Within a slide expression changes smoothly, so a model that only knows where a unit lies does well
there. What an image model reaches on such a split counts above this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree
from typing_extensions import override

from hdstbench.arrays import FloatArray
from hdstbench.errors import DataError
from hdstbench.plugins.plugin import Model, ModelPlugin, RunContext
from hdstbench.protocol.slide import Slide


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordsConfig:
    """How many of the nearest training units are averaged: the numbers that are tried."""

    counts: tuple[int, ...] = (1, 4, 16, 64, 256)


@dataclass(frozen=True, slots=True)
class _Known:
    """Training units of one slide: where they lie, um [N, 2], and their targets [N, G]."""

    xy_um: FloatArray
    target: FloatArray


class Coords(Model):
    """Average the training units that lie nearest on the same slide, weighted by inverse distance."""

    def __init__(self, config: CoordsConfig) -> None:
        self.config = config
        self.count = max(config.counts)
        self.validation: float | None = None
        self.known: dict[str, _Known] = {}

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        """Choose the number of neighbours on the validation units, which are then known too."""
        self.known = _gathered(train)
        judged = [slide for slide in val if slide.id in self.known]
        if judged:
            errors = {count: self._error(judged, count) for count in self.config.counts}
            self.count = min(errors, key=lambda count: errors[count])
            self.validation = errors[self.count]
        self.known = _gathered([*train, *val])

    @override
    def predict(self, slide: Slide) -> FloatArray:
        return self._average(slide, self.count)

    def _error(self, slides: Sequence[Slide], count: int) -> float:
        """Mean squared error over units and genes."""
        errors = [(self._average(s, count) - s.need_labels().target()).astype(np.float64) for s in slides]
        return float(sum(np.sum(e**2) for e in errors) / sum(e.size for e in errors))

    def _average(self, slide: Slide, count: int) -> FloatArray:
        if slide.id not in self.known:
            msg = (
                f"coords knows places on {', '.join(self.known)} alone and was asked for {slide.id}; it is "
                "for splits whose test slides are in training too"
            )
            raise DataError(msg)
        known = self.known[slide.id]
        count = min(count, len(known.target))
        distance, near = cKDTree(known.xy_um).query(slide.xy_um, k=np.arange(1, count + 1))
        weight = 1 / (np.asarray(distance) + slide.unit_um)
        weight /= weight.sum(axis=1, keepdims=True)
        starts = np.arange(0, weight.size + 1, count)
        pick = sparse.csr_array((weight.ravel(), near.ravel(), starts), shape=(len(slide), len(known.target)))
        return np.asarray(pick @ known.target, np.float32)


def _gathered(slides: Sequence[Slide]) -> dict[str, _Known]:
    """What is known of each slide, of all views of it together."""
    views: dict[str, list[Slide]] = {}
    for slide in slides:
        views.setdefault(slide.id, []).append(slide)
    return {
        name: _Known(
            np.concatenate([view.xy_um for view in same]),
            np.concatenate([view.need_labels().target() for view in same]),
        )
        for name, same in views.items()
    }


PLUGIN = ModelPlugin(
    name="coords",
    kind="control",
    context="unit",
    recipes=dict.fromkeys(("official", "tuned", "common", "quick", "tiny"), CoordsConfig()),
    build=Coords,
    paper="none: a control",
    licence="Apache-2.0",
    notes=(
        "No image. The mean of the nearest training units of the same slide, weighted by inverse distance; "
        "how many is chosen on inner validation blocks by squared error, which then are known too. Only for "
        "splits within slides."
    ),
    exceptions={"other-seed": "nothing is drawn"},
    scope="within-slide",
)
