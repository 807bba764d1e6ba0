"""Pearson correlations, each with its axis in its name."""

import numpy as np

from hdstbench.arrays import FloatArray

BIN_EPSILON = 1e-8
"""Stands under the root of the paper's correlation (MagNet, `calculate_pcc`)."""


def pearson_per_gene(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """Correlate prediction and measurement over units, separately for each gene.

    It asks whether the spatial pattern of a gene is right. It is blind to a gene's scale and
    offset, so report it beside an error in units.

    Args:
        predicted: [N, G], in the task's target space.
        measured: [N, G], same units and genes.

    Returns:
        float64 [G] in [-1, 1]; NaN for a gene that is constant in either input, so that the caller
        decides how such genes count and cannot miss that they exist.

    Raises:
        ValueError: If the shapes differ, N < 2, or a value is not finite.

    Reference:
        Pearson, "Note on regression and inheritance in the case of two parents", 1895.
    """
    check_pair(predicted, measured)
    p, m = _scaled(predicted), _scaled(measured)
    constant = (np.ptp(predicted, axis=0) == 0) | (np.ptp(measured, axis=0) == 0)
    norm = np.sqrt(np.einsum("ng,ng->g", p, p) * np.einsum("ng,ng->g", m, m))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.einsum("ng,ng->g", p, m) / norm
    return np.where(constant, np.nan, np.clip(r, -1, 1))


def _scaled(values: FloatArray) -> FloatArray:
    """Centre columns and bring them to a size of 1, so that tiny values do not vanish squared."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    centred -= centred.mean(axis=0)  # what rounding left of a large offset
    size = np.abs(centred).max(axis=0, initial=0)
    return np.asarray(centred / np.where(size > 0, size, 1))


def pearson_per_unit(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """Correlate over genes, separately for each unit: what the MagNet paper calls PCC.

    A predictor that never sees the image scores 0.3-0.5 on it, for it rewards knowing which genes
    are high everywhere. A unit whose genes are all alike counts as 0.

    Args:
        predicted: [N, G], in the task's target space.
        measured: [N, G].

    Returns:
        float64 [N] in [-1, 1], with 1e-8 under the root.

    Raises:
        ValueError: If the shapes differ, N < 2, or a value is not finite.
    """
    check_pair(predicted, measured)
    p = predicted - predicted.mean(axis=1, keepdims=True, dtype=np.float64)
    m = measured - measured.mean(axis=1, keepdims=True, dtype=np.float64)
    both = np.einsum("ng,ng->n", p, p) * np.einsum("ng,ng->n", m, m)
    return np.asarray(np.einsum("ng,ng->n", p, m) / np.sqrt(both + BIN_EPSILON))


def check_pair(predicted: FloatArray, measured: FloatArray) -> None:
    """Refuse what cannot be compared.

    Raises:
        ValueError: If the shapes differ, N < 2, or a value is not finite.
    """
    if predicted.shape != measured.shape or predicted.ndim != 2 or len(predicted) < 2:  # noqa: PLR2004
        msg = f"need two equal [N>=2, G] arrays, got {predicted.shape} and {measured.shape}"
        raise ValueError(msg)
    if not (np.isfinite(predicted).all() and np.isfinite(measured).all()):
        msg = "predicted and measured must be finite"
        raise ValueError(msg)
