"""What a fitted model keeps in a folder: safetensors and JSON, nothing that runs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hdstbench.errors import DataError
from hdstbench.strict import build

ARRAYS, REST = "kept.safetensors", "kept.json"
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """State of a fitted model by name."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def joined(self, other: "Kept") -> "Kept":
        """This and another."""
        return Kept(
            arrays={**self.arrays, **other.arrays},
            numbers={**self.numbers, **other.numbers},
            words={**self.words, **other.words},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    numbers: dict[str, int]
    words: dict[str, tuple[str, ...]]


def save_kept(folder: Path, kept: Kept) -> None:
    """Write a state into a folder that is there already."""
    save_file({name: np.ascontiguousarray(v) for name, v in kept.arrays.items()}, folder / ARRAYS)
    rest = _Rest(numbers=dict(kept.numbers), words=dict(kept.words))
    (folder / REST).write_text(json.dumps(asdict(rest), indent=1, sort_keys=True), encoding="utf-8")


def load_kept(folder: Path) -> Kept:
    """Read what `save_kept` wrote.

    Raises:
        DataError: If it is not there or damaged.
    """
    try:
        rest = build(_Rest, json.loads((folder / REST).read_text(encoding="utf-8")), str(folder / REST))
        return Kept(arrays=load_file(folder / ARRAYS), numbers=rest.numbers, words=rest.words)
    except (OSError, ValueError, SafetensorError) as error:
        msg = f"{folder} holds no fitted model that can be read ({error}); run it again with --keep-models"
        raise DataError(msg) from error
