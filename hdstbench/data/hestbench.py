"""Read one sample of a HEST-Bench task as a Sample whose units come with their own patches.

`patches/<id>.h5` holds a patch of 0.5 um a pixel around each spot that shows tissue, `adata/<id>.h5ad` the
counts of all spots; they are joined by barcode. The card's `path` is the .h5ad and its `image` the patches.
Genes are named by `var_names`, as the task's own list of genes names them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd

from hdstbench.arrays import FloatArray, IntArray, Pixels
from hdstbench.data.adata import choose_mpp, chosen, place
from hdstbench.data.card import Dataset, SampleCard
from hdstbench.data.h5ad import in_tissue, open_h5ad, pitch_px, positions, raw_counts
from hdstbench.data.levels import Resolution
from hdstbench.data.sample import Sample
from hdstbench.errors import DataError, MissingError

if TYPE_CHECKING:
    from anndata import AnnData

MPP = 0.5
"""Of every patch."""
CORNER_SLACK = 2.0
"""Pixels by which a patch's corner may be rounded off half its side."""
IMAGES, CORNERS, BARCODES = ("img", "imgs"), ("coords",), ("barcode", "barcodes")


def input_files(dataset: Dataset, card: SampleCard, res: Resolution) -> list[Path]:
    """The .h5ad and the patches of a sample.

    Raises:
        MissingError: If one is not there.
    """
    files = [dataset.root / card.path, dataset.root / card.image]
    for path in files:
        if not path.is_file():
            msg = f"{path} is not there; wanted adata/<id>.h5ad and patches/<id>.h5 of a HEST-Bench task"
            raise MissingError(msg)
    return files


def read(dataset: Dataset, card: SampleCard, res: Resolution) -> tuple[Sample, Sample]:
    """Read the spots in tissue that have a patch, in the order of the patches.

    The um of a level-0 pixel follows from half a patch: what lies between its corner and its spot.

    Raises:
        MissingError: If a file is not there.
        DataError: If a file is damaged, or the two do not belong together.
    """
    path, patches_path = input_files(dataset, card, res)
    if card.shift_um:
        msg = f"{card.id}: shift_um cannot move patches that were cut already; leave it out of the card"
        raise DataError(msg)
    adata, patches = open_h5ad(path), read_patches(patches_path)
    rows = join(adata, patches, path)
    keep = in_tissue(adata)[rows]
    rows, corners = rows[keep], patches.corners[keep]
    mpp0, xy = level0(adata, rows, corners, patches.side, path)
    pitch = pitch_px(xy, path)
    if mpp0 is None:
        mpp0 = dataset.card.pitch_um / pitch
        xy = corners + patches.side * MPP / mpp0 / 2
    choose_mpp((mpp0, f"the size of patches in {patches_path.name}"), pitch, dataset.card.pitch_um, path)
    scaled = xy * mpp0 / MPP
    array = place(adata.obs.iloc[rows], scaled, pitch * mpp0 / MPP, path)
    sample = Sample(
        id=card.id,
        unit_um=dataset.card.pitch_um,
        mpp=MPP,
        grid=array.grid,
        xy_px=scaled,
        to_px=array.to_px,
        grid_shape=array.shape,
        counts=chosen(raw_counts(adata, path, by_name=True), rows),
        image=None,
        sources=(path, patches_path),
        patches=read_pixels(patches, np.flatnonzero(keep)),
    )
    return sample, sample


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of one file, N of them, their pixels still on the disk.

    Attributes:
        corners: Top left corner in pixels of level 0, [N, 2].
        side: Pixels of a patch.
    """

    path: Path
    barcodes: list[str]
    corners: FloatArray
    side: int


def read_patches(path: Path) -> Patches:
    """Read everything but the pixels.

    Raises:
        DataError: If the file is damaged or lacks something.
    """
    try:
        with h5py.File(path) as file:
            shape, kind = file[_key(file, IMAGES)].shape, file[_key(file, IMAGES)].dtype
            corners = np.asarray(file[_key(file, CORNERS)][()], np.float64)
            names = np.asarray(file[_key(file, BARCODES)].asstr()[()]).ravel().tolist()
    except (OSError, KeyError, ValueError, TypeError) as error:
        msg = f"{path} is not a whole file of patches ({error}); wanted img, coords and barcode; get it again"
        raise DataError(msg) from error
    side = shape[1] if len(shape) == 4 else 0  # noqa: PLR2004 - patches, rows, columns, colours
    if shape != (len(names), side, side, 3) or kind != np.uint8 or not side:
        msg = f"{path}: img is {kind} {shape} for {len(names)} barcodes; wanted uint8 (N, side, side, 3)"
        raise DataError(msg)
    if corners.shape != (len(names), 2):
        msg = f"{path}: coords is {corners.shape} for {len(names)} barcodes; wanted (N, 2)"
        raise DataError(msg)
    return Patches(path, names, corners, side)


def _key(file: "h5py.File", names: tuple[str, ...]) -> str:
    for name in names:
        if name in file:
            return name
    msg = f"no {names[0]} among {', '.join(file)}"
    raise KeyError(msg)


def read_pixels(patches: Patches, rows: IntArray) -> Pixels:
    """The pixels of some patches in rising order, uint8 [len(rows), side, side, 3].

    Raises:
        DataError: If they cannot be decoded.
    """
    try:
        with h5py.File(patches.path) as file:
            images = np.asarray(file[_key(file, IMAGES)][()])
    except (OSError, ValueError) as error:
        msg = f"{patches.path}: patches cannot be decoded ({error}); get it again"
        raise DataError(msg) from error
    return images if len(rows) == len(images) else images[rows]


def join(adata: "AnnData", patches: Patches, path: Path) -> IntArray:
    """The row of each patch's barcode among the spots.

    Raises:
        DataError: If barcodes repeat, or one of a patch is no spot's.
    """
    for names, where in ((adata.obs_names, path), (pd.Index(patches.barcodes), patches.path)):
        if names.has_duplicates:
            again = names[names.duplicated()][0]
            msg = f"{where} repeats the barcode {again}; patches and counts cannot be joined by it"
            raise DataError(msg)
    rows = adata.obs_names.get_indexer(patches.barcodes)
    lost = np.flatnonzero(rows < 0)
    if len(lost):
        msg = (
            f"{patches.path}: {len(lost)} of {len(rows)} barcodes, such as {patches.barcodes[lost[0]]}, are "
            f"not in {path}, which has {adata.obs_names[0]} and the like; the two are of different samples"
        )
        raise DataError(msg)
    return np.asarray(rows, np.int64)


def level0(
    adata: "AnnData", rows: IntArray, corners: FloatArray, side: int, path: Path
) -> tuple[float | None, FloatArray]:
    """Um a pixel of level 0 and the centres of spots there; without obsm["spatial"] corners and no size.

    Args:
        adata: The counts.
        rows: Row of each patch.
        corners: Top left corner of each patch, [N, 2].
        side: Pixels of a patch at 0.5 um a pixel.
        path: For messages.

    Raises:
        DataError: If patches do not lie around the spots of their barcodes.
    """
    if "spatial" not in adata.obsm:
        return None, corners
    xy = positions(adata, path)[rows]
    gap = xy - corners
    half = float(np.median(gap)) if len(gap) else 0.0
    off = float(np.abs(gap - half).max(initial=0.0))
    if half <= 0 or off > CORNER_SLACK:
        msg = (
            f"{path}: spots lie up to {off:.0f} px off the middle of their patches; barcodes or coords were "
            "mixed up, or the patches were cut from another image"
        )
        raise DataError(msg)
    return side * MPP / (2 * half), xy
