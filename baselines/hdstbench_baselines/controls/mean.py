"""The training mean of each gene, everywhere: what no image at all achieves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from typing_extensions import override

from hdstbench.arrays import FloatArray
from hdstbench.plugins.kept import Kept, load_kept, save_kept
from hdstbench.plugins.plugin import ModelPlugin, RunContext, Savable
from hdstbench.protocol.slide import Slide


@dataclass(frozen=True, slots=True)
class MeanConfig:
    """There is nothing to choose."""


class Mean(Savable):
    """Predict the mean target of the training units."""

    def __init__(self, config: MeanConfig) -> None:
        self.mean = np.zeros(0, np.float32)

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        targets = [slide.need_labels().target() for slide in (*train, *val)]
        self.mean = np.concatenate(targets).mean(axis=0, dtype=np.float64).astype(np.float32)

    @override
    def predict(self, slide: Slide) -> FloatArray:
        return np.tile(self.mean, (len(slide), 1))

    @override
    def save(self, folder: Path) -> None:
        save_kept(folder, Kept(arrays={"mean": self.mean}))

    @override
    def load(self, folder: Path, context: RunContext) -> None:
        self.mean = load_kept(folder).arrays["mean"]


PLUGIN = ModelPlugin(
    name="mean",
    kind="control",
    context="unit",
    recipes=dict.fromkeys(("official", "tuned", "common", "quick", "tiny"), MeanConfig()),
    build=Mean,
    paper="none: a control",
    licence="Apache-2.0",
    notes=(
        "The mean over training and inner validation units. Constant a gene, so its pcc_gene is 0 by "
        "definition; its pcc_bin shows what that measures."
    ),
    exceptions={
        "signal": "it predicts the training mean, whatever the picture shows",
        "other-seed": "nothing is drawn",
    },
)
