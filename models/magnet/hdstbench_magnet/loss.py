"""MagNet's loss: error and correlation at each level, agreement between levels."""

import torch
from torch import Tensor
from torch.nn import functional

from hdstbench.torchkit.batch import BatchLabels
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.network import UNIT

EPSILON = 1e-8


def correlation_loss(a: Tensor, b: Tensor) -> Tensor:
    """One minus the mean correlation over genes of each row, [N, G] twice; a constant row counts 0."""
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    norm = torch.sqrt((a * a).sum(dim=1) * (b * b).sum(dim=1) + EPSILON)
    return 1 - ((a * b).sum(dim=1) / norm).mean()


def gene_correlation_loss(a: Tensor, b: Tensor) -> Tensor:
    """One minus the mean correlation over rows of each gene, [N, G] twice; 1, without slope, of one row."""
    return correlation_loss(a.T, b.T)


def magnet_loss(
    predicted: dict[str, Tensor], parent: dict[str, Tensor], labels: BatchLabels, config: MagNetConfig
) -> Tensor:
    """Equations 3 to 5 of the paper.

    Args:
        predicted: By level, [N, G] for "unit" and [M, G] for coarser ones.
        parent: Each unit's parent at every coarser level, [N].
        labels: Targets; a coarse unit that is no target takes no part.
        config: Weights, what is correlated, and what has to be consistent.
    """
    weights = config.loss
    apart = correlation_loss if config.correlation == "unit" else gene_correlation_loss
    unit = predicted[UNIT].float()
    prediction = weights.error * functional.mse_loss(unit, labels.target)
    prediction = prediction + weights.unit * apart(unit, labels.target)
    consistency = torch.zeros((), device=unit.device)
    own = {"spot": weights.spot, "region": weights.region}
    between = {"spot": weights.with_spot, "region": weights.with_region}
    same = unit if config.consistency == "prediction" else labels.target
    for name, (target, valid) in labels.coarse.items():
        coarse = predicted[name].float()
        if valid.any():
            prediction = prediction + own[name] * apart(coarse[valid], target[valid])
        consistency = consistency + between[name] * apart(same, coarse[parent[name]])
    return weights.prediction * prediction + weights.consistency * consistency
