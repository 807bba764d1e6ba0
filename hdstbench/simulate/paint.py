"""Paint a section as a schematic H&E: regions with texture, cells with nuclei, a slide's own stain."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from hdstbench.arrays import FloatArray, Pixels
from hdstbench.simulate.cells import TYPES, Region, Tissue
from hdstbench.simulate.constants import COUNTS, STAIN

# haematoxylin and eosin density of each region before cells are drawn, and how rough it is
BASE = {
    Region.LUMEN: (0.01, 0.03, 0.01),
    Region.GLAND: (0.13, 0.34, 0.05),
    Region.STROMA: (0.05, 0.30, 0.11),
    Region.MUSCLE: (0.06, 0.52, 0.10),
    Region.IMMUNE: (0.14, 0.22, 0.05),
}
GOBLET = 1
WHITE = np.float32(244)
FIBROUS = (Region.STROMA, Region.MUSCLE)


def paint(tissue: Tissue, width_px: int, height_px: int, rng: np.random.Generator) -> Pixels:
    """Paint the section at the full resolution of the cohort, uint8 [H, W, 3]."""
    density = _regions(tissue, width_px, height_px, rng)
    _draw_cells(density, tissue, rng)
    return _develop(density, rng)


def _regions(tissue: Tissue, width: int, height: int, rng: np.random.Generator) -> FloatArray:
    """Haematoxylin and eosin density of the ground, float32 [2, H, W]; made at half the width."""
    shape = (height // 2 + 1, width // 2 + 1)
    grain = sum(_noise(shape, step, rng) for step in (2, 5, 20)) / np.float32(np.sqrt(3))
    fibre = _fibres(shape, tissue, rng)
    ground = np.zeros((2, *shape), np.float32)
    for region, (haematoxylin, eosin, rough) in BASE.items():
        mask = _enlarge(ndimage.gaussian_filter((tissue.region == region).astype("f4"), 0.6), shape)
        texture = fibre if region in FIBROUS else grain
        ground[0] += mask * haematoxylin * (1 + 0.5 * grain)
        ground[1] += mask * np.maximum(eosin + rough * texture, 0.06 * eosin)
    return np.stack([_enlarge(layer, (height, width)) for layer in ground])


def _enlarge(field: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Resample a float32 picture to `shape` (H, W)."""
    image = Image.fromarray(field).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _noise(shape: tuple[int, int], step: int, rng: np.random.Generator) -> FloatArray:
    """Noise of standard deviation about 1 and a grain of `step` px."""
    small = rng.standard_normal((shape[0] // step + 2, shape[1] // step + 2), dtype=np.float32)
    return _enlarge(small, shape)


def _fibres(shape: tuple[int, int], tissue: Tissue, rng: np.random.Generator) -> FloatArray:
    """Wavy strands: noise is sampled along the direction in which the spindle cells lie."""
    size_um = np.array(tissue.region.shape) * tissue.step_um
    y, x = np.meshgrid(
        *(np.linspace(0, s, n, dtype="f4") for s, n in zip(size_um, shape, strict=True)), indexing="ij"
    )
    angle = 0.8 * np.sin(x / 170) + 0.8 * np.cos(y / 150)
    wander = 9 * _noise(shape, 60, rng)
    across = (-np.sin(angle) * x + np.cos(angle) * y + wander) / 1.6
    along = (np.cos(angle) * x + np.sin(angle) * y) / 26
    table = rng.standard_normal((512, 512), dtype=np.float32)
    strands = ndimage.map_coordinates(table, [across % 511, along % 511], order=1, mode="wrap")
    return np.asarray(1.3 * strands, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Ellipse:
    """An ellipse in pixels: centre, direction of its long axis, half axes."""

    x: float
    y: float
    angle: float
    long: float
    short: float

    def on(self, density: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """The part of the picture under it, and there the distance from its centre, 1 on the outline."""
        reach = int(self.long) + 3
        top, left = int(self.y) - reach, int(self.x) - reach
        rows = slice(max(0, top), max(0, top + 2 * reach + 1))
        cols = slice(max(0, left), max(0, left + 2 * reach + 1))
        view = density[:, rows, cols]
        if view.size == 0:
            return None
        dy, dx = np.indices(view.shape[1:], dtype=np.float32)
        dx, dy = dx + (cols.start + 0.5 - self.x), dy + (rows.start + 0.5 - self.y)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return view, np.hypot((c * dx + s * dy) / self.long, (c * dy - s * dx) / self.short)


def _draw_cells(density: FloatArray, tissue: Tissue, rng: np.random.Generator) -> None:
    """Draw each cell's mucin and nucleus, in place."""
    cells = tissue.cells
    half = np.array([(kind.major_um, kind.minor_um) for kind in TYPES])[cells.kind] / 2 / COUNTS.mpp
    half *= np.exp(rng.normal(0, 0.10, half.shape))
    dark = np.array([kind.darkness for kind in TYPES])[cells.kind] * np.exp(rng.normal(0, 0.12, len(cells)))
    x, y = cells.x / COUNTS.mpp, cells.y / COUNTS.mpp
    for i in range(len(cells)):
        nucleus = _Ellipse(x[i], y[i], cells.angle[i], *half[i])
        if cells.kind[i] == GOBLET:
            _draw_mucin(density, nucleus)
        _draw_nucleus(density, nucleus, dark[i], rng)


def _draw_nucleus(density: FloatArray, shape: _Ellipse, dark: float, rng: np.random.Generator) -> None:
    place = shape.on(density)
    if place is None:
        return
    view, depth = place
    soft = np.clip((1.0 - depth) * shape.short / 1.2 + 0.5, 0, 1)
    rim = np.exp(-(((depth - 0.88) / 0.16) ** 2))
    chromatin = 0.72 + 0.28 * rim + 0.10 * rng.standard_normal(depth.shape, dtype=np.float32)
    view[0] = np.maximum(view[0], soft * dark * chromatin)
    view[1] = view[1] * (1 - 0.55 * soft) + 0.12 * soft


def _draw_mucin(density: FloatArray, nucleus: _Ellipse) -> None:
    """A pale vacuole between a goblet cell's nucleus and the lumen."""
    toward, angle = 6.5 / COUNTS.mpp, nucleus.angle
    x, y = nucleus.x - toward * np.cos(angle), nucleus.y - toward * np.sin(angle)
    place = _Ellipse(x, y, angle, 5.2 / COUNTS.mpp, 3.6 / COUNTS.mpp).on(density)
    if place is None:
        return
    view, depth = place
    soft = np.clip((1.0 - depth) * 4, 0, 1)
    view[0] = view[0] * (1 - soft) + 0.10 * soft
    view[1] = view[1] * (1 - soft) + 0.05 * soft


def _develop(density: FloatArray, rng: np.random.Generator) -> Pixels:
    """From densities to colours with the slide's own stain, a little blur and camera noise."""
    directions = np.array([STAIN.haematoxylin, STAIN.eosin], np.float32)
    directions += rng.normal(0, STAIN.direction_sd, directions.shape)
    directions *= 1.35 * np.exp(rng.normal(0, STAIN.strength_sd, (2, 1)))
    sharp = [ndimage.gaussian_filter(layer, 0.7) for layer in density]
    out = np.empty((*density.shape[1:], 3), np.uint8)
    for top in range(0, len(out), 128):  # in strips, which stay in the cache
        rows = slice(top, top + 128)
        absorbed = np.stack([layer[rows] for layer in sharp], axis=-1) @ directions
        light = WHITE * np.exp(-absorbed)
        light += 1.5 * rng.standard_normal(light.shape, dtype=np.float32)
        out[rows] = np.clip(light, 0, 255)
    return out
