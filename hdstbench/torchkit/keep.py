"""What a long fit leaves in its scratch folder, so that it goes on from there after it was killed."""

import os
import time
from pathlib import Path
from typing import Any, TypedDict

import torch

KEEP_S = 60.0
"""A fit is kept at the end of an epoch, at most once in so many seconds."""
FILE = "fit.pt"


class Before(TypedDict):
    """The best of the trials that are over: its error and its network's weights."""

    error: float
    net: dict[str, Any]


class Kept(TypedDict):
    """A fit after some epochs of one trial.

    Attributes:
        trial: Number of the rate that is tried.
        epoch: How many epochs of it are done.
        best: Its least validation error so far.
        since: Epochs since that.
        seen: Units that it was trained on.
    """

    trial: int
    epoch: int
    best: float
    since: int
    seen: int
    net: dict[str, Any]
    best_net: dict[str, Any]
    optimiser: dict[str, Any]
    before: Before | None


class Keeper:
    """Writes and reads what is kept; a file is whole or not there."""

    def __init__(self, scratch: Path, device: str) -> None:
        self._path, self._device = scratch / FILE, device
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to keep."""
        return time.monotonic() - self._last >= KEEP_S

    def save(self, kept: Kept) -> None:
        """Keep a fit; what cannot be written is only time that may be lost."""
        self._last = time.monotonic()
        part = self._path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                torch.save(dict(kept), file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError:
            part.unlink(missing_ok=True)

    def load(self) -> Kept | None:
        """What an earlier process kept of this very fit, if it did; holds tensors and numbers, no code."""
        if not self._path.is_file():
            return None
        found: Kept = torch.load(self._path, map_location=self._device, weights_only=True)
        return found
