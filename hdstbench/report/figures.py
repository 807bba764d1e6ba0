"""Maps of one gene on one slide: the section, what was measured, what each model predicts."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from hdstbench.arrays import FloatArray, Pixels
from hdstbench.data.prepared import load_arrays, load_blocks, load_manifest
from hdstbench.protocol.slide import Slide

REDUCE = 6


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
    first, measured = next(iter(maps.items()))
    picture, extent = section(folder)
    figure = Figure(figsize=(3.1 * (len(maps) + 1) + 0.6, 3.6), layout="constrained")
    axes = figure.subplots(1, len(maps) + 1)
    axes[0].imshow(picture, extent=extent)
    axes[0].set_title("H&E", fontsize=10)
    colours = ScalarMappable(Normalize(0, float(np.percentile(measured, 98)) or 1.0), "viridis")
    size = slide.unit_um if len(slide.blocks()) < len(slide) else 0.6 * slide.unit_um
    for axis, (name, values) in zip(axes[1:], maps.items(), strict=True):
        squares = colours.to_rgba(_raster(slide, values, size, extent))
        axis.imshow(squares, extent=extent, interpolation="nearest")
        r = np.corrcoef(values, measured)[0, 1] if np.ptp(values) > 0 else 0.0
        axis.set_title(name if name == first else f"{name}  r = {r:.2f}", fontsize=10)
    for axis in axes:
        axis.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        axis.axis("off")
    figure.colorbar(colours, ax=axes, shrink=0.75, label=slide.target.name)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def section(folder: Path) -> tuple[Pixels, tuple[float, float, float, float]]:
    """Join the block images of a prepared slide into one small picture.

    Returns:
        uint8 [H, W, 3], and its place as left, right, bottom, top in um.
    """
    unit, blocks = load_arrays(folder / "pixels" / "unit.npz"), load_blocks(folder)
    manifest = load_manifest(folder)
    _, first = np.unique(unit["block"], return_index=True)
    half = manifest.patch_px["unit"] / 2
    corner = unit["xy_um"][first] - (unit["offset"][first] + half) * manifest.mpp
    step = manifest.mpp * REDUCE
    place = np.round((corner - corner.min(axis=0)) / step).astype(int)
    small = max(1, blocks.shape[1] // REDUCE)
    width, height = place.max(axis=0) + small
    out = np.full((height, width, 3), 255, np.uint8)
    for number, (x, y) in enumerate(place):
        image = Image.fromarray(np.asarray(blocks[number])).resize((small, small), Image.Resampling.BOX)
        out[y : y + small, x : x + small] = np.asarray(image)
    left, top = corner.min(axis=0)
    return out, (float(left), float(left + width * step), float(top + height * step), float(top))


def _raster(
    slide: Slide, values: FloatArray, size_um: float, extent: tuple[float, float, float, float]
) -> FloatArray:
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
