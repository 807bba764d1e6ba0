"""Intervals over these patients: blocks are drawn anew within slides, patients and models fixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hdstbench.arrays import BoolArray, FloatArray
from hdstbench.metrics.moments import Moments, correlation_of
from hdstbench.rng import stream

RESAMPLES = 2_000
LEVEL = 95.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideMoments:
    """Moments of one test slide by bootstrap block, and the genes that are scored on it, [G].

    Resamples are spread by `widening` around the value of the slide; it has to be the same for all models.
    """

    slide: str
    patient: str
    moments: Moments
    scored: BoolArray
    widening: float = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A value between its 95 % limits, which are None where nothing could be drawn anew."""

    value: float
    low: float | None
    high: float | None


def slide_weights(slide: str, blocks: int, resamples: int = RESAMPLES) -> FloatArray:
    """How often each block of a slide is drawn, [1 + R, B]; row 0 is the slide as it is.

    The draw depends on the slide alone, so that all models are compared on the same resamples.
    """
    rng = stream("bootstrap", slide)
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    return np.concatenate([np.ones((1, blocks)), drawn]).astype(np.float64)


def resampled_pcc(slides: Sequence[SlideMoments], resamples: int = RESAMPLES) -> FloatArray:
    """`pcc_gene` of a model on the data and on each resample, [1 + R].

    Genes are averaged first, then slides of a patient, then patients. A gene whose measurement is
    constant in a resample leaves it, for every model alike. A slide of one block has no resamples, so that
    all of them are NaN.
    """
    of_patient: dict[str, list[FloatArray]] = {}
    for slide in slides:
        weights = slide_weights(slide.slide, len(slide.moments.n), resamples)
        r = correlation_of(weights, slide.moments)[:, slide.scored]
        varies = ~np.isnan(r)
        mean = np.where(varies, r, 0).sum(axis=1) / np.maximum(varies.sum(axis=1), 1)
        spread = mean[0] + slide.widening * (mean - mean[0])
        of_patient.setdefault(slide.patient, []).append(np.asarray(spread))
    out = np.asarray(np.mean([np.mean(values, axis=0) for values in of_patient.values()], axis=0))
    if any(len(slide.moments.n) == 1 for slide in slides):
        out[1:] = np.nan
    return out


def interval(values: FloatArray) -> Interval:
    """Percentile interval of `resampled_pcc`, or of a difference of two."""
    if np.isnan(values).any():
        return Interval(float(values[0]), None, None)
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values[1:], [tail, 100 - tail])
    return Interval(float(values[0]), float(low), float(high))


def paired(a: FloatArray, b: FloatArray) -> Interval:
    """Interval of the difference of two models on common resamples."""
    return interval(a - b)


def mean_over(values: Mapping[str, Sequence[float]]) -> float:
    """Mean over patients of the mean over their slides."""
    return float(np.mean([np.mean(list(slides)) for slides in values.values()]))
