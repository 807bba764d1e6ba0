"""Oracles: predictions that the scorer makes from what no model may see. Rows of their own."""

import numpy as np
from scipy import stats

from hdstbench.arrays import FloatArray
from hdstbench.protocol.slide import Slide
from hdstbench.protocol.target import SCALE
from hdstbench.protocol.task import Fold, TestSlide

ATTAINABLE = "attainable"
SUMMED = 30.0


def attainable(fold: Fold) -> dict[str, FloatArray]:
    """Predict each unit's expected target from its true rates and its own library size.

    Counts of a unit with L molecules and an expected share s are taken as Poisson with mean L s,
    so this is what a model could at best reach that reads all rates from the image (and knows the
    depth, which no image shows). Bursts of expression beyond Poisson are not foreseen by it.

    Returns:
        By slide, float32 [N, G]; units outside the headline are 0.
    """
    return {test.slide.id: _expected(test) for test in fold.test}


def _expected(test: TestSlide) -> FloatArray:
    view = test.slide.take(test.headline)
    labels = view.need_labels()
    share = labels.expected()
    assert share is not None
    out = np.zeros((len(test.slide), len(view.genes)), np.float32)
    out[test.headline] = expected_target(view, share, labels.library.astype(np.float64))
    return out


def expected_target(view: Slide, share: FloatArray, library: FloatArray) -> FloatArray:
    """Mean of the target over Poisson counts with mean `library * share`, [N, G].

    Summed exactly up to a mean of 30; above, expanded to second order around the mean.
    """
    mean = library[:, None] * share
    scale = SCALE / np.maximum(library, 1)[:, None]
    total = np.log1p(scale * mean) - 0.5 * mean * (scale / (1 + scale * mean)) ** 2
    small = np.flatnonzero((mean < SUMMED).any(axis=0))
    capped = np.minimum(mean[:, small], SUMMED)
    exact, chance = np.zeros_like(capped), np.exp(-capped)
    for count in range(1, int(stats.poisson.isf(1e-9, float(SUMMED))) + 1):
        chance *= capped / count
        exact += chance * np.log1p(scale * count)
    total[:, small] = np.where(mean[:, small] < SUMMED, exact, total[:, small])
    return np.asarray(total)
