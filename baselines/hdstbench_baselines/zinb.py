"""Likelihoods of counts, as Hist2ST has them."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hdstbench.arrays import CSR

EPSILON = 1e-10
ZERO = 1e-8
MEAN_RANGE, DISPERSION_RANGE = (1e-5, 1e6), (1e-4, 1e4)


def to_mean(x: Tensor) -> Tensor:
    """Turn any number into a mean, in [1e-5, 1e6]."""
    return x.float().exp().clamp(*MEAN_RANGE)


def to_dispersion(x: Tensor) -> Tensor:
    """Turn any number into a dispersion, in [1e-4, 1e4]."""
    return functional.softplus(x.float()).clamp(*DISPERSION_RANGE)


def zinb_loss(counts: Tensor, mean: Tensor, dispersion: Tensor, dropout: Tensor, scale: Tensor) -> Tensor:
    """Mean negative log-likelihood of zero-inflated negative binomial counts.

    Args:
        counts: Raw counts, [N, G].
        mean: Expected count of a unit of size 1, [N, G].
        dispersion: theta; the variance is m + m^2 / theta, [N, G].
        dropout: Probability that a count is lost and 0, [N, G].
        scale: Size of each unit, [N].
    """
    m, theta = mean * scale[:, None], dispersion
    seen = (
        torch.lgamma(theta + EPSILON)
        + torch.lgamma(counts + 1)
        - torch.lgamma(counts + theta + EPSILON)
        + (theta + counts) * torch.log1p(m / (theta + EPSILON))
        + counts * (torch.log(theta + EPSILON) - torch.log(m + EPSILON))
        - torch.log(1 - dropout + EPSILON)
    )
    none = (theta / (theta + m + EPSILON)) ** theta
    unseen = -torch.log(dropout + (1 - dropout) * none + EPSILON)
    return torch.where(counts <= ZERO, unseen, seen).mean()


def nb_loss(counts: Tensor, log_dispersion: Tensor, logit: Tensor) -> Tensor:
    """Negative log-likelihood of negative binomial counts, summed over genes, mean over units.

    The term that depends on counts alone is left out, as in the authors' code. The model does not use
    this loss, which their switch for it puts in place of the zero-inflated one.

    Args:
        counts: Raw counts, [N, G].
        log_dispersion: Logarithm of the dispersion, [N, G].
        logit: Log odds of the success probability, [N, G].
    """
    r = log_dispersion.exp()
    likelihood = (
        torch.lgamma(r + counts)
        - torch.lgamma(r)
        + logit * counts
        - functional.softplus(logit) * (counts + r)
    )
    return -likelihood.sum(dim=-1).mean()


def typical_total(counts: CSR) -> float:
    """Median over units of their counts of the panel, by which sizes are measured; at least 1.

    The authors divide by the median itself, which is 0 where more than half of the units are empty.
    """
    return max(float(np.median(counts.sum(axis=1))), 1.0)
