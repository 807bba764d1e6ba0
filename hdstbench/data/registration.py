"""Scan for a registration that is off: do counts fit the section better when they are moved?

Where nuclei are, there is RNA: haematoxylin density under bins and their UMI totals go together, most
closely where the positions are right. Nothing is corrected here; a card's `shift_um` does that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy import ndimage

from hdstbench.arrays import FloatArray, IntArray, Pixels
from hdstbench.data.image import SlideImage, open_image, read_regions
from hdstbench.data.sample import Sample
from hdstbench.rng import stream

REACH_UM, STEP_UM = 30.0, 2.0
BLOCK_UM, MAX_BLOCKS, MIN_BINS = 256.0, 64, 50
MAX_UNIT_UM = 16.0
"""Native spots are too coarse and too far apart to be scanned."""
TOLERATED_UM = 8.0
MIN_PEAK = 0.05
MIN_CONTRAST, AWAY_UM = 1.6, 16.0
"""Peak over the strongest correlation further away than that: 2.0 to 4.2 on simulated slides of 0.5 and
1.3 mm, also thinned to one UMI a bin; 0.5 to 1.5 where the counts are shuffled or their map is turned."""

DIRECTIONS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
"""Optical densities of haematoxylin and eosin: Ruifrok & Johnston 2001, Anal Quant Cytol Histol 23:291."""

Shift: TypeAlias = tuple[float, float]
Verdict: TypeAlias = Literal["in register", "off", "no clear peak"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How well counts fit the section when their positions are moved in the image frame.

    Attributes:
        curve: Correlation within blocks of 256 um, by shift in y and x, [S, S].
        steps_um: The shifts along each axis, [S].
        shift_um: (dx, dy) of the peak, between the steps.
        halves_um: The same of each half of the blocks, [2, 2].
        bins: How many were compared.
    """

    curve: FloatArray
    steps_um: FloatArray
    shift_um: Shift
    halves_um: FloatArray
    bins: int

    @property
    def peak(self) -> float:
        """The highest correlation."""
        return float(self.curve.max())

    @property
    def zero(self) -> float:
        """The correlation as the positions are."""
        middle = len(self.steps_um) // 2
        return float(self.curve[middle, middle])

    @property
    def contrast(self) -> float:
        """The peak over the strongest correlation, of either sign, more than 16 um away from it."""
        dx, dy = self.shift_um
        away = np.hypot(self.steps_um - dx, (self.steps_um - dy)[:, None]) > AWAY_UM
        return self.peak / max(float(np.abs(self.curve[away]).max()), 1e-9)

    @property
    def clear(self) -> bool:
        """Whether the peak is high, lies inside, stands out, and both halves of the blocks have it."""
        inside = max(map(abs, self.shift_um)) < REACH_UM
        apart = np.hypot(*(self.halves_um - self.shift_um).T)
        agree = bool((apart <= TOLERATED_UM).all())
        return self.peak >= MIN_PEAK and self.contrast >= MIN_CONTRAST and inside and agree

    @property
    def verdict(self) -> Verdict:
        """Where a peak is clear: whether it is within one bin of the positions as they are."""
        if not self.clear:
            return "no clear peak"
        return "in register" if np.hypot(*self.shift_um) <= TOLERATED_UM else "off"


def scan(sample: Sample) -> Scan | None:
    """Correlate haematoxylin density with log UMI totals over shifts of up to 30 um in x and y.

    On a large slide, blocks are drawn; each is read from the image at 2 um a pixel.

    Returns:
        The scan; None where there is no picture, no bins, or too few of them.

    Raises:
        DataError: If the image or the counts cannot be read.
    """
    if sample.image is None or sample.unit_um > MAX_UNIT_UM:
        return None
    image = open_image(sample.image)
    members = _blocks(sample, image)
    used = sum(map(len, members))
    if used < MIN_BINS:
        return None
    moments = np.stack(list(_moments(sample, image, members)))
    curve = _correlation(moments.sum(axis=0))
    halves = [_peak(_correlation(moments[part::2].sum(axis=0))) for part in (0, 1)]
    return Scan(curve=curve, steps_um=_steps(), shift_um=_peak(curve), halves_um=np.array(halves), bins=used)


def outcome(scan: Scan) -> str:
    """What a scan found, in one line."""
    dx, dy = scan.shift_um
    r = f"r = {scan.peak:.2f} if moved by ({dx:+.1f}, {dy:+.1f}) um, {scan.zero:.2f} as registered"
    return f"{scan.verdict}: {r}"


