"""Make a data set of a HEST-Bench task: its samples, its folds as they are, its list of genes."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hdstbench.data.adata import SLACK
from hdstbench.data.card import NAME
from hdstbench.data.cardfile import Draft, Entry, Fold
from hdstbench.data.h5ad import library, open_h5ad, pitch_px
from hdstbench.data.hest import patients, read_table
from hdstbench.data.hestbench import MPP, join, level0, read_patches
from hdstbench.data.measure import nominal
from hdstbench.errors import DataError, MissingError

FOLDERS = ("splits", "patches", "adata")
GENES = "var_50genes"
COLUMNS = ("sample_id", "patches_path", "expr_path")

Files = dict[str, tuple[Path, Path]]
"""The patches and the .h5ad of each sample."""


@dataclass(frozen=True, slots=True)
class _Size:
    """Distance and diameter of spots, and side of a patch, in um."""

    pitch: float
    spot: float
    patch: float


def is_task(folder: Path) -> bool:
    """Whether a folder is laid out as a task of HEST-Bench."""
    return all((folder / name).is_dir() for name in FOLDERS)


def draft(task: Path, name: str) -> Draft:
    """Make a data set of a task; nothing of it is changed, even if its folds leak.

    Raises:
        MissingError: If a file is not there.
        DataError: If a file is damaged, or files contradict each other.
    """
    files: Files = {}
    folds = _folds(task, files)
    table = read_table(task) or read_table(task.parent)
    known = patients({sample: table.get(sample, {}) for sample in files})
    slides = [
        Entry(id=sample, patient=known[sample] or sample, path=expression, image=patches)
        for sample, (patches, expression) in files.items()
    ]
    sizes = {slide.id: _measure(slide.path, slide.image) for slide in slides}
    spots = [nominal(size.spot) for size in sizes.values()]
    spot = max(spots, key=spots.count)
    return Draft(
        keys={
            "name": name,
            "title": f"HEST-Bench {task.resolve().name}: {len(slides)} slides of {spot:g} um spots",
            "reader": "hest-bench",
            "licence": "CC-BY-NC-SA-4.0 (HEST-Bench); each sample has the licence of its study besides",
            "citation": "Jaume et al., HEST-1k, NeurIPS 2024, arXiv:2406.16192, and the study of each sample",
            "homepage": "https://huggingface.co/datasets/MahmoodLab/hest-bench",
            "notes": _notes([sample for sample in files if not known[sample]]),
            "mpp": MPP,
            "native_um": spot,
            "pitch_um": _one_pitch(sizes, task),
            "patch_um": min(size.patch for size in sizes.values()),
            "resolutions": [f"{spot:g}um"],
        },
        slides=slides,
        folds=folds,
        split=("hest-bench", "the folds of HEST-Bench"),
        panel=(GENES, _genes(task / f"{GENES}.json")),
    )


def _notes(unknown: Sequence[str]) -> str:
    text = (
        "Folds and genes are those of HEST-Bench; the genes were not chosen on training slides alone. "
        "HEST-Bench itself predicts log1p of raw counts, without regard to library size."
    )
    if unknown:
        text += f" No patient is stated for {len(unknown)} slides: each counts as a patient of its own."
    return text


def _folds(task: Path, files: Files) -> list[Fold]:
    """Read the folds, and add the files of their samples to `files`."""
    names = [re.fullmatch(r"(?:train|test)_(\d+)\.csv", path.name) for path in (task / "splits").iterdir()]
    numbers = sorted({int(found[1]) for found in names if found})
    if not numbers:
        msg = f"{task / 'splits'} holds no fold; wanted train_<i>.csv and test_<i>.csv"
        raise MissingError(msg)
    folds: list[Fold] = []
    for number in numbers:
        test, train = (_side(task, f"{side}_{number}.csv", files) for side in ("test", "train"))
        folds.append((test, train))
    return folds


def _side(task: Path, name: str, files: Files) -> list[str]:
    """The samples of one table; their files have to be there."""
    path = task / "splits" / name
    if not path.is_file():
        msg = f"{path} is not there; wanted train_<i>.csv and test_<i>.csv for each fold"
        raise MissingError(msg)
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except (OSError, ValueError) as error:
        msg = f"{path} is not a whole table: {str(error).splitlines()[0]}; get it again"
        raise DataError(msg) from error
    if not set(COLUMNS) <= set(table) or table.empty:
        shown = ", ".join(map(str, table))
        msg = f"{path} has {len(table)} rows of {shown}; wanted some, of {', '.join(COLUMNS)}"
        raise DataError(msg)
    for sample, patches, expression in table[list(COLUMNS)].itertuples(index=False):
        if not NAME.fullmatch(sample):
            msg = f"{path}: {sample!r} is no name of a sample; wanted letters, digits, dots and dashes"
            raise DataError(msg)
        pair = (task / patches, task / expression)
        for file in pair:
            if not file.is_file():
                msg = f"{path} names the sample {sample}, but {file} is not there"
                raise MissingError(msg)
        if files.setdefault(sample, pair) != pair:
            msg = f"{path} names {patches} and {expression} for {sample}, another table names other files"
            raise DataError(msg)
    return table["sample_id"].tolist()


def _genes(path: Path) -> list[str]:
    try:
        genes = json.loads(path.read_text(encoding="utf-8-sig"))["genes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path} is no list of genes ({error!r}); wanted {{'genes': [...]}}; get it again"
        raise DataError(msg) from error
    names = [str(gene).strip() for gene in genes]
    if not names or len(set(names)) < len(names):
        msg = f"{path} lists {len(names)} genes, {len(set(names))} of them different; wanted each once"
        raise DataError(msg)
    return names


def _measure(path: Path, patches_path: Path) -> _Size:
    patches, adata = read_patches(patches_path), open_h5ad(path, backed=True)
    try:
        mpp, xy = level0(adata, join(adata, patches, path), patches.corners, patches.side, path)
        diameter = float(library(adata, path).get("scalefactors", {}).get("spot_diameter_fullres", 0.0))
    finally:
        adata.file.close()
    if mpp is None:
        msg = f"{path} has no obsm['spatial'], so that the distance of its spots is not known; get it again"
        raise DataError(msg)
    pitch = pitch_px(xy, path) * mpp
    return _Size(pitch, diameter * mpp if diameter > 0 else pitch, patches.side * MPP)


def _one_pitch(sizes: Mapping[str, _Size], task: Path) -> float:
    pitch = nominal(float(np.median([size.pitch for size in sizes.values()])))
    for sample, size in sizes.items():
        if abs(size.pitch / pitch - 1) > SLACK:
            msg = (
                f"{task}: spots of {sample} lie {size.pitch:.1f} um apart, others {pitch:g}; wanted one kind"
            )
            raise DataError(msg)
    return pitch
