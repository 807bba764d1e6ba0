"""Ridge regression on frozen image features, and the same on labels that were shuffled.

A model of this field that does not beat ridge has not shown that its training is worth it; one that
does not beat shuffled labels has learnt nothing about places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg
from typing_extensions import override

from hdstbench.arrays import FloatArray
from hdstbench.plugins.plugin import Model, ModelPlugin, RunContext
from hdstbench.plugins.weights import OFFLINE
from hdstbench.protocol.slide import Slide
from hdstbench.rng import stream
from hdstbench.torchkit.features import FeatureSpec, frozen_features

ALPHAS = tuple(float(a) for a in 10.0 ** np.arange(-4, 3))
"""Penalties that are tried, as shares of the mean variance of a feature times the units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RidgeConfig:
    """Defaults: the ImageNet encoder that installs from the package index, one patch a unit."""

    encoder: str = OFFLINE
    weights: str = "pretrained"
    input_px: int = 0
    shuffle: bool = False


class Ridge(Model):
    """Predict each gene linearly from the features of the unit's patch."""

    def __init__(self, config: RidgeConfig) -> None:
        self.config = config
        self.alpha = 0.0

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        """Choose the penalty on the validation units, then refit on all training units."""
        self.context = context
        x, y = self._features(train), self._targets(train)
        if val:
            held_x, held_y = self._features(val), self._targets(val)
            errors = [_error(fit, held_x, held_y) for fit in _paths(x, y, ALPHAS)]
            self.alpha = ALPHAS[int(np.argmin(errors))]
            x, y = np.concatenate([x, held_x]), np.concatenate([y, held_y])
        else:
            self.alpha = 1.0
        self.solution = next(_paths(x, y, (self.alpha,)))

    @override
    def predict(self, slide: Slide) -> FloatArray:
        return self.solution.apply(self._features([slide])).astype(np.float32)

    def _features(self, slides: Sequence[Slide]) -> FloatArray:
        spec = FeatureSpec(encoder=self.config.encoder, level="unit", input_px=self.config.input_px)
        return np.concatenate(frozen_features(slides, spec, self.context)).astype(np.float64)

    def _targets(self, slides: Sequence[Slide]) -> FloatArray:
        targets = [slide.need_labels().target().astype(np.float64) for slide in slides]
        if self.config.shuffle:
            for i, slide in enumerate(slides):
                rng = stream("shuffle", slide.id, self.context.seed)
                targets[i] = rng.permuted(targets[i], axis=0)
        return np.concatenate(targets)


@dataclass(frozen=True, slots=True)
class Solution:
    """A fitted line: (x - centre) / scale @ weights + mean."""

    centre: FloatArray
    scale: FloatArray
    weights: FloatArray
    mean: FloatArray

    def apply(self, x: FloatArray) -> FloatArray:
        """Predict [N, D] -> [N, G]."""
        return np.asarray((x - self.centre) / self.scale @ self.weights + self.mean)


def _paths(x: FloatArray, y: FloatArray, alphas: Sequence[float]) -> Iterator[Solution]:
    """Solve for each penalty from one eigendecomposition of the features' covariance."""
    centre, mean = x.mean(axis=0), y.mean(axis=0)
    scale = np.maximum(x.std(axis=0), 1e-6)
    z = (x - centre) / scale
    values, vectors = linalg.eigh(z.T @ z / len(z))
    projected = vectors.T @ (z.T @ (y - mean)) / len(z)
    for alpha in alphas:
        weights = vectors @ (projected / (np.maximum(values, 0) + alpha)[:, None])
        yield Solution(centre, scale, weights, mean)


def _error(fit: Solution, x: FloatArray, y: FloatArray) -> float:
    return float(np.mean((fit.apply(x) - y) ** 2))


_QUICK = RidgeConfig()
_TINY = RidgeConfig(encoder="tiny", weights="none")
_RECIPES = {"official": _QUICK, "tuned": _QUICK, "common": _QUICK, "quick": _QUICK, "tiny": _TINY}

PLUGIN = ModelPlugin(
    name="ridge",
    kind="control",
    context="unit",
    recipes=_RECIPES,
    build=Ridge,
    paper="Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634; as a probe of encoders: HEST-1k",
    licence="Apache-2.0",
    notes=(
        "One penalty for all genes, chosen on inner validation blocks by squared error; then refitted on "
        "training and validation units together, which networks with early stopping never do."
    ),
)

SHUFFLED = replace(
    PLUGIN,
    name="shuffled-ridge",
    recipes={name: replace(config, shuffle=True) for name, config in _RECIPES.items()},
    notes=(
        "Ridge on labels permuted among the units of each slide, every gene on its own, so that luck "
        "averages out over genes. What is left is what differs between whole slides, such as stain and depth."
    ),
)
