"""Slides of native spots with a known answer, as .h5ad, HEST-1k folder and HEST-Bench task.

Gene BRIGHT counts the grey level of the pixel under the spot, so a spot that is read from the wrong place
is found out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import tifffile
from anndata import AnnData
from helpers import take
from PIL import Image
from scipy import sparse

from hdstbench.cli import import_job
from hdstbench.data.adata import read as read_anndata
from hdstbench.data.card import Dataset, load_dataset
from hdstbench.data.hestbench import read as read_bench
from hdstbench.data.image import ArrayImage, open_image, read_region
from hdstbench.data.sample import Sample
from hdstbench.rng import stream

GENES = ("BRIGHT", "FILLER", "NOISE", "CONSTANT", *(f"GENE{i}" for i in range(16)))
MARGIN_UM = 150.0
THUMBNAIL = 8
NOTHING: dict[str, object] = {"image": None, "mpp": None, "patient": None}
"""No option of hdstbench data import."""


@dataclass(frozen=True, kw_only=True)
class Array:
    """How spots lie: `hexagonal` as in Visium, else square; turned by `turn` radians."""

    side: int = 7
    pitch_um: float = 100.0
    spot_um: float = 55.0
    mpp: float = 2.0
    hexagonal: bool = False
    turn: float = 0.0


@dataclass(frozen=True)
class Made:
    """One slide before it is written; positions are those of `adata`."""

    name: str
    adata: AnnData
    picture: np.ndarray
    array: Array


def make(name: str, array: Array | None = None, *, seed: int = 0) -> Made:
    """Make a slide of side x side spots, all in tissue but the last, which has counts all the same."""
    array, rng = array or Array(), stream("spots", name, seed)
    row, col = (a.ravel() for a in np.indices((array.side, array.side)))
    u, v = col.astype(float), row.astype(float)
    if array.hexagonal:
        col = 2 * col + row % 2
        u, v = col / 2, row * np.sqrt(3) / 2
    step = array.pitch_um / array.mpp
    rotation = np.array([[np.cos(array.turn), -np.sin(array.turn)], [np.sin(array.turn), np.cos(array.turn)]])
    xy = np.stack([u, -v], axis=1) @ rotation.T * step
    xy += MARGIN_UM / array.mpp - xy.min(axis=0) + 0.37
    width, height = (np.ceil(xy.max(axis=0)) + MARGIN_UM / array.mpp).astype(int)
    coarse = rng.integers(40, 215, (height // 25 + 2, width // 25 + 2)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    light = grey[xy[:, 1].astype(int), xy[:, 0].astype(int)].astype(int)
    noise = rng.poisson(rng.uniform(1, 20, len(GENES) - 4), (len(xy), len(GENES) - 4))
    counts = np.column_stack([light, 500 - light, rng.poisson(60, len(xy)), np.full(len(xy), 30), noise])
    order = rng.permutation(len(xy))
    obs = pd.DataFrame(
        {"in_tissue": (np.arange(len(xy)) < len(xy) - 1).astype(int), "array_row": row, "array_col": col},
        index=[f"SPOT{i:04d}-1" for i in range(len(xy))],
    )
    var = pd.DataFrame({"gene_ids": [f"ENSG{i:04d}" for i in range(len(GENES))]}, index=list(GENES))
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    small = picture[::THUMBNAIL, ::THUMBNAIL]
    factors = {
        "tissue_hires_scalef": small.shape[1] / width,
        "spot_diameter_fullres": array.spot_um / array.mpp,
    }
    adata = AnnData(
        X=sparse.csr_matrix(counts[order].astype(np.float32)),
        obs=obs.iloc[order],
        var=var,
        obsm={"spatial": xy[order]},
        uns={"spatial": {"X": {"images": {"hires": small}, "scalefactors": factors}}},
    )
    return Made(name, adata, picture, array)


def write_h5ad(folder: Path, made: Made, *, stated: bool = True) -> Path:
    """Write <name>.h5ad with um a pixel in it, if `stated`, and <name>.png beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if stated:
        made.adata.uns["hdstbench"] = {"mpp": made.array.mpp}
    path = folder / f"{made.name}.h5ad"
    made.adata.write_h5ad(path)
    Image.fromarray(made.picture).save(path.with_suffix(".png"))
    return path


