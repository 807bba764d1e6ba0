"""Hashes that tell whether slides, or files, are as they were."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hdstbench.protocol.labels import Labels
from hdstbench.protocol.slide import UNIT, Slide

SOME = 8
"""Patches of each level that are looked at."""


def hash_of(slide: Slide) -> str:
    """Hash of everything that a view of a slide hands out, pixels of some patches only."""
    digest = hashlib.sha256()
    for values in _arrays(slide):
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def files_in(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _arrays(slide: Slide) -> Iterator[npt.NDArray[Any]]:
    for level in slide.levels:
        yield slide.rows(level)
        yield slide.xy_of(level)
        yield slide.grid_of(level)
        yield slide.pad_fraction(level)
        yield slide.patches(level, np.arange(min(SOME, slide.size(level))))
    yield slide.block_of
    if slide.labels is not None:
        yield from _of_labels(slide.labels, slide.levels)


def _of_labels(labels: Labels, levels: tuple[str, ...]) -> Iterator[npt.NDArray[Any]]:
    yield labels.target()
    yield labels.library
    yield labels.counts().toarray()
    for level in levels:
        if level != UNIT:
            yield from labels.coarse(level)
