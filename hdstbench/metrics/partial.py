"""Correlation beyond what a covariate explains."""

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.metrics.correlation import pearson_per_gene

LEFT = 1e-12
"""Share of a gene's variance below which nothing is left of it but rounding."""


def partial_per_gene(predicted: FloatArray, measured: FloatArray, covariate: FloatArray) -> FloatArray:
    """Correlate over units what a line in a covariate leaves of prediction and measurement, per gene.

    Args:
        predicted: [N, G].
        measured: [N, G].
        covariate: Such as log library size, [N].

    Returns:
        float64 [G] as of `pearson_per_gene`; NaN where the covariate leaves nothing of either.
    """
    left = [_residual(values, covariate) for values in (predicted, measured)]
    r = pearson_per_gene(*left)
    gone = np.zeros(len(r), bool)
    for rest, values in zip(left, (predicted, measured), strict=True):
        gone |= rest.var(axis=0) <= LEFT * np.var(values, axis=0, dtype=np.float64)
    return np.where(gone, np.nan, r)


def _residual(values: FloatArray, covariate: FloatArray) -> FloatArray:
    x = covariate - covariate.mean()
    y = values - values.mean(axis=0, dtype=np.float64)
    square = float(x @ x)
    return np.asarray(y if square == 0 else y - np.outer(x, x @ y / square))
