"""The mean of the training units that look most alike: what retrieval achieves without training.

EGN and BLEEP retrieve too; what they learn has to show beside this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from typing_extensions import override

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.plugins.kept import Kept, load_kept, save_kept
from hdstbench.plugins.plugin import ModelPlugin, RunContext, Savable
from hdstbench.plugins.weights import OFFLINE
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import some_blocks
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench_baselines.retrieval import Bank, one_source, sources_of

NEIGHBOURS = (5, 15, 50, 150)
"""Numbers of neighbours that are tried."""
UNCHOSEN = 50
"""Taken where there are no validation units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KNNConfig:
    """Defaults: the ImageNet encoder that installs from the package index, one patch a unit.

    Attributes:
        bank_units: Training units that may be retrieved, whole blocks of each slide; 0 for all.
    """

    encoder: str = OFFLINE
    weights: str = "pretrained"
    input_px: int = 0
    bank_units: int = 0


class KNN(Savable):
    """Predict the mean target of the training units whose features have the largest cosine.

    Attributes:
        neighbours: The number that was taken.
    """

    def __init__(self, config: KNNConfig) -> None:
        self.config = config
        self.neighbours = UNCHOSEN

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        """Choose the number of neighbours on the validation units, then keep these units too."""
        self.context, self.neighbours, self._tested = context, UNCHOSEN, False
        self._keep(train)
        if val:
            errors = np.sum([self._errors(slide) for slide in val], axis=0)
            self.neighbours = NEIGHBOURS[int(np.argmin(errors))]
            self._keep([*train, *val])
        self._tested = True

    @override
    def predict(self, slide: Slide) -> FloatArray:
        return self._mean(self._nearest(slide, self.neighbours))

    @override
    def save(self, folder: Path) -> None:
        rows = self._bank.rows.cpu().numpy()
        arrays = {"rows": rows, "targets": self._targets}
        save_kept(folder, Kept(arrays=arrays, numbers={"neighbours": self.neighbours}))

    @override
    def load(self, folder: Path, context: RunContext) -> None:
        kept, self.context, self._tested = load_kept(folder), context, True
        rows = torch.from_numpy(kept.arrays["rows"]).to(context.device)
        self._bank = Bank(rows, one_source(rows), "cosine", measured=True)
        self._targets, self.neighbours = kept.arrays["targets"], kept.numbers["neighbours"]

    def _keep(self, slides: Sequence[Slide]) -> None:
        slides = some_blocks(slides, self.config.bank_units)
        rows = torch.cat([self._features(slide) for slide in slides]).to(self.context.device)
        self._bank = Bank(rows, sources_of(slides), "cosine")
        self._targets = np.concatenate([slide.need_labels().target() for slide in slides])

    def _errors(self, slide: Slide) -> FloatArray:
        """Sum of squared errors of a validation slide by each number of neighbours."""
        found, measured = self._nearest(slide, max(NEIGHBOURS)), slide.need_labels().target()
        errors = [self._mean(found[:, :k]).astype(np.float64) - measured for k in NEIGHBOURS]
        return np.array([np.sum(error**2) for error in errors])

    def _nearest(self, slide: Slide, k: int) -> IntArray:
        return self._bank.nearest(self._features(slide), None if self._tested else slide.id, k)

    def _mean(self, found: IntArray) -> FloatArray:
        """Mean targets of the units found, [N, k] -> [N, G]."""
        count, k = found.shape
        share = np.full(found.size, 1 / k, np.float32)
        pick = sparse.csr_array(
            (share, found.ravel(), np.arange(count + 1) * k), shape=(count, len(self._targets))
        )
        return np.asarray(pick @ self._targets, np.float32)

    def _features(self, slide: Slide) -> Tensor:
        spec = FeatureSpec(encoder=self.config.encoder, level="unit", input_px=self.config.input_px)
        return torch.from_numpy(frozen_features([slide], spec, self.context)[0])


_ALL = KNNConfig()

PLUGIN = ModelPlugin(
    name="knn",
    kind="control",
    context="unit",
    recipes={
        **dict.fromkeys(("official", "tuned", "common"), _ALL),
        "quick": KNNConfig(bank_units=20_000),
        "tiny": KNNConfig(encoder="tiny", weights="none"),
    },
    build=KNN,
    paper="Cover & Hart 1967, doi:10.1109/TIT.1967.1053964",
    licence="Apache-2.0",
    notes=(
        "Cosine of frozen features as they are; on simulated slides that beats Euclidean distance of "
        "standardised ones. One number of neighbours for all genes, of 5, 15, 50 and 150, chosen on inner "
        "validation blocks by squared error; then validation units join the ones that are retrieved. A "
        "validation unit retrieves from other patients, or other slides where there is one patient, so that "
        "the choice is made as for a test; where there is one slide, from its training blocks. "
        "quick: 20,000 training units."
    ),
)