def advice(scan: Scan, applied_um: tuple[float, ...] = ()) -> str:
    """What to do about a registration that is off, in one line; empty if it is not.

    Args:
        scan: Its result.
        applied_um: The shift that the positions have had from the card already.
    """
    if scan.verdict != "off":
        return ""
    to = [round(a + b, 1) for a, b in zip(applied_um or (0.0, 0.0), scan.shift_um, strict=True)]
    return (
        f"counts fit the section best when moved by more than one bin of {TOLERATED_UM:.0f} um: look at the "
        f"overlay, and if it shows the same, set shift_um = {to} for this sample in the card"
    )


def haematoxylin(pixels: Pixels) -> FloatArray:
    """Haematoxylin density of each pixel, by colour deconvolution, float32 [H, W].

    The third direction is at right angles to both stains and takes what is neither.
    """
    rows = np.vstack([DIRECTIONS, np.cross(*DIRECTIONS)])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    weight = np.linalg.inv(rows)[:, 0].astype(np.float32)
    density = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
    return np.asarray(density[pixels] @ weight)


def _steps() -> FloatArray:
    return np.arange(-REACH_UM, REACH_UM + STEP_UM / 2, STEP_UM)


def _blocks(sample: Sample, image: SlideImage) -> list[IntArray]:
    """Bins of each drawn square of the image; those are left out whose shifts would leave the picture."""
    rim = (REACH_UM + sample.unit_um) / sample.mpp
    inside = ((sample.xy_px >= rim) & (sample.xy_px <= np.array(image.size) - rim)).all(axis=1)
    rows = np.flatnonzero(inside)
    square = np.floor(sample.xy_px[rows] * sample.mpp / BLOCK_UM).astype(np.int64)
    _, number = np.unique(square, axis=0, return_inverse=True)
    members = [rows[number == i] for i in range(int(number.max(initial=-1)) + 1)]
    full = (BLOCK_UM / sample.unit_um) ** 2
    members = [rows for rows in members if len(rows) >= full / 4]
    order = stream("registration", sample.id).permutation(len(members))[:MAX_BLOCKS]
    return [members[i] for i in order]


def _moments(sample: Sample, image: SlideImage, members: list[IntArray]) -> Iterator[FloatArray]:
    """Sums of squares and products of a block's log totals (z) and densities (h), [3, S, S]."""
    log_umi = np.log1p(sample.counts.totals())
    um = sample.xy_px * sample.mpp
    margin = np.ceil((REACH_UM + sample.unit_um) / STEP_UM) * STEP_UM
    corners = np.array([np.floor(um[rows] / BLOCK_UM)[0] * BLOCK_UM - margin for rows in members])
    side = BLOCK_UM + 2 * margin
    size_px = round(side / STEP_UM)
    regions = read_regions(image, corners / sample.mpp, side / sample.mpp, size_px)
    for number, pixels in regions:
        rows = members[number]
        under = ndimage.uniform_filter(haematoxylin(pixels), round(sample.unit_um / STEP_UM))
        place = np.rint((um[rows] - corners[number]) / STEP_UM).astype(np.int64)
        yield _products(log_umi[rows], under, place)


def _products(log_umi: FloatArray, under: FloatArray, place: IntArray) -> FloatArray:
    reach = round(REACH_UM / STEP_UM)
    moves = np.arange(-reach, reach + 1)
    z = log_umi - log_umi.mean()
    out = np.zeros((3, len(moves), len(moves)))
    for i, dy in enumerate(moves):
        # [S, bins]: all shifts along x at once
        h = under[place[:, 1] + dy, place[:, 0] + moves[:, None]].astype(np.float64)
        h -= h.mean(axis=1, keepdims=True)
        out[:, i] = [np.full(len(moves), z @ z), (h * h).sum(axis=1), h @ z]
    return out


def _correlation(moments: FloatArray) -> FloatArray:
    zz, hh, hz = moments
    norm = np.sqrt(zz * hh)
    return np.asarray(np.divide(hz, norm, out=np.zeros_like(hz), where=norm > 0))


def _peak(curve: FloatArray) -> Shift:
    """Where a curve is highest, between its points: the top of a parabola along each axis."""
    row, col = np.unravel_index(int(curve.argmax()), curve.shape)
    return _top(curve[row], int(col)), _top(curve[:, col], int(row))


def _top(line: FloatArray, at: int) -> float:
    step = 0.0
    if 0 < at < len(line) - 1:
        left, middle, right = line[at - 1 : at + 2]
        bend = left - 2 * middle + right
        step = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(_steps()[at] + step * STEP_UM)
