"""Correlations of very many units in float32: two passes through memory, and a check that they suffice."""

import numpy as np

from hdstbench.arrays import FloatArray

ROWS = 512
"""Rows of a chunk: of 250 genes two of them stay in a processor's cache."""
LEAST = 20_000
"""Units from which it is worth it; fewer are looked at in float64 alone."""
SAMPLE = 1_000
FAR = 1.0
"""A centre this many standard deviations off the mean costs digits: such a gene is looked at anew."""
RANGE = (1e-20, 1e20)
"""Variances whose squares of float32 are neither lost nor too large."""


def suits(predicted: FloatArray, measured: FloatArray) -> bool:
    """Whether arrays are large enough, and of float32."""
    return len(predicted) >= LEAST and predicted.dtype == measured.dtype == np.float32


def correlate(predicted: FloatArray, measured: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Correlate each gene over units, and say where the result is not to be trusted.

    Values are taken less a centre near the mean; products are summed over 512 units in float32, and from
    there in float64. What is trusted differs from float64 by less than 1e-6 (tests/test_metrics.py).

    Args:
        predicted: float32 [N, G].
        measured: float32 [N, G].

    Returns:
        Correlations, float64 [G], and genes that want another way: constant or nearly so, of a mean far
        from that of a thousand units spread over all, not finite, or of very small or large values, bool [G].
    """
    shift_p, shift_m = _centre(predicted), _centre(measured)
    p, m = (np.empty((ROWS, predicted.shape[1]), np.float32) for _ in range(2))
    sums = np.zeros((5, predicted.shape[1]))
    with np.errstate(all="ignore"):
        for start in range(0, len(predicted), ROWS):
            part_p, part_m = predicted[start : start + ROWS], measured[start : start + ROWS]
            x = np.subtract(part_p, shift_p, out=p[: len(part_p)])
            y = np.subtract(part_m, shift_m, out=m[: len(part_m)])
            sums[0] += x.sum(axis=0)
            sums[1] += y.sum(axis=0)
            sums[2] += np.einsum("ng,ng->g", x, x)
            sums[3] += np.einsum("ng,ng->g", y, y)
            sums[4] += np.einsum("ng,ng->g", x, y)
        return _finish(sums / len(predicted))


def _centre(values: FloatArray) -> FloatArray:
    """The mean of some units; of a gene that is the same in all of them, that very value."""
    some = values[:: max(1, len(values) // SAMPLE)]
    mean = some.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.asarray(np.where((some == some[0]).all(axis=0), some[0], mean))


def _finish(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean_p, mean_m, pp, mm, pm = sums
    var_p, var_m = pp - mean_p**2, mm - mean_m**2
    r = np.clip((pm - mean_p * mean_m) / np.sqrt(var_p * var_m), -1, 1)
    sure = np.isfinite(r)
    for mean, variance in ((mean_p, var_p), (mean_m, var_m)):
        sure &= (variance > RANGE[0]) & (variance < RANGE[1]) & (mean**2 < FAR * variance)
    return r, ~sure
