"""Read an .h5ad and its full-resolution image as a Sample of native spots.

um a pixel comes from the first of these that is there, and has to agree with the card's `pitch_um` within
5 %: `uns["hdstbench"]["mpp"]`; Space Ranger's `microns_per_pixel`; `pixel_size_um_estimated` of HEST's
`metadata/<id>.json`, if the file lies in a folder `st/`; and last the card's `pitch_um` itself, divided by
the median distance of neighbouring spots in pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.card import Dataset, SampleCard
from hdstbench.data.counts import MemoryCounts, picks_rows
from hdstbench.data.crop import note_of, read_crop
from hdstbench.data.geometry import Affine, fit_affine
from hdstbench.data.h5ad import (
    in_tissue,
    library,
    open_h5ad,
    pitch_px,
    positions,
    raw_counts,
    stated_mpp,
)
from hdstbench.data.hest import metadata_of, pixel_size, stated_size
from hdstbench.data.image import open_image
from hdstbench.data.levels import Resolution
from hdstbench.data.sample import Sample
from hdstbench.errors import DataError, MissingError

if TYPE_CHECKING:
    from anndata import AnnData

SLACK = 0.05
"""By which um a pixel and the pitch of spots may disagree."""
SIZE_SLACK, THUMBNAIL_SLACK_PX = 0.01, 2
"""By which an image's size may differ from a stated one, and that of the small one from what it should be."""
MAX_RESIDUAL = 1.5
"""How many pitches a spot may lie off its place in the array; scrambled names miss by far more."""


def input_files(dataset: Dataset, card: SampleCard, res: Resolution) -> list[Path]:
    """The .h5ad, the image, and the notes beside them that are there.

    Raises:
        MissingError: If the .h5ad or the image is not.
    """
    path, image = dataset.root / card.path, dataset.root / card.image
    for file, what in ((path, "an .h5ad"), (image, "the full-resolution H&E of that .h5ad")):
        if not file.is_file():
            msg = f"{file} is not there; wanted {what}"
            raise MissingError(msg)
    notes = (metadata_of(path), note_of(image))
    return [path, image, *(note for note in notes if note and note.is_file())]


def read(dataset: Dataset, card: SampleCard, res: Resolution) -> tuple[Sample, Sample]:
    """Read the spots in tissue of one slide, which are the units of the task and its base alike.

    Array rows and columns are those of obs where they are whole numbers, else multiples of the pitch.

    Raises:
        MissingError: If a file is not there.
        DataError: If the file or the image is not what it has to be; says which and why.
    """
    files = input_files(dataset, card, res)
    path, image = files[:2]
    adata = open_h5ad(path)
    rows = np.flatnonzero(in_tissue(adata))
    xy = positions(adata, path)[rows]
    pitch = pitch_px(xy, path)
    mpp = choose_mpp(said_mpp(adata, path), pitch, dataset.card.pitch_um, path)
    crop = read_crop(image)
    _check_image(image, crop.source_size, adata, path)
    array = place(adata.obs.iloc[rows], xy, pitch, path)
    move = np.array(card.shift_um or (0.0, 0.0)) / mpp - crop.corner
    sample = Sample(
        id=card.id,
        unit_um=dataset.card.pitch_um,
        mpp=mpp,
        grid=array.grid,
        xy_px=xy + move,
        to_px=array.to_px.moved(move),
        grid_shape=array.shape,
        counts=chosen(raw_counts(adata, path), rows),
        image=image,
        sources=tuple(files),
    )
    return sample, sample


def said_mpp(adata: "AnnData", path: Path) -> tuple[float, str] | None:
    """Find um a pixel as a file or HEST's note beside it states it, and where; None if neither does.

    Raises:
        DataError: If it is no number above 0.
    """
    return stated_mpp(adata, path) or pixel_size(path)


def choose_mpp(said: tuple[float, str] | None, pitch_px: float, pitch_um: float, path: Path) -> float:
    """Choose um a pixel: what is stated, or else what the pitch of spots gives.

    Raises:
        DataError: If the two contradict each other.
    """
    if said is None:
        return pitch_um / pitch_px
    mpp, source = said
    found = mpp * pitch_px
    if abs(found / pitch_um - 1) > SLACK:
        msg = (
            f"{path}: {source} says {mpp:.4f} um a pixel, by which neighbouring spots lie {found:.1f} um "
            f"apart, but the card says pitch_um = {pitch_um:g}; mend the one that is wrong"
        )
        raise DataError(msg)
    return mpp


