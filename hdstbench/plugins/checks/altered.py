"""Copies of a prepared slide in which something is gone: labels, other units, pixels of others."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hdstbench.arrays import IntArray
from hdstbench.data.prepared import load_arrays
from hdstbench.protocol.slide import UNIT, Slide, open_slide
from hdstbench.rng import stream

Arrays = Mapping[str, npt.NDArray[Any]]


def without_labels(slide: Slide, prepared: Path, folder: Path) -> Slide:
    """The same view, hidden, of a prepared folder that holds no labels.

    Args:
        slide: A view of the slide.
        prepared: Its prepared folder.
        folder: Where the copy goes; nothing is there yet.
    """
    shutil.copytree(prepared, folder)
    return _reopen(slide, folder).take(slide.rows(UNIT))


def alone(slide: Slide, prepared: Path, folder: Path, index: IntArray) -> Slide:
    """Some units of a slide, hidden, of a prepared folder that holds nothing else.

    Other units and their parents are gone, and block images show noise but for the patches of these
    units, at every level; so does the picture around units.

    Args:
        slide: A view of the slide.
        prepared: Its prepared folder.
        folder: Where the copy goes; nothing is there yet.
        index: Units of the view that stay, in ascending order of their rows, [B].
    """
    shutil.copytree(prepared, folder)
    rows, path = slide.rows(UNIT)[index], folder / "pixels" / "blocks.npy"
    images = np.load(path)
    out = stream("altered").integers(0, 256, images.shape, np.uint8)
    for level, side in slide.patch_px.items():
        arrays = _load(folder, level)
        kept = _parents(arrays, rows) if level != UNIT else {name: a[rows] for name, a in arrays.items()}
        _save(folder, level, kept)
        for block, (left, top) in zip(kept["block"], kept["offset"], strict=True):
            here = np.s_[block, top : top + side, left : left + side]
            out[here] = images[here]
    np.save(path, out)
    around = folder / "pixels" / "around.npy"
    if around.is_file():
        squares = np.load(around)
        np.save(around, stream("altered", "around").integers(0, 256, squares.shape, np.uint8))
    return _reopen(slide, folder)


def _load(folder: Path, level: str) -> Arrays:
    with np.load(folder / "pixels" / f"{level}.npz") as file:
        return dict(file)


def _save(folder: Path, level: str, arrays: Arrays) -> None:
    np.savez(folder / "pixels" / f"{level}.npz", **arrays)  # type: ignore[arg-type] # as in prepared.py


def _parents(arrays: Arrays, rows: IntArray) -> dict[str, npt.NDArray[Any]]:
    """A coarser level with the parents of some units alone."""
    kept, parent = np.unique(arrays["parent"][rows], return_inverse=True)
    return {name: parent if name == "parent" else values[kept] for name, values in arrays.items()}


def _reopen(slide: Slide, folder: Path) -> Slide:
    """Open all units of a copy under a key of its own, hidden, and take its labels away."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"pixels": f"{slide.key}-{folder.name}"}), encoding="utf-8")
    hidden = open_slide(folder, slide.genes, slide.target).hidden()
    shutil.rmtree(folder / "labels")
    load_arrays.cache_clear()  # which has read them
    return hidden
