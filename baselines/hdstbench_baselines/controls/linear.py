"""Ridge regression on features of several levels, without ever writing out a coarse feature once a unit.

A unit's features are those of its own patch and of its parents' patches. Sums over units of products
of two levels are taken over the coarser level's squares, so a region's features cost what they weigh.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from scipy import linalg, sparse
from typing_extensions import override

from hdstbench.arrays import CSR, FloatArray, IntArray
from hdstbench.plugins.kept import Kept, load_kept, save_kept
from hdstbench.plugins.plugin import RunContext, Savable
from hdstbench.protocol.slide import Slide

ALPHAS = tuple(float(a) for a in 10.0 ** np.arange(-4, 3))
"""Penalties that are tried, as shares of the mean variance of a feature times the units."""
CONSTANT = 1e-6
"""A feature with a smaller standard deviation is taken for constant."""
FLOOR = 0.1
"""A feature that varies less than this share of its level's median one is not enlarged any further.

Encoders have features that are 0 almost everywhere; brought to the same size as the others, they would
throw a unit of another slide, where they are not 0, out of all bounds."""


@dataclass(frozen=True, slots=True)
class Part:
    """Features of the M squares of a level, [M, D], and which of them is each unit's own, [N]."""

    values: FloatArray
    rows: IntArray

    @property
    def pick(self) -> CSR:
        """Sums over units, by square: [M, N]."""
        count = len(self.rows)
        places = (self.rows, np.arange(count))
        return sparse.csr_array((np.ones(count), places), shape=(len(self.values), count))

    @property
    def units(self) -> FloatArray:
        """How many units each square has, [M]."""
        return np.bincount(self.rows, minlength=len(self.values)).astype(np.float64)


Table: TypeAlias = tuple[Part, ...]
"""Features of a slide's N units, a part a level, finest first."""


def table(values: FloatArray) -> Table:
    """Features of one level, a row a unit, [N, D]."""
    return (Part(values, np.arange(len(values))),)


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line: the sum over levels of (x - centre) / scale @ weights, and the mean.

    `centre` and `scale` [D] and `weights` [D, G] are one a level.
    """

    centre: tuple[FloatArray, ...]
    scale: tuple[FloatArray, ...]
    weights: tuple[FloatArray, ...]
    mean: FloatArray

    def apply(self, features: Table) -> FloatArray:
        """Predict the units of a slide, float64 [N, G]."""
        out = np.tile(self.mean, (len(features[0].rows), 1))
        for part, centre, scale, weights in zip(features, self.centre, self.scale, self.weights, strict=True):
            out += ((part.values - centre) / scale @ weights)[part.rows]
        return out


class LinearModel(Savable, ABC):
    """Ridge on features that a subclass makes; one penalty for all genes, chosen on inner validation.

    Attributes:
        alpha: The penalty that was taken; 1 without validation units.
        validation: Its mean squared error on the validation units, before the last fit on all units.
    """

    context: RunContext
    line: Line

    def __init__(self) -> None:
        self.alpha = 1.0
        self.validation: float | None = None

    @abstractmethod
    def features(self, slides: Sequence[Slide]) -> list[Table]:
        """Features of the units of each slide."""

    def targets(self, slides: Sequence[Slide]) -> list[FloatArray]:
        """Hook: what is fitted of each slide, float64 [N, G]."""
        return [slide.need_labels().target().astype(np.float64) for slide in slides]

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        """Choose the penalty on the validation units, then refit on all training units."""
        self.context = context
        x, y = self.features(train), self.targets(train)
        if val:
            held_x, held_y = self.features(val), self.targets(val)
            errors = [error_of(line, held_x, held_y) for line in paths(x, y, ALPHAS)]
            self.validation = min(errors)
            self.alpha = ALPHAS[errors.index(self.validation)]
            x, y = [*x, *held_x], [*y, *held_y]
        self.line = next(paths(x, y, (self.alpha,)))

    @override
    def predict(self, slide: Slide) -> FloatArray:
        return self.line.apply(self.features([slide])[0]).astype(np.float32)

    @override
    def save(self, folder: Path) -> None:
        line = self.line
        parts = {"centre": line.centre, "scale": line.scale, "weights": line.weights}
        levels = {f"{name}/{i}": values for name, part in parts.items() for i, values in enumerate(part)}
        kept = Kept(arrays={**levels, "mean": line.mean}, numbers={"levels": len(line.centre)})
        save_kept(folder, kept)

    @override
    def load(self, folder: Path, context: RunContext) -> None:
        kept, self.context = load_kept(folder), context
        levels = range(kept.numbers["levels"])
        centre, scale, weights = (
            tuple(kept.arrays[f"{name}/{i}"] for i in levels) for name in ("centre", "scale", "weights")
        )
        self.line = Line(centre, scale, weights, kept.arrays["mean"])


def error_of(line: Line, features: Sequence[Table], targets: Sequence[FloatArray]) -> float:
    """Mean squared error over units and genes of some slides."""
    total = sum(float(np.sum((line.apply(x) - y) ** 2)) for x, y in zip(features, targets, strict=True))
    return total / sum(y.size for y in targets)


def paths(
    features: Sequence[Table], targets: Sequence[FloatArray], alphas: Sequence[float]
) -> Iterator[Line]:
    """Solve for each penalty from one covariance of the standardised features.

    Args:
        features: Of each slide.
        targets: Of each slide, [N, G].
        alphas: Penalties, as shares of the features' variance.
    """
    count = sum(map(len, targets))
    mean = np.sum([y.sum(axis=0, dtype=np.float64) for y in targets], axis=0) / count
    centre, scale = _standard(features, count)
    width = sum(map(len, centre))
    covariance, product = np.zeros((width, width)), np.zeros((width, len(mean)))
    for x, y in zip(features, targets, strict=True):
        z = tuple(Part((part.values - c) / s, part.rows) for part, c, s in zip(x, centre, scale, strict=True))
        covariance += _inner(z) / count
        product += np.concatenate([part.values.T @ (part.pick @ (y - mean)) for part in z]) / count
    cuts = np.cumsum([len(c) for c in centre])[:-1]
    diagonal = np.diag_indices(width)
    for alpha in alphas:
        penalised = covariance.copy()
        penalised[diagonal] += alpha
        factor = linalg.cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
        weights = linalg.cho_solve(factor, product, check_finite=False)
        yield Line(centre, scale, tuple(np.split(weights, cuts)), mean)


def _standard(features: Sequence[Table], count: int) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Mean and standard deviation over units of every feature, [D] a level."""
    centre, scale = [], []
    for parts in zip(*features, strict=True):
        mean = np.sum([part.units @ part.values for part in parts], axis=0) / count
        square = np.sum([part.units @ (part.values - mean) ** 2 for part in parts], axis=0) / count
        centre.append(mean)
        spread = np.sqrt(square)
        typical = float(np.median(spread[spread > CONSTANT])) if (spread > CONSTANT).any() else 1.0
        scale.append(np.maximum(spread, FLOOR * typical))
    return tuple(centre), tuple(scale)


def _inner(z: Table) -> FloatArray:
    """Sum over units of the products of all pairs of features, [D, D] of all levels together."""
    rows = []
    for i, fine in enumerate(z):
        weighted = fine.values * np.sqrt(fine.units)[:, None]
        row = [weighted.T @ weighted]
        row += [(coarse.pick @ fine.pick.T @ fine.values).T @ coarse.values for coarse in z[i + 1 :]]
        rows.append(row)
    full = [[rows[j][i - j].T if j < i else rows[i][j - i] for j in range(len(z))] for i in range(len(z))]
    return np.asarray(np.block(full))
