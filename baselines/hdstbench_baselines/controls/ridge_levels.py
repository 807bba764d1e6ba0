"""Ridge on frozen features of the unit, its spot and its region: MagNet's pixels without its network.

A model of several levels that does not beat it has not shown that its way of joining them matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.plugins.plugin import ModelPlugin
from hdstbench.plugins.weights import OFFLINE
from hdstbench.protocol.slide import UNIT, Slide
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench_baselines.controls.linear import LinearModel, Part, Table
from hdstbench_baselines.controls.ridge import PAPER, PENALTY


@dataclass(frozen=True, slots=True, kw_only=True)
class RidgeLevelsConfig:
    """Defaults: the encoder of `ridge`, on every level that the task has.

    `input_px` resizes the patches of units; 0 leaves them. The feature maps of spots and regions are
    pooled to `grid` x `grid`, as MagNet's keys are, and averaged; so both read the same cached files.
    """

    encoder: str = OFFLINE
    weights: str = "pretrained"
    input_px: int = 0
    grid: int = 4


class RidgeLevels(LinearModel):
    """Predict each gene linearly from the features of the unit's patch and of its parents' patches."""

    def __init__(self, config: RidgeLevelsConfig) -> None:
        super().__init__()
        self.config = config

    @override
    def features(self, slides: Sequence[Slide]) -> list[Table]:
        levels = [self._level(slides, level) for level in slides[0].levels]
        return [
            tuple(Part(values, _own(slide, level)) for level, values in zip(slide.levels, each, strict=True))
            for slide, each in zip(slides, zip(*levels, strict=True), strict=True)
        ]

    def _level(self, slides: Sequence[Slide], level: str) -> list[FloatArray]:
        """Features of a level's own squares, [M, D] a slide."""
        if level == UNIT:
            spec = FeatureSpec(encoder=self.config.encoder, level=level, input_px=self.config.input_px)
            return frozen_features(slides, spec, self.context)
        spec = FeatureSpec(encoder=self.config.encoder, level=level, grid=self.config.grid)
        return [values.mean(axis=1) for values in frozen_features(slides, spec, self.context)]


def _own(slide: Slide, level: str) -> IntArray:
    """The square of the level that each unit lies in, [N]."""
    return np.arange(len(slide)) if level == UNIT else slide.parents(level)


_QUICK = RidgeLevelsConfig()
_TINY = RidgeLevelsConfig(encoder="tiny", weights="none")

PLUGIN = ModelPlugin(
    name="ridge-levels",
    kind="control",
    context="unit",
    recipes={"official": _QUICK, "tuned": _QUICK, "common": _QUICK, "quick": _QUICK, "tiny": _TINY},
    build=RidgeLevels,
    paper=PAPER,
    licence="Apache-2.0",
    notes=(
        "The solver of ridge on the features of the unit's patch and of the spot's and region's patches "
        "that hold the unit, as far as a task has these levels; with native spots it is ridge itself. "
        "Which squares hold a unit follows from its place alone, so other units do not matter. " + PENALTY
    ),
)
