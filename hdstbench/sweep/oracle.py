"""Oracles: predictions that the scorer makes from what no model may see. Rows of their own."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from hdstbench.arrays import FloatArray
from hdstbench.protocol.slide import Slide
from hdstbench.protocol.task import Fold, TestSlide

ATTAINABLE, SLIDE_MEAN, DEPTH = "attainable", "slide-mean", "depth"
SUMMED = 30.0


def oracle_names(*, simulated: bool) -> tuple[str, ...]:
    """The oracles of a task; what is attainable is known on simulated slides alone."""
    return (ATTAINABLE, SLIDE_MEAN, DEPTH) if simulated else (SLIDE_MEAN, DEPTH)


def ask(name: str, fold: Fold) -> dict[str, FloatArray]:
    """Let an oracle predict the test slides of a fold.

    Returns:
        By slide, float32 [N, G]; units outside the headline are 0.
    """
    return {test.slide.id: _answer(test, ORACLES[name]) for test in fold.test}


def _answer(test: TestSlide, oracle: Callable[[Slide], FloatArray]) -> FloatArray:
    out = np.zeros((len(test.slide), len(test.slide.genes)), np.float32)
    out[test.headline] = oracle(test.slide.take(test.headline))
    return out


def attainable(view: Slide) -> FloatArray:
    """Predict each unit's expected target from its true rates and its own library size, [N, G].

    Counts of a unit with L molecules and an expected share s are taken as Poisson with mean L s,
    so this is what a model could at best reach that reads all rates from the image (and knows the
    depth, which no image shows). Bursts of expression beyond Poisson are not foreseen by it.
    """
    labels = view.need_labels()
    share = labels.expected()
    assert share is not None
    return expected_target(view, share, labels.library.astype(np.float64))


def slide_mean(view: Slide) -> FloatArray:
    """Predict the mean of the very units that are tested, [N, G].

    Constant a gene, so its pcc_gene is 0; its error shows what it is worth to know a slide's level.
    """
    mean = view.need_labels().target().mean(axis=0, dtype=np.float64)
    return np.tile(mean.astype(np.float32), (len(view), 1))


def depth(view: Slide) -> FloatArray:
    """Predict each gene by a line in the logarithm of the unit's own library size, [N, G].

    The line of each gene is fitted by least squares to the very units that are tested, so this is what
    depth alone explains, with the sign that fits best.
    """
    labels = view.need_labels()
    size = np.log1p(labels.library.astype(np.float64))
    line = np.column_stack([np.ones(len(size)), size])
    fitted, *_ = np.linalg.lstsq(line, labels.target().astype(np.float64))
    return np.asarray(line @ fitted, np.float32)


def expected_target(view: Slide, share: FloatArray, library: FloatArray) -> FloatArray:
    """Mean of the target over Poisson counts with mean `library * share`, [N, G].

    What a unit is scaled by, its library or its panel's sum, is taken as known.
    Summed exactly up to a mean of 30; above, expanded to second order around the mean.
    """
    mean = library[:, None] * share
    curve = view.target.curve(view.need_labels().counts(), library)
    scale = curve.rate
    total = np.log1p(scale * mean) - 0.5 * mean * (scale / (1 + scale * mean)) ** 2
    small = np.flatnonzero((mean < SUMMED).any(axis=0))
    capped = np.minimum(mean[:, small], SUMMED)
    exact, chance = np.zeros_like(capped), np.exp(-capped)
    for count in range(1, int(stats.poisson.isf(1e-9, float(SUMMED))) + 1):
        chance *= capped / count
        exact += chance * np.log1p(scale * count)
    total[:, small] = np.where(mean[:, small] < SUMMED, exact, total[:, small])
    return np.asarray(curve.offset + curve.slope * total)


ORACLES: Mapping[str, Callable[[Slide], FloatArray]] = {
    ATTAINABLE: attainable,
    SLIDE_MEAN: slide_mean,
    DEPTH: depth,
}
"""By name; each is given the labelled units of one slide that are tested."""
