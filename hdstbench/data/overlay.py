"""Draw bins over the section: where they lie, what they count, and how sharply they fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hdstbench.arrays import FloatArray
from hdstbench.data.image import SlideImage, open_image
from hdstbench.data.overview import Overview, read_overview
from hdstbench.data.registration import Scan
from hdstbench.data.sample import Sample

LONGEST_PX, ZOOM_PX = 1000, 800
MARGIN = 0.04
ZOOM_UM, ZOOM_UNITS = 200.0, 6
ARROW = 0.3
COL, ROW, LINE = "#0057b8", "#d00000", "#111111"
Extent = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Place:
    """A rectangle of the image frame in um, x right, y down."""

    low: FloatArray
    high: FloatArray

    @property
    def extent(self) -> Extent:
        """As matplotlib wants it: left, right, bottom, top."""
        return float(self.low[0]), float(self.high[0]), float(self.high[1]), float(self.low[1])


def draw_overlay(path: Path, sample: Sample, scan: Scan | None) -> None:
    """Save four panels as PNG: the section with the array's frame, UMI over it, a zoom, and the scan.

    Args:
        path: Where to.
        sample: Its image is read at low resolution, and one small window of it in full.
        scan: The registration scan, if there is one.

    Raises:
        DataError: If the image or the counts cannot be read.
        ValueError: If the sample has no image.
    """
    if sample.image is None:
        msg = f"{sample.id} has no image to draw on"
        raise ValueError(msg)
    image, umi = open_image(sample.image), sample.counts.totals().astype(np.float64)
    colours = ScalarMappable(Normalize(0, float(np.percentile(umi, 98)) or 1.0), "viridis")
    place = _capture(sample)
    overview = read_overview(image, sample.mpp, place.low, place.high, LONGEST_PX)
    figure = Figure(figsize=(13, 12), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_section(axes[0, 0], sample, image, overview, place)
    _draw_umi(axes[0, 1], sample, overview, place, colours.to_rgba(umi))
    _draw_zoom(axes[1, 0], sample, image, umi, colours)
    _draw_scan(axes[1, 1], scan)
    figure.colorbar(colours, ax=axes[0, 1], shrink=0.8, label="UMI a unit", extend="max")
    figure.suptitle(
        f"{sample.id}: {len(umi)} units of {sample.unit_um:g} um in tissue, um of the image frame"
    )
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _corners(sample: Sample) -> FloatArray:
    """Corners of the array in um, from (row, column) = (0, 0) on along the columns, [4, 2]."""
    rows, columns = (side - 0.5 for side in sample.grid_shape)
    uv = np.array([[-0.5, -0.5], [columns, -0.5], [columns, rows], [-0.5, rows]])
    return sample.to_px(uv) * sample.mpp


def _capture(sample: Sample) -> _Place:
    corners = _corners(sample)
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = MARGIN * (high - low).max()
    return _Place(low - margin, high + margin)


def _frame(axis: Axes, place: _Place, title: str) -> None:
    left, right, bottom, top = place.extent
    axis.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", title=title)


def _draw_section(axis: Axes, sample: Sample, image: SlideImage, overview: Overview, place: _Place) -> None:
    axis.imshow(overview.pixels, extent=place.extent)
    corners = _corners(sample)
    _outline(axis, corners, "-", "capture area")
    width, height = np.array(image.size) * sample.mpp
    _outline(axis, np.array([[0, 0], [width, 0], [width, height], [0, height]]), ":", "edge of the image")
    for name, colour, end in (("array_col", COL, corners[1]), ("array_row", ROW, corners[3])):
        step = ARROW * (end - corners[0])
        style = {"arrowstyle": "-|>", "color": colour, "lw": 3.0, "mutation_scale": 22}
        axis.annotate("", corners[0] + step, corners[0], arrowprops=style, annotation_clip=False)
        box = {"boxstyle": "round", "fc": "white", "ec": colour}
        axis.annotate(name, corners[0] + 0.55 * step, color=colour, ha="center", va="center", bbox=box)
    axis.plot(*corners[0], "o", color=LINE, ms=9, label="row 0, column 0")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=3, fontsize=9)
    _frame(axis, place, "the section, and where the array lies on it")


def _outline(axis: Axes, corners: FloatArray, style: str, label: str) -> None:
    closed = np.vstack([corners, corners[:1]])
    axis.plot(closed[:, 0], closed[:, 1], style, color=LINE, lw=1.6, label=label)


def _draw_umi(axis: Axes, sample: Sample, overview: Overview, place: _Place, rgba: FloatArray) -> None:
    axis.imshow(overview.pixels, extent=place.extent)
    axis.imshow(raster(sample, overview, rgba), extent=place.extent, alpha=0.6, interpolation="nearest")
    _outline(axis, _corners(sample), "-", "")
    _frame(axis, place, "UMI: bright on dense tissue, dark in holes?")


def raster(sample: Sample, overview: Overview, rgba: FloatArray) -> FloatArray:
    """Paint units on the pixels of an overview.

    Args:
        sample: N units.
        overview: Of H x W pixels.
        rgba: Colour of each unit, [N, 4].

    Returns:
        Colour of the unit under each pixel, clear where there is none, [H, W, 4].
    """
    rows, columns = sample.grid_shape
    shown = np.zeros((rows + 1, columns + 1, 4))  # one more, which stays clear, for what lies outside
    shown[sample.grid[:, 0], sample.grid[:, 1]] = rgba
    height, width = overview.pixels.shape[:2]
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    xy = (np.stack([x, y], axis=-1) * overview.step_um + overview.corner_um) / sample.mpp
    matrix = sample.to_px.matrix
    uv = np.rint((xy - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).astype(np.int64)
    outside = ((uv < 0) | (uv >= [columns, rows])).any(axis=-1)
    uv[outside] = (columns, rows)
    return np.asarray(shown[uv[..., 1], uv[..., 0]])


def _draw_zoom(
    axis: Axes, sample: Sample, image: SlideImage, umi: FloatArray, colours: ScalarMappable
) -> None:
    """The window whose bins differ most, where the eye can judge best."""
    side = max(ZOOM_UM, ZOOM_UNITS * sample.unit_um)
    um = sample.xy_px * sample.mpp
    low = _liveliest(um, umi, side)
    place = _Place(low, low + side)
    axis.imshow(read_overview(image, sample.mpp, place.low, place.high, ZOOM_PX).pixels, extent=place.extent)
    near = ((um > low - sample.unit_um) & (um < low + side + sample.unit_um)).all(axis=1)
    step = sample.to_px.matrix[:, :2] * sample.mpp * 0.44  # a little less than half, so that edges stay apart
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) @ step.T
    wide = 0.5 + 2.5 * np.clip(np.asarray(colours.norm(umi[near])), 0, 1)
    style = {"facecolors": "none", "edgecolors": colours.to_rgba(umi[near]), "linewidths": wide}
    axis.add_collection(PolyCollection(list(um[near][:, None] + square), **style))
    _frame(axis, place, f"{side:g} um in full resolution: bold yellow squares on nuclei?")


def _liveliest(um: FloatArray, umi: FloatArray, side: float) -> FloatArray:
    squares, number = np.unique(np.floor(um / side), axis=0, return_inverse=True)
    number = number.reshape(-1)
    logs, count = np.log1p(umi), np.bincount(number)
    mean, square = (np.bincount(number, logs**power) / count for power in (1, 2))
    spread = np.where(count >= 0.8 * count.max(), square - mean**2, -1.0)
    return np.asarray(squares[int(spread.argmax())] * side)


def _draw_scan(axis: Axes, scan: Scan | None) -> None:
    if scan is None:
        axis.axis("off")
        axis.text(0.5, 0.5, "no registration scan", ha="center", va="center")
        return
    reach = float(scan.steps_um[-1])
    shown = axis.imshow(scan.curve, extent=(-reach, reach, reach, -reach), cmap="magma")
    axis.plot(0, 0, "+", color="white", ms=16, mew=2, label=f"as registered: r = {scan.zero:.2f}")
    _mark(axis, scan.shift_um, f"peak: r = {scan.peak:.2f}")
    axis.set(xlabel="positions moved in x (um)", ylabel="positions moved in y (um)")
    axis.set_title(f"haematoxylin against UMI by shift: {scan.verdict}")
    axis.legend(loc="upper right", fontsize=9, facecolor="#888888", labelcolor="white")
    axis.figure.colorbar(shown, ax=axis, shrink=0.8, label="correlation")


def _mark(axis: Axes, place: Sequence[float], label: str) -> None:
    axis.plot(*place, "o", mfc="none", color="cyan", ms=14, mew=2, label=label)
