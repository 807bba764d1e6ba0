"""Maps of one slide: its section, and of each gene what was measured and what each model predicts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hdstbench.arrays import BoolArray, Pixels
from hdstbench.data.image import WHITE
from hdstbench.data.prepared import load_arrays
from hdstbench.report.figures import Extent, limits_of, section
from hdstbench.report.html.content import Json, numbers
from hdstbench.report.html.raster import Frame, frame_of, write_error, write_map
from hdstbench.report.mapped import MappedSlide

SECTION_PX, WINDOW_PX, QUALITY = 900, 480, 65
EMPTY = 0.2
"""Share of white pixels above which the edge of a window's picture is cut."""


def write_slide(
    out: Path, place: str, shown: MappedSlide, genes: Sequence[str], models: Sequence[str]
) -> Json:
    """Write all pictures of a slide.

    Args:
        out: Folder of the report.
        place: Folder of the slide's pictures, relative to it.
        shown: The slide.
        genes: Ids that are wanted; those that its panel lacks are left out.
        models: All models of the table, whose numbers name their files.

    Returns:
        What the page has to know of it.
    """
    slide, folder = shown.slide, out / place
    frame = frame_of(slide)
    folder.mkdir(parents=True)
    extent = _write_section(folder / "section.jpg", shown, None, SECTION_PX)
    windows = [
        {"name": f"dense window {i + 1}", "section": f"{place}/window{i}.jpg", "extent": _place(found)}
        for i, found in enumerate(_write_windows(folder, shown))
    ]
    corners = np.concatenate([frame.corners(), np.reshape(_place(extent), (2, 2))])
    return {
        "slide": slide.id,
        "patient": slide.patient,
        "folder": place,
        "section": f"{place}/section.jpg",
        "section_extent": _place(extent),
        "map_size": [*frame.cell.shape[::-1]],
        "map_matrix": list(frame.matrix),
        "frame": numbers([*corners.min(axis=0), *corners.max(axis=0)]),
        "pixel": ""
        if frame.across == 1
        else f"; a pixel is the mean of {frame.across} x {frame.across} units",
        "windows": windows,
        "genes": {
            gene: _write_gene(folder, frame, shown, gene, models) for gene in genes if gene in slide.genes
        },
    }


def _place(extent: Extent) -> list[float]:
    """Left, top, right and bottom."""
    left, right, bottom, top = extent
    return [round(side, 2) for side in (left, top, right, bottom)]


def _write_windows(folder: Path, shown: MappedSlide) -> list[Extent]:
    """Write the section of each dense window at a higher resolution."""
    window = load_arrays(shown.folder / "pixels" / "unit.npz")["window"]
    return [
        _write_section(folder / f"window{i}.jpg", shown, window == number, WINDOW_PX)
        for i, number in enumerate(np.unique(window[window >= 0]))
    ]


def _write_section(path: Path, shown: MappedSlide, part: BoolArray | None, longest: int) -> Extent:
    """Write the H&E of some units' blocks, or of all."""
    slide = shown.slide
    units = np.arange(len(slide)) if part is None else np.flatnonzero(part)
    side = float(np.ptp(slide.xy_um[units], axis=0).max()) + slide.patch_px["unit"] * slide.mpp
    reduce = max(1, int(side / slide.mpp / longest))
    pixels, extent = section(shown.folder, np.unique(slide.block_of[units]), reduce)
    if part is not None:
        pixels, extent = _trimmed(pixels, extent)
    Image.fromarray(pixels).save(path, quality=QUALITY, optimize=True)
    return extent


def _trimmed(pixels: Pixels, extent: Extent) -> tuple[Pixels, Extent]:
    """Cut edges at which there are no blocks: they would hide the whole slide's picture below."""
    empty = (pixels == WHITE).all(axis=2)
    step = (extent[1] - extent[0]) / pixels.shape[1]
    rows, cols = (np.flatnonzero(empty.mean(axis=axis) < EMPTY) for axis in (1, 0))
    if not len(rows) or not len(cols):
        return pixels, extent
    (top, bottom), (left, right) = (rows[0], rows[-1] + 1), (cols[0], cols[-1] + 1)
    place = (
        extent[0] + left * step,
        extent[0] + right * step,
        extent[3] + bottom * step,
        extent[3] + top * step,
    )
    return pixels[top:bottom, left:right], place


def _write_gene(folder: Path, frame: Frame, shown: MappedSlide, gene: str, models: Sequence[str]) -> Json:
    column = shown.slide.genes.index(gene)
    measured = shown.slide.need_labels().target()[:, column]
    low, top = limits_of(measured)
    reach = top - low
    name = f"g{column}"
    write_map(folder / f"{name}-t.png", frame, measured, low, top)
    for i, model in enumerate(models):
        if model in shown.predictions:
            values = shown.predictions[model][:, column]
            write_map(folder / f"{name}-m{i}.png", frame, values, low, top)
            write_error(folder / f"{name}-m{i}e.png", frame, values - measured, reach)
    known = shown.scores[shown.scores["gene"] == gene].set_index("model")
    scores = {
        model: numbers(known.loc[model, ["pcc", "mse"]].to_numpy(float))
        if model in known.index
        else [None, None]
        for model in models
        if model in shown.predictions
    }
    return {"file": name, "low": low, "top": top, "reach": reach, "scores": scores}
