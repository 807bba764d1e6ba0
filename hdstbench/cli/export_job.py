"""Export what `hdstbench data export` asks for."""

import json
from dataclasses import asdict
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.cli.view import make_view
from hdstbench.data.card import cache_root
from hdstbench.data.export import (
    Predicted,
    check_output,
    predictions_anndata,
    prepared_anndata,
    write_h5ad,
)
from hdstbench.data.prepared import Manifest, load_arrays, load_manifest
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.target import Target, find_target
from hdstbench.records import Record, load_record
from hdstbench.strict import build
from hdstbench.sweep.cell import PREDICTIONS, SLIDE, TARGET

if TYPE_CHECKING:
    from anndata import AnnData

KEY = "key/"
"""Prefix of the hash of each test slide's pixels in a cell's predictions."""


def execute(source: str, output: str) -> Path:
    """Write a prepared slide or a cell's predictions as a new .h5ad.

    Returns:
        The file.

    Raises:
        MissingError: If the source is neither.
        DataError: If it is damaged, or the file exists.
    """
    folder, target = Path(source), Path(output)
    check_output(target)
    if (folder / "manifest.json").is_file():
        write_h5ad(prepared_anndata(folder), target)
    elif (folder / PREDICTIONS).is_file():
        write_h5ad(cell_anndata(folder), target)
    elif (folder / "record.json").is_file():
        msg = f"{folder} has no {PREDICTIONS}: its model failed; see {folder / 'log.txt'}"
        raise MissingError(msg)
    else:
        msg = (
            f"{folder} is neither a prepared slide (manifest.json) nor a cell ({PREDICTIONS}); cells are in "
            f"runs/<name>/<dataset>/<res>/<model>/, prepared slides in {cache_root() / 'prepared'}"
        )
        raise MissingError(msg)
    return target


def cell_anndata(folder: Path) -> "AnnData":
    """The predictions of a cell, with targets and places of those slides that are still prepared.

    Raises:
        DataError: If the cell is damaged.
    """
    record = load_record(folder)
    genes, values, keys = read_predictions(folder / PREDICTIONS)
    slides = []
    for slide, predicted in values.items():
        place = find_prepared(record, slide, len(predicted), keys.get(slide, ""))
        if place is None:
            make_view(as_json=False).say(
                f"{slide}: its prepared slide is not in {cache_root()}; places and targets are left out"
            )
        slides.append(Predicted(slide=slide, values=predicted, folder=place))
    target = stored_target(record, folder / PREDICTIONS)

    def transform(counts: IntArray, library: IntArray, grid: IntArray) -> FloatArray:
        return target.of_slide(library).of_units(counts, library, grid)

    return predictions_anndata(genes, slides, transform, asdict(record))


def stored_target(record: Record, path: Path) -> Target:
    """The cell's target, with what it took from training units."""
    with np.load(path, allow_pickle=False) as file:
        if TARGET not in file.files:
            return find_target(record.task["target"])
        return build(Target, json.loads(str(file[TARGET])), str(path))


def read_predictions(path: Path) -> tuple[list[str], dict[str, FloatArray], dict[str, str]]:
    """Genes of the panel, and predictions and hash of each slide."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        genes = arrays["genes"].astype(str).tolist()
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        msg = f"{path} holds no predictions ({error}); remove its folder and run again"
        raise DataError(msg) from error
    values = {name.removeprefix(SLIDE): array for name, array in arrays.items() if name.startswith(SLIDE)}
    keys = {name.removeprefix(KEY): str(array) for name, array in arrays.items() if name.startswith(KEY)}
    return genes, values, keys


def find_prepared(record: Record, slide: str, units: int, key: str) -> Path | None:
    """The prepared folder that a cell's predictions of a slide belong to.

    Args:
        record: Of the cell.
        slide: Its name.
        units: How many there have to be.
        key: Hash of its pixels and places; where the cell does not hold it, the slide has to be the only
            one of its name, resolution and number of units.

    Returns:
        The folder; None if there is none, or several whose counts differ.
    """
    place = cache_root() / "prepared" / record.task["dataset"] / record.task["resolution"]
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(place.glob(f"{escape(slide)}-*/manifest.json")):
        manifest = _manifest(path.parent)
        if manifest and (manifest.slide, manifest.units) == (slide, units) and key in ("", manifest.pixels):
            found.setdefault((manifest.pixels, manifest.labels), path.parent)
    first, *others = found.values() or [None]
    if len({pixels for pixels, _ in found}) > 1 or not all(_same_counts(first, other) for other in others):
        return None
    return first


def _same_counts(first: Path | None, other: Path | None) -> bool:
    """Whether two prepared slides differ in nothing but what stands beside their counts, such as strata."""
    if first is None or other is None:
        return False
    for name in ("unit.npz", "slide.npz"):
        one, two = load_arrays(first / "labels" / name), load_arrays(other / "labels" / name)
        if set(one) != set(two) or not all(np.array_equal(one[key], two[key]) for key in one):
            return False
    return True


def _manifest(folder: Path) -> Manifest | None:
    try:
        return load_manifest(folder)
    except DataError:  # of another version
        return None
