"""What Hist2ST minimises, and the augmented copies of a window that it is distilled from."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hdstbench_baselines.his2st_network import Hist2STNetwork
from hdstbench_baselines.zinb import zinb_loss

GREY, MAX_ANGLE, FLIP = 0.1, 90.0, 0.2
LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in grey, as in ITU-R BT.601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights of the terms beside the squared error, and how distillation is done.

    Attributes:
        counts: Of the likelihood of counts; 0 leaves it out, and its heads.
        distillation: Of self-distillation.
        copies: Augmented copies that it takes; 0 leaves it out, and its net.
        detach: Take the distilled prediction as a constant, which saves the memory of the copies. Not
            so in the authors' code.
    """

    counts: float = 0.25
    distillation: float = 0.5
    copies: int = 5
    detach: bool = False


class Window(NamedTuple):
    """Inputs of the network, as in `Hist2STNetwork.encode`."""

    patches: Tensor
    positions: Tensor
    neighbours: Tensor


class Truth(NamedTuple):
    """Targets [N, G], raw counts [N, G] and sizes [N] of a window's units."""

    target: Tensor
    counts: Tensor
    scale: Tensor


def his2st_terms(
    net: Hist2STNetwork, window: Window, copies: Iterable[Tensor], truth: Truth, weights: LossWeights
) -> dict[str, Tensor]:
    """Compute the terms of the loss, not yet weighted.

    Args:
        net: The network, in training.
        window: Its inputs.
        copies: The window's patches augmented, [N, 3, S, S] each.
        truth: What is known of the units.
        weights: Which terms are wanted.

    Returns:
        "target", and "counts" and "distillation" where they have a weight.
    """
    hidden = net.encode(*window)
    predicted = net.head(hidden)
    terms = {"target": functional.mse_loss(predicted, truth.target)}
    if weights.counts:
        terms["counts"] = zinb_loss(truth.counts, *net.expected_counts(hidden), truth.scale)
    if weights.copies:
        with torch.set_grad_enabled(not weights.detach):
            wanted = distilled(net, window, copies)
        terms["distillation"] = functional.mse_loss(wanted, predicted)
    return terms


def his2st_loss(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """Add up the weighted terms."""
    weight = {"target": 1.0, "counts": weights.counts, "distillation": weights.distillation}
    return torch.stack([weight[name] * value for name, value in terms.items()]).sum()


def distilled(net: Hist2STNetwork, window: Window, copies: Iterable[Tensor]) -> Tensor:
    """Mean of the copies' predictions, weighted for each unit by what the net trusts, [N, G]."""
    hidden = [net.encode(patches, window.positions, window.neighbours) for patches in copies]
    states = torch.stack(hidden)
    assert net.trust is not None
    trust = net.trust(states).softmax(dim=0)
    out: Tensor = (net.head(states) * trust).sum(dim=0)
    return out


def draw_copies(rng: np.random.Generator, count: int) -> Tensor:
    """Draw how copies are augmented: grey or not, angle in degrees, flipped or not, [count, 3]."""
    draws = [
        (rng.random() < GREY, rng.uniform(-MAX_ANGLE, MAX_ANGLE), rng.random() < FLIP) for _ in range(count)
    ]
    return torch.tensor(draws, dtype=torch.float32).reshape(count, 3)


def augment(patches: Tensor, draw: Tensor) -> Tensor:
    """Augment all patches of a window alike.

    Args:
        patches: 0 to 255, [N, 3, S, S].
        draw: One row of `draw_copies`, [3].

    Returns:
        float [N, 3, S, S]; corners that a turn lays bare are black.
    """
    grey, angle, flip = draw.tolist()
    out = patches.float()
    if grey:
        share = out.new_tensor(LUMA).view(3, 1, 1)
        out = (out * share).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    out = _turn(out, math.radians(angle))
    return out.flip(-1) if flip else out


def _turn(patches: Tensor, angle: float) -> Tensor:
    """Turn patches around their middles, taking the nearest pixel."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = patches.new_tensor([[cos, -sin, 0], [sin, cos, 0]])
    shape = [1, *patches.shape[1:]]
    places = functional.affine_grid(matrix[None], shape, align_corners=False)
    return functional.grid_sample(
        patches,
        places.expand(len(patches), -1, -1, -1),
        mode="nearest",
        padding_mode="zeros",
        align_corners=False,
    )
