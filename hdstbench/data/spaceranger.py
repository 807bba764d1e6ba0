"""Read Space Ranger Visium HD output (3.0 to 4.x), one bin size at a time.

Formats and traps: 10x documentation and the public files; see docs/data.md.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.counts import Counts, GroupedCounts
from hdstbench.data.crop import Crop, read_crop
from hdstbench.data.geometry import Affine
from hdstbench.data.image import open_image
from hdstbench.data.layout import (
    HIRES,
    MATRIX,
    POSITIONS,
    SCALE,
    Run,
    input_files,
    need,
    need_raw,
    open_run,
)
from hdstbench.data.positions import Positions, fit, join, read_positions, read_scale
from hdstbench.data.sample import Sample
from hdstbench.data.tenx import read_genes, read_matrix
from hdstbench.errors import DataError, MissingError

HIRES_SLACK_PX = 2

__all__ = ["check_image", "hires_of", "input_files", "need_image", "read_spaceranger"]


def need_image(path: Path) -> Path:
    """Check that the full-resolution image is there.

    Raises:
        MissingError: If it is not.
    """
    if not path.is_file():
        msg = f"{path} is not there; wanted the full-resolution H&E (it is no part of Space Ranger's outs/)"
        raise MissingError(msg)
    return path


def read_spaceranger(
    path: Path, bin_um: int, image: Path | None, name: str, *, shift_um: tuple[float, ...] = ()
) -> Sample:
    """Read the in-tissue bins of one size.

    Bins that Space Ranger did not write are summed from the coarsest of its bins that divides them.

    Args:
        path: `outs/`, its parent, `binned_outputs/`, one `square_*` folder, or an archive of them; or
            a folder with such archives.
        bin_um: Side of a bin in um.
        image: The full-resolution H&E that Space Ranger was given; None to look at the bins alone.
        name: Name of the slide.
        shift_um: (dx, dy) that is added to every position, in the image frame.

    Raises:
        MissingError: If a file is not there.
        DataError: If files contradict each other, or the image is not the one of the positions.
    """
    run = open_run(path, bin_um)
    source_um = run.source_um(bin_um)
    folder = run.bins[source_um]
    table, factors = need(folder / POSITIONS), need(folder / SCALE)
    positions, scale = read_positions(table), read_scale(factors, source_um)
    affine = fit(positions, scale.mpp, source_um)
    crop = Crop()
    if image is not None:
        crop = read_crop(need_image(image))
        check_image(image, crop.source_size or open_image(image).size, hires_of(run, folder), scale.hires)
    if source_um == bin_um:
        bins = _own(positions, folder, affine, bin_um)
    else:
        bins = _coarser(positions, folder, affine, source_um, bin_um // source_um)
    move = np.array(shift_um or (0.0, 0.0)) / scale.mpp - crop.corner
    return Sample(
        id=name,
        unit_um=float(bin_um),
        mpp=scale.mpp,
        grid=bins.grid,
        xy_px=bins.xy_px + move,
        to_px=bins.to_px.moved(move),
        grid_shape=bins.shape,
        counts=bins.counts,
        image=image,
        sources=(*input_files(path, bin_um), *([image] if image else [])),
    )


@dataclass(frozen=True, slots=True)
class _Bins:
    grid: IntArray
    xy_px: FloatArray
    counts: Counts
    to_px: Affine
    shape: tuple[int, int]


def _own(positions: Positions, folder: Path, affine: Affine, bin_um: int) -> _Bins:
    """The bins of the filtered matrix, which are those in tissue."""
    counts = read_matrix(need(folder / MATRIX))
    rows = join(counts.barcodes, positions, counts.path, bin_um)
    return _Bins(
        positions.grid[rows].astype(np.int64), positions.xy_px[rows], counts, affine, positions.shape
    )


def _coarser(positions: Positions, folder: Path, affine: Affine, source_um: int, scale: int) -> _Bins:
    """Sum `scale` x `scale` bins into one, which is in tissue if any of them is.

    At the edge of the tissue some of them are not, so the raw matrix is summed, over the genes of the
    filtered one.
    """
    genes = read_genes(need(folder / MATRIX))
    counts = read_matrix(need_raw(folder, source_um * scale), genes)
    rows = join(counts.barcodes, positions, counts.path, source_um)
    columns = -(-positions.shape[1] // scale)
    parent = positions.grid // scale @ np.array([columns, 1])
    tissue = np.unique(parent[positions.in_tissue])
    group = np.searchsorted(tissue, parent[rows])
    group[(group == len(tissue)) | (tissue[np.minimum(group, len(tissue) - 1)] != parent[rows])] = -1
    grid = np.stack(np.divmod(tissue, columns), axis=1)
    middle = (scale - 1) / 2  # the centre of a coarse bin, counted in fine ones
    a, t = affine.matrix[:, :2], affine.matrix[:, 2]
    to_px = Affine(np.column_stack([a * scale, a @ [middle, middle] + t]))
    xy = _centres(positions, grid, scale, to_px)
    shape = (-(-positions.shape[0] // scale), columns)
    return _Bins(grid, xy, GroupedCounts(counts, group, len(grid)), to_px, shape)


def _centres(positions: Positions, grid: IntArray, scale: int, to_px: Affine) -> FloatArray:
    """Mean position of the one or four fine bins in the middle; of cut edge bins what the map says."""
    place = positions.place()
    xy = to_px(grid[:, ::-1].astype(np.float64))
    first = grid * scale + (scale - 1) // 2
    step = 0 if scale % 2 else 1
    corners = [first + np.array([i, j]) * step for i in (0, 1) for j in (0, 1)]
    inside = (corners[-1] < place.shape).all(axis=1)
    found = np.stack([place[corner[inside, 0], corner[inside, 1]] for corner in corners])
    whole = (found >= 0).all(axis=0)
    rows = np.flatnonzero(inside)[whole]
    xy[rows] = positions.xy_px[found[:, whole]].mean(axis=0)
    return np.asarray(xy)


def hires_of(run: Run, folder: Path) -> Path | None:
    """Find the small picture: archives hold it in one bin folder and hard links to it in the others."""
    places = [folder, *run.bins.values(), folder.parent.parent, run.path, run.path / "outs"]
    paths = (place / HIRES for place in places)
    return next((path for path in paths if path.is_file()), None)


def check_image(image: Path, size: tuple[int, int], hires: Path | None, hires_scale: float) -> None:
    """Check that an image is the one that hires was made from; nothing can be said without hires.

    Args:
        image: Named in errors.
        size: Width and height of the image, or of what it was cut from.
        hires: Space Ranger's small picture, if there is one.
        hires_scale: Its pixels a full-resolution pixel.

    Raises:
        DataError: If the sizes do not fit.
    """
    if hires is None:
        return
    try:
        with Image.open(hires) as small:
            wanted = small.size
    except (OSError, ValueError) as error:
        msg = f"{hires} is not a whole PNG; fetch it again"
        raise DataError(msg) from error
    found = (size[0] * hires_scale, size[1] * hires_scale)
    if all(abs(f - w) <= HIRES_SLACK_PX for f, w in zip(found, wanted, strict=True)):
        return
    turned = all(abs(f - w) <= HIRES_SLACK_PX for f, w in zip(found[::-1], wanted, strict=True))
    hint = (
        "it is rotated: give the image as Space Ranger got it"
        if turned
        else "give the full-resolution H&E that Space Ranger got, not hires or CytAssist"
    )
    full = " x ".join(f"{w / hires_scale:.0f}" for w in wanted)
    msg = f"{image} is {size[0]} x {size[1]} px, the positions belong to one of {full} px; {hint}"
    raise DataError(msg)