def chosen(counts: MemoryCounts, rows: IntArray) -> MemoryCounts:
    """The counts of some spots, in the order given."""
    return MemoryCounts(counts.sums(picks_rows(rows, len(counts)))[0], counts.genes)


@dataclass(frozen=True, slots=True)
class Array:
    """Where spots lie in their array, int64 [N, 2], and the map from (column, row) to pixels."""

    grid: IntArray
    to_px: Affine

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = (self.grid.max(axis=0) + 1).tolist()
        return rows, columns


def place(obs: pd.DataFrame, xy: FloatArray, pitch: float, path: Path) -> Array:
    """Find each spot's place in its array.

    `array_row` and `array_col` count if they are whole numbers and no two spots share them. Without them
    a place is the nearest multiple of the pitch from the top left corner of the spots; where two spots would
    share that, as on a hexagonal array, it is the rank of their coordinates.

    Args:
        obs: A row a spot.
        xy: Their centres in pixels, [N, 2].
        pitch: Distance of neighbours in pixels.
        path: For messages.

    Raises:
        DataError: If positions do not lie on the stated array.
    """
    stated = _stated_grid(obs)
    if stated is None:
        grid = np.round((xy - xy.min(axis=0)) / pitch).astype(np.int64)[:, ::-1]
        if _repeats(grid):
            grid = np.stack([np.unique(xy[:, axis], return_inverse=True)[1] for axis in (1, 0)], axis=1)
        return Array(grid, fit_affine(grid[:, ::-1], xy)[0])
    to_px, residual = fit_affine(stated[:, ::-1], xy)
    if residual > MAX_RESIDUAL * pitch:
        msg = (
            f"{path}: obsm['spatial'] lies up to {residual / pitch:.0f} spots off the array of array_row and "
            "array_col; the rows of the two were mixed up"
        )
        raise DataError(msg)
    return Array(stated, to_px)


def _stated_grid(obs: pd.DataFrame) -> IntArray | None:
    if "array_row" not in obs or "array_col" not in obs:
        return None
    columns = [pd.to_numeric(obs[name], errors="coerce") for name in ("array_row", "array_col")]
    values = np.stack([column.to_numpy(np.float64) for column in columns], axis=1)
    if not np.isfinite(values).all() or (values % 1 != 0).any() or (values < 0).any():
        return None
    grid = values.astype(np.int64)
    flat = any(len(np.unique(grid[:, axis])) == 1 for axis in (0, 1))
    return None if flat or _repeats(grid) else grid


def _repeats(grid: IntArray) -> bool:
    return len(np.unique(grid, axis=0)) < len(grid)


def _check_image(image: Path, source_size: tuple[int, int] | None, adata: "AnnData", path: Path) -> None:
    """The image, or what it was cropped from, has to have the size that the file states, if it does."""
    found = source_size or open_image(image).size
    stated = stated_size(path)
    wanted, slack = (stated, SIZE_SLACK * min(stated)) if stated else _thumbnail_size(adata, path)
    if not slack or _fits(found, wanted, slack):
        return
    hint = (
        "it is rotated: give the image as the positions know it"
        if _fits(found[::-1], wanted, slack)
        else "give the full-resolution H&E of this slide"
    )
    size = f"{wanted[0]:.0f} x {wanted[1]:.0f}"
    msg = f"{image} is {found[0]} x {found[1]} px, the positions in {path} belong to one of {size} px; {hint}"
    raise DataError(msg)


def _thumbnail_size(adata: "AnnData", path: Path) -> tuple[tuple[float, float], float]:
    """Size of the full image by the small one that the file holds, and by what it may be off; 0 if none."""
    entry = library(adata, path)
    for name, picture in entry.get("images", {}).items():
        scale = entry.get("scalefactors", {}).get(f"tissue_{name}_scalef")
        if scale and np.ndim(picture) > 1 and np.size(picture):
            height, width = np.shape(picture)[:2]
            return (float(width / scale), float(height / scale)), float(THUMBNAIL_SLACK_PX / scale)
    return (0.0, 0.0), 0.0


def _fits(found: tuple[int, ...], wanted: tuple[float, float], slack: float) -> bool:
    return all(abs(f - w) <= slack for f, w in zip(found, wanted, strict=True))
