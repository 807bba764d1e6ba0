"""Convert what `hdstbench data convert` asks for."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from hdstbench.data.convert import (
    Report,
    check_output,
    convert,
    crop_box,
    read_capture,
)
from hdstbench.data.crop import note_of
from hdstbench.data.pyramid import Style
from hdstbench.data.rows import Box, open_rows
from hdstbench.errors import DataError

Echo = Callable[[str], object]
STEPS = 10


def execute(image: str, output: str, given: Mapping[str, object], echo: Echo) -> None:
    """Convert one picture and say what is done.

    Raises:
        HdstError: If the picture or the run cannot be read, or an option is missing or out of range.
    """
    source, target, quality = Path(image), Path(output), cast("int", given["quality"])
    check_output(target)
    mpp, box = _window(source, given)
    style = Style(mpp, quality)
    if box is None:
        echo(f"{source}: the whole picture, at {mpp:.4f} um a pixel")
    else:
        echo(
            f"{source}: {box.width} x {box.height} px at ({box.x}, {box.y}), the capture area and its "
            f"margin, at {mpp:.4f} um a pixel"
        )
    done = convert(source, target, style, box, _steps(echo))
    echo(f"image: {target} ({target.stat().st_size / 1e6:.1f} MB, {done.levels} levels)")
    echo(f"note:  {note_of(target)} says where it was cut out; keep it beside the image")


def _window(image: Path, given: Mapping[str, object]) -> tuple[float, Box | None]:
    """Pixel size and what to keep, from a run or from --mpp."""
    folder, mpp = given["run_folder"], cast("float | None", given["mpp"])
    margin = cast("float", given["margin_um"])
    if not 0 <= margin < math.inf:
        msg = f"--margin-um {margin:g}, wanted 0 or more"
        raise DataError(msg)
    if folder is None and mpp is None:
        msg = (
            "give --run with the Space Ranger folder, or --mpp with the um a pixel: the resolution tag of "
            "a Visium HD image is a placeholder"
        )
        raise DataError(msg)
    if folder is None:
        return cast("float", mpp), None
    if mpp is not None:
        msg = "--run brings the um a pixel; leave --mpp out"
        raise DataError(msg)
    capture = read_capture(Path(str(folder)))
    return capture.mpp, crop_box(capture, margin, image, open_rows(image).size)


def _steps(echo: Echo) -> Report:
    """Say something every tenth of the way."""
    said = 0

    def report(done: int, rows: int) -> None:
        nonlocal said
        step = done * STEPS // rows
        if step > said and step < STEPS:
            echo(f"  {100 * step // STEPS} %")
        said = step

    return report
