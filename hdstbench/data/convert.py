"""Turn a picture that cannot be read by region into a cropped, tiled pyramid with the true um a pixel."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdstbench import __version__
from hdstbench.arrays import FloatArray
from hdstbench.data.crop import note_of, read_crop
from hdstbench.data.image import RGB, TIFF
from hdstbench.data.layout import POSITIONS, SCALE, find_run, need, open_run
from hdstbench.data.levels import BASE_UM
from hdstbench.data.positions import read_positions, read_scale
from hdstbench.data.pyramid import Style, write_pyramid
from hdstbench.data.rows import Box, Rows, open_rows
from hdstbench.data.spaceranger import check_image, hires_of
from hdstbench.errors import DataError, MissingError

DISK_SHARE = 0.6
"""Of the raw picture: a third for levels that wait, the rest for the file (0.13 on simulated sections)."""
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Where the bins of a run lie, in pixels of the full-resolution image.

    Attributes:
        mpp: um a pixel.
        low: Left and top edge of the outermost bins, [2].
        high: Right and bottom edge.
        hires: Space Ranger's small picture of the same image, if it is there.
        hires_scale: Its pixels a full-resolution pixel.
    """

    mpp: float
    low: FloatArray
    high: FloatArray
    hires: Path | None
    hires_scale: float


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written."""

    box: Box
    levels: int


def read_capture(folder: Path) -> Capture:
    """Find the capture area of a Space Ranger run, from its coarsest bins.

    Raises:
        MissingError: If there are no bins.
        DataError: If their files are damaged.
    """
    run = find_run(folder)
    bins = run.bins or open_run(folder, BASE_UM).bins
    if not bins:
        msg = f"no square_* folder below {folder}; wanted Space Ranger Visium HD output"
        raise MissingError(msg)
    bin_um = max(bins)
    scale = read_scale(need(bins[bin_um] / SCALE), bin_um)
    xy = read_positions(need(bins[bin_um] / POSITIONS)).xy_px
    half = bin_um / scale.mpp / 2
    return Capture(
        mpp=scale.mpp,
        low=xy.min(axis=0) - half,
        high=xy.max(axis=0) + half,
        hires=hires_of(run, bins[bin_um]),
        hires_scale=scale.hires,
    )


def crop_box(capture: Capture, margin_um: float, image: Path, size: tuple[int, int]) -> Box:
    """The window of an image that holds a capture area and a margin, as far as it lies inside.

    Raises:
        DataError: If they do not overlap, or the image is not the one that Space Ranger got.
    """
    crop, margin = read_crop(image), margin_um / capture.mpp
    check_image(image, crop.source_size or size, capture.hires, capture.hires_scale)
    corner = crop.corner
    low = np.floor(np.maximum(capture.low - margin - corner, 0)).astype(int)
    high = np.ceil(np.minimum(capture.high + margin - corner, size)).astype(int)
    if (high <= low).any():
        msg = (
            f"{image} is {size[0]} x {size[1]} px, the capture area reaches from {_point(capture.low)} to "
            f"{_point(capture.high)}; give the image that Space Ranger got"
        )
        raise DataError(msg)
    (x, y), (width, height) = low.tolist(), (high - low).tolist()
    return Box(x, y, width, height)


def _point(xy: FloatArray) -> str:
    return f"({xy[0]:.0f}, {xy[1]:.0f})"


def convert(image: Path, output: Path, style: Style, box: Box | None, report: Report) -> Converted:
    """Write a window of a picture as a tiled pyramid, and a note of where it was cut out beside it.

    Rows are decoded one band after the other, so that memory does not grow with the picture's height.
    It is written aside and renamed when whole.

    Args:
        image: Any TIFF, stripped ones included, a JPEG or PNG, or what OpenSlide opens.
        output: New file.
        style: Pixel size and JPEG quality.
        box: What to keep; the whole picture if None.
        report: Told how many rows of how many are done.

    Raises:
        MissingError: If the picture is not there.
        DataError: If it cannot be read, if the output exists, or if the disk is too small.
    """
    check_output(output)
    rows = open_rows(image)
    window = box or Box(0, 0, *rows.size)
    note = json.dumps(_note(image, rows, window, style.mpp), indent=2) + "\n"
    part = output.with_name(f"{output.name}.part{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _check_disk(output, window)
        size = (window.width, window.height)
        levels = write_pyramid(part, rows.bands(window), size, style, lambda done: report(done, size[1]))
        note_of(part).write_text(note, encoding="utf-8")
        note_of(part).rename(note_of(output))  # first: without its note a crop is read at the wrong place
        part.rename(output)
    except OSError as error:
        reason = error.strerror or error
        msg = f"{output} could not be written ({reason}); nothing is kept; free space or go elsewhere"
        raise DataError(msg) from error
    finally:
        part.unlink(missing_ok=True)
        note_of(part).unlink(missing_ok=True)
    return Converted(window, levels)


def _note(image: Path, rows: Rows, box: Box, mpp: float) -> dict[str, object]:
    """What the readers need to shift positions; a crop of a crop refers to the first source."""
    before = read_crop(image)
    x, y = (round(step) for step in before.corner.tolist())
    return {
        "source": image.name,
        "source_size": list(before.source_size or rows.size),
        "crop": [x + box.x, y + box.y, box.width, box.height],
        "mpp": mpp,
        "written_by": f"hdstbench {__version__}",
    }


def check_output(output: Path) -> None:
    """Refuse a name that exists or that readers would not take for a TIFF.

    Raises:
        DataError: If it is unfit.
    """
    if output.suffix.lower() not in TIFF:
        msg = f"{output} has to end in one of {', '.join(TIFF)}"
        raise DataError(msg)
    for path in (output, note_of(output)):
        if path.exists():
            msg = f"{path} exists; choose another name, or remove it to convert again"
            raise DataError(msg)


def _check_disk(output: Path, box: Box) -> None:
    wanted = DISK_SHARE * box.width * box.height * RGB
    free = shutil.disk_usage(output.parent).free
    if free < wanted:
        msg = (
            f"{output.parent} has {free / 1e9:.1f} GB free, {output.name} may need {wanted / 1e9:.1f} GB "
            "while it is written; choose another disk"
        )
        raise DataError(msg)