def write_hest(folder: Path, slides: Sequence[Made], rows: Sequence[dict[str, str]]) -> Path:
    """Write a HEST-1k folder: st/, wsis/, metadata/ and the table, which begins with a BOM."""
    for name in ("st", "wsis", "metadata"):
        (folder / name).mkdir(parents=True)
    for made in slides:
        made.adata.write_h5ad(folder / "st" / f"{made.name}.h5ad")
        tiles = {"tile": (256, 256), "compression": "deflate", "photometric": "rgb"}
        tifffile.imwrite(folder / "wsis" / f"{made.name}.tif", made.picture, **tiles)
        height, width = made.picture.shape[:2]
        note = {
            "pixel_size_um_estimated": made.array.mpp,
            "pixel_size_um_embedded": 0.26458,
            "fullres_px_width": width,
            "fullres_px_height": height,
        }
        (folder / "metadata" / f"{made.name}.json").write_text(json.dumps(note))
    pd.DataFrame(rows).to_csv(folder / "HEST_v1_1_0.csv", index=False, encoding="utf-8-sig")
    return folder


def write_task(folder: Path, slides: Sequence[Made], folds: Sequence[tuple[list[str], list[str]]]) -> Path:
    """Write a HEST-Bench task; patches are fewer than spots, in another order, of 224 px at 0.5 um."""
    for name in ("splits", "patches", "adata"):
        (folder / name).mkdir(parents=True)
    for made in slides:
        made.adata.write_h5ad(folder / "adata" / f"{made.name}.h5ad")
        write_patches(folder / "patches" / f"{made.name}.h5", made)
    for number, sides in enumerate(folds):
        for side, names in zip(("train", "test"), sides, strict=True):
            files = {"patches_path": [f"patches/{n}.h5" for n in names]}
            table = {"sample_id": names, **files, "expr_path": [f"adata/{n}.h5ad" for n in names]}
            pd.DataFrame(table).to_csv(folder / "splits" / f"{side}_{number}.csv", index=False)
    (folder / "var_50genes.json").write_text(json.dumps({"genes": ["BRIGHT", "NOISE", "GENE1", "GENE2"]}))
    return folder


def write_patches(path: Path, made: Made, **change: Any) -> None:  # noqa: ANN401 - arrays of a file
    """Write the patches of all spots but three."""
    rows = stream("patches", made.name).permutation(made.adata.n_obs)[3:]
    side = 112.0 / made.array.mpp
    corners = (made.adata.obsm["spatial"][rows] - side // 2).astype(int)
    image = ArrayImage(made.picture)
    images = [read_region(image, *corner, side, 224) for corner in corners.astype(float).tolist()]
    names = made.adata.obs_names[rows].to_numpy().astype("S")[:, None]
    content = {"img": np.stack(images), "coords": corners, "barcode": names, **change}
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is not None:
                file[name] = values


def under_spots(sample: Sample) -> np.ndarray:
    """Grey levels of the pixels under the spots."""
    assert sample.image is not None
    image = open_image(sample.image)
    corners = np.floor(sample.xy_px).astype(int).tolist()
    return np.array([image.window(x, y, 1, 1)[0, 0, 0] for x, y in corners])


def bright(sample: Sample) -> np.ndarray:
    """Counts of the gene that is the grey level."""
    column = sample.counts.genes.symbols.index("BRIGHT")
    return take(sample.counts, np.arange(len(sample.counts))).toarray()[:, column]


def row(name: str, patient: str = "", title: str = "", **more: str) -> dict[str, str]:
    """A row of HEST's table."""
    known = {"dataset_title": title, "id": name, "organ": "Bowel", "species": "Homo sapiens"}
    return known | {"patient": patient, "st_technology": "Visium", "subseries": ""} | more


def imported(source: Path, out: Path) -> Dataset:
    """Import a folder, and load the card that is written."""
    return load_dataset(str(import_job.execute(str(source), str(out), NOTHING)))


def sample_of(dataset: Dataset, name: str) -> Sample:
    """Read one sample of a data set."""
    card = next(sample for sample in dataset.card.samples if sample.id == name)
    read = read_bench if dataset.card.reader == "hest-bench" else read_anndata
    return read(dataset, card, dataset.card.resolution(dataset.card.resolutions[0]))[0]


def slides(side: int = 4) -> list[Made]:
    """Three samples of one task."""
    return [make(name, Array(side=side, hexagonal=True, turn=0.1 * i)) for i, name in enumerate("ABC")]
