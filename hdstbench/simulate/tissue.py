"""Grow a colon-like section: mucosa with crypts, stroma, a muscle layer, immune aggregates."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.simulate.cells import IMMUNE_MIX, MUSCLE_MIX, STROMA_MIX, Cells, Region, Tissue
from hdstbench.simulate.constants import TISSUE

STEP_UM = 2.0
EDGE = 0.93


@dataclass(frozen=True, slots=True, kw_only=True)
class Crypt:
    """A gland in cross-section: centre, mean radius (um), and the waves of its outline."""

    x: float
    y: float
    radius: float
    waves: FloatArray  # [3, 2] amplitude and phase

    def outline(self, angle: FloatArray) -> FloatArray:
        """Return the outer radius in um at each angle."""
        ripple = sum(a * np.cos((k + 2) * angle + p) for k, (a, p) in enumerate(self.waves))
        return np.asarray(self.radius * (1 + ripple))


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], sigma_um: float) -> FloatArray:
    """Return a smooth random field of mean 0 and standard deviation 1, [H, W]."""
    coarse = max(1, int(sigma_um / STEP_UM / 4))
    small = rng.standard_normal((-(-shape[0] // coarse) + 2, -(-shape[1] // coarse) + 2))
    blurred = ndimage.gaussian_filter(small, sigma_um / STEP_UM / coarse, mode="reflect")
    field = ndimage.zoom(blurred, coarse, order=1)[: shape[0], : shape[1]]
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def grow(width_um: float, height_um: float, rng: np.random.Generator) -> Tissue:
    """Make one section that fills most of `width_um` x `height_um`."""
    shape = (int(np.ceil(height_um / STEP_UM)), int(np.ceil(width_um / STEP_UM)))
    zone = 1 / (1 + np.exp(-2.5 * smooth_field(rng, shape, 180)))
    region = _layers(shape, rng)
    aggregates = _paint_aggregates(region, rng)
    crypts = _place_crypts(region, zone, aggregates, rng)
    for crypt in crypts:
        _paint_crypt(region, crypt)
    walls = [_crypt_cells(crypt, zone, rng) for crypt in crypts]
    cells = _join([*walls, _loose_cells(region, rng)])
    return Tissue(step_um=STEP_UM, region=region, zone=zone, hidden=smooth_field(rng, shape, 90), cells=cells)


def _layers(shape: tuple[int, int], rng: np.random.Generator) -> IntArray:
    """Lay a muscle band along one side of a rounded piece of stroma."""
    y, x = np.indices(shape, dtype=np.float32)
    u, v = 2 * x / shape[1] - 1, 2 * y / shape[0] - 1
    edge = (np.abs(u / 0.97) ** 4 + np.abs(v / 0.97) ** 4) ** 0.25
    inside = edge + 0.05 * smooth_field(rng, shape, 60) < EDGE
    turn = rng.uniform(0, 2 * np.pi)
    depth = np.cos(turn) * u + np.sin(turn) * v + 0.12 * smooth_field(rng, shape, 120)
    muscle = depth > np.quantile(depth[inside], 0.85)
    return np.where(inside, np.where(muscle, Region.MUSCLE, Region.STROMA), 0).astype(np.uint8)


def _paint_aggregates(region: IntArray, rng: np.random.Generator) -> BoolArray:
    """Paint round immune aggregates into the stroma, about six a square millimetre."""
    stroma = np.argwhere(region == Region.STROMA)
    for _ in range(max(1, round(6e-6 * len(stroma) * STEP_UM**2))):
        row, col = stroma[rng.integers(len(stroma))]
        radius = rng.uniform(*TISSUE.immune_radius_um) / STEP_UM
        disc = _disc(region.shape, row, col, radius)
        region[disc & (region == Region.STROMA)] = Region.IMMUNE
    return np.asarray(region == Region.IMMUNE)


def _disc(shape: tuple[int, ...], row: int, col: int, radius: float) -> BoolArray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((y - row) ** 2 + (x - col) ** 2 < radius**2)


def _place_crypts(
    region: IntArray, zone: FloatArray, taken: BoolArray, rng: np.random.Generator
) -> list[Crypt]:
    """Throw crypts into the stroma until no further one fits beside those that lie there."""
    room = ndimage.distance_transform_edt((region == Region.STROMA) & ~taken) * STEP_UM
    spots = rng.permutation(np.argwhere(room > TISSUE.crypt_radius_um))
    mean = TISSUE.crypt_radius_um + TISSUE.crypt_radius_zone_um * zone[spots[:, 0], spots[:, 1]]
    radius = mean * rng.uniform(0.85, 1.15, len(spots))
    fits = room[spots[:, 0], spots[:, 1]] > radius + 4
    y, x = (spots[fits] * STEP_UM).T.astype(float)
    radius, crypts = radius[fits], []
    while len(x):
        waves = np.column_stack([rng.uniform(0, 0.09, 3), rng.uniform(0, 2 * np.pi, 3)])
        crypts.append(Crypt(x=x[0], y=y[0], radius=radius[0], waves=waves))
        apart = np.hypot(x - x[0], y - y[0]) > radius + radius[0] + TISSUE.crypt_gap_um
        x, y, radius = x[apart], y[apart], radius[apart]
    return crypts


def _paint_crypt(region: IntArray, crypt: Crypt) -> None:
    reach = int(1.35 * crypt.radius / STEP_UM) + 1
    row, col = int(crypt.y / STEP_UM), int(crypt.x / STEP_UM)
    rows = slice(max(0, row - reach), row + reach + 1)
    cols = slice(max(0, col - reach), col + reach + 1)
    window = region[rows, cols]
    y, x = np.indices(window.shape, dtype=np.float32)
    y, x = (y + rows.start - row) * STEP_UM, (x + cols.start - col) * STEP_UM
    depth = np.hypot(x, y) / crypt.outline(np.arctan2(y, x))
    window[depth < 1] = Region.GLAND
    window[depth < TISSUE.lumen_share] = Region.LUMEN


def _crypt_cells(crypt: Crypt, zone: FloatArray, rng: np.random.Generator) -> Cells:
    """Line a crypt with columnar cells, nuclei at the outer edge."""
    count = int(2 * np.pi * crypt.radius * 0.82 / TISSUE.nucleus_spacing_um)
    angle = 2 * np.pi * (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / count
    depth = rng.normal(0.80, 0.035, count)
    radius = depth * crypt.outline(angle)
    x, y = crypt.x + radius * np.cos(angle), crypt.y + radius * np.sin(angle)
    here = float(zone[int(crypt.y / STEP_UM), int(crypt.x / STEP_UM)])
    goblet, stem = 0.08 + 0.30 * here, 0.22 * (1 - here)  # P1, P2 CRC: 12-23 % of epithelium goblet
    mix = [1 - goblet - stem, goblet, stem]
    kind = rng.choice(3, size=count, p=mix)
    return Cells(x=x, y=y, kind=kind, angle=angle + rng.normal(0, 0.12, count))


def _loose_cells(region: IntArray, rng: np.random.Generator) -> Cells:
    """Scatter cells over stroma, muscle and aggregates on a jittered lattice."""
    places = {Region.STROMA: STROMA_MIX, Region.MUSCLE: MUSCLE_MIX, Region.IMMUNE: IMMUNE_MIX}
    parts = [
        _scatter(region == where, spacing, mix, rng)
        for (where, mix), spacing in zip(places.items(), TISSUE.spacing_um, strict=True)
    ]
    return _join(parts)


def _scatter(where: BoolArray, spacing_um: float, mix: FloatArray, rng: np.random.Generator) -> Cells:
    height, width = (n * STEP_UM for n in where.shape)
    rows, cols = int(height / (spacing_um * 0.866)), int(width / spacing_um)
    row, col = (a.ravel() for a in np.indices((max(rows, 1), max(cols, 1))))
    x = (col + 0.5 * (row % 2) + 0.5) * spacing_um + rng.normal(0, 0.18 * spacing_um, row.size)
    y = (row + 0.5) * spacing_um * 0.866 + rng.normal(0, 0.18 * spacing_um, row.size)
    ok = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    x, y = x[ok], y[ok]
    inside = where[(y / STEP_UM).astype(int), (x / STEP_UM).astype(int)]
    x, y = x[inside], y[inside]
    kind = rng.choice(len(mix), size=len(x), p=mix / mix.sum())
    # fibres of one place run alike: a slow wave of the position turns the spindle nuclei
    angle = 0.8 * np.sin(x / 170) + 0.8 * np.cos(y / 150) + rng.normal(0, 0.25, len(x))
    return Cells(x=x, y=y, kind=kind, angle=angle)


def _join(parts: list[Cells]) -> Cells:
    return Cells(
        x=np.concatenate([p.x for p in parts]),
        y=np.concatenate([p.y for p in parts]),
        kind=np.concatenate([p.kind for p in parts]),
        angle=np.concatenate([p.angle for p in parts]),
    )
