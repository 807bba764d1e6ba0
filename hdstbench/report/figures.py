"""Maps of genes on one slide: the section, what was measured, what each model predicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from hdstbench.arrays import FloatArray, IntArray, Pixels
from hdstbench.data.prepared import load_arrays, load_blocks, load_manifest
from hdstbench.protocol.slide import Slide

REDUCE, REDUCE_WINDOW, MOST_PIXELS = 6, 2, 1500
Extent = tuple[float, float, float, float]
"""Left, right, bottom, top in um."""


@dataclass(frozen=True, slots=True)
class Maps:
    """What a row of maps shows: its label, and values of one gene, [N] each, what was measured first."""

    label: str
    values: Mapping[str, FloatArray]


def draw_maps(path: Path, folder: Path, slide: Slide, maps: Mapping[str, FloatArray], title: str) -> None:
    """Draw a row of maps and save it as PNG.

    All maps share one colour scale, whose top is the 98th percentile of what was measured.

    Args:
        path: Where to.
        folder: Prepared folder of the slide.
        slide: Its scored units.
        maps: What was measured first, then by model what was predicted, [N] of one gene each.
        title: Stands over the row.
    """
    _draw(path, slide, [Maps("", maps)], section(folder), title)


def draw_window(path: Path, folder: Path, slide: Slide, rows: Sequence[Maps], title: str) -> None:
    """Draw a row of maps for each gene on a small part of a slide, and save them as PNG.

    Maps of a gene share one colour scale, whose top is the 98th percentile of what was measured, or the
    largest value where that is 0.

    Args:
        path: Where to.
        folder: Prepared folder of the slide.
        slide: The units of the part.
        rows: A gene each.
        title: Stands over all.
    """
    side = float(np.ptp(slide.xy_um, axis=0).max()) / slide.mpp
    reduce = max(REDUCE_WINDOW, int(side / MOST_PIXELS))
    _draw(path, slide, rows, section(folder, np.unique(slide.block_of), reduce), title)


def _draw(path: Path, slide: Slide, rows: Sequence[Maps], image: tuple[Pixels, Extent], title: str) -> None:
    wide, high = len(rows[0].values) + 1, len(rows)
    figure = Figure(figsize=(3.1 * wide + 0.6, 3.1 * high + 0.5), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False)
    for axis, maps in zip(axes, rows, strict=True):
        colours = _draw_row(axis, slide, maps, image)
        figure.colorbar(colours, ax=list(axis), shrink=0.75, label=slide.target.name)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def limits_of(measured: FloatArray) -> tuple[float, float]:
    """Ends of a colour scale; it begins at 0 unless the target has values below."""
    low = min(float(measured.min()), 0.0)
    top = float(np.percentile(measured, 98)) or float(measured.max())
    return low, top if top > low else low + 1.0


def _draw_row(axes: Sequence[Axes], slide: Slide, maps: Maps, image: tuple[Pixels, Extent]) -> ScalarMappable:
    """Draw the section and the maps of one gene."""
    picture, extent = image
    first, measured = next(iter(maps.values.items()))
    axes[0].imshow(picture, extent=extent)
    axes[0].set_title("H&E", fontsize=10)
    colours = ScalarMappable(Normalize(*limits_of(measured)), "viridis")
    size = slide.unit_um if len(slide.blocks()) < len(slide) else 0.6 * slide.unit_um
    for axis, (name, values) in zip(axes[1:], maps.values.items(), strict=True):
        squares = colours.to_rgba(raster(slide, values, size, extent))
        axis.imshow(squares, extent=extent, interpolation="nearest")
        varies = np.ptp(values) > 0 and np.ptp(measured) > 0
        r = np.corrcoef(values, measured)[0, 1] if varies else 0.0
        shown = f"{maps.label} {name}".strip()
        axis.set_title(shown if name == first else f"{name}  r = {r:.2f}", fontsize=10)
    for axis in axes:
        axis.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        axis.axis("off")
    return colours


def section(folder: Path, only: IntArray | None = None, reduce: int = REDUCE) -> tuple[Pixels, Extent]:
    """Join the block images of a prepared slide into one small picture.

    Args:
        folder: Prepared folder of the slide.
        only: Blocks that are wanted; all by default.
        reduce: Pixels of a block image along the side of one of the picture.

    Returns:
        uint8 [H, W, 3], and its place as left, right, bottom, top in um.
    """
    unit, blocks = load_arrays(folder / "pixels" / "unit.npz"), load_blocks(folder)
    manifest = load_manifest(folder)
    numbers, first = np.unique(unit["block"], return_index=True)
    wanted = np.ones(len(numbers), bool) if only is None else np.isin(numbers, only)
    numbers, first = numbers[wanted], first[wanted]
    half = manifest.patch_px["unit"] / 2
    corner = unit["xy_um"][first] - (unit["offset"][first] + half) * manifest.mpp
    step = manifest.mpp * reduce
    place = np.round((corner - corner.min(axis=0)) / step).astype(int)
    small = max(1, blocks.shape[1] // reduce)
    width, height = place.max(axis=0) + small
    out = np.full((height, width, 3), 255, np.uint8)
    for number, (x, y) in zip(numbers, place, strict=True):
        image = Image.fromarray(np.asarray(blocks[number])).resize((small, small), Image.Resampling.BOX)
        out[y : y + small, x : x + small] = np.asarray(image)
    left, top = corner.min(axis=0)
    return out, (float(left), float(left + width * step), float(top + height * step), float(top))


def raster(slide: Slide, values: FloatArray, size_um: float, extent: Extent) -> FloatArray:
    """Paint each unit as a square of its size; NaN elsewhere, [H, W]."""
    left, right, bottom, top = extent
    step = max(size_um / 4, (right - left) / 1200)
    out = np.full((int((bottom - top) / step) + 2, int((right - left) / step) + 2), np.nan)
    for (x, y), value in zip(slide.xy_um, values, strict=True):
        col, row = (x - size_um / 2 - left) / step, (y - size_um / 2 - top) / step
        wide = max(1, round(size_um / step))
        rows, cols = (
            slice(max(0, round(row)), round(row) + wide),
            slice(max(0, round(col)), round(col) + wide),
        )
        out[rows, cols] = value
    return out
