"""The learning rate over the course of a training, as a share of its start."""

import math
from typing import Literal

Schedule = Literal["constant", "cosine", "steps", "restarts", "poly"]

STEP_EPOCHS, STEP_FACTOR = 50, 0.9
"""`steps`: a tenth less every 50 epochs, as Hist2ST and TRIPLEX have it."""
WARM_STEPS, FLOOR = 100, 0.2
"""`restarts`: cosine cycles of half an epoch, each after a warm-up from a fifth of the rate, as in EGN."""

POLY_STEPS, POLY_POWER = 25_000, 0.9
"""`poly`: a power of the share of 25,000 steps that is left, as in MagNet's script; nothing after them."""


def rate_factor(schedule: Schedule, seen: int, epoch_units: int, epochs: int, batch_size: int) -> float:
    """Share of the learning rate that a step takes.

    Args:
        schedule: `constant`; `cosine`, which falls to 1 % after all epochs; `steps`; `restarts`, whose
            warm-up of 100 steps is cut to half a cycle where a cycle is short; `poly`.
        seen: Units seen before this step.
        epoch_units: Units of one epoch.
        epochs: Epochs planned.
        batch_size: Units of a step.
    """
    if schedule == "cosine":
        share = min(seen / max(epoch_units * epochs, 1), 1.0)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
    if schedule == "steps":
        return float(STEP_FACTOR ** (seen // max(epoch_units, 1) // STEP_EPOCHS))
    if schedule == "restarts":
        cycle = max(epoch_units / 2, 1.0)
        warm, place = min(WARM_STEPS * batch_size, cycle / 2), seen % cycle
        fall = 0.5 * (1 + math.cos(math.pi * (place - warm) / (cycle - warm)))
        return FLOOR + (1 - FLOOR) * (place / warm if place < warm else fall)
    if schedule == "poly":
        return float(max(1 - seen / batch_size / POLY_STEPS, 0.0) ** POLY_POWER)
    return 1.0
