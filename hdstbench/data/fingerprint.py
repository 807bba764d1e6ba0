"""What a section is known by: coarse maps of darkness, UMI and top genes, and its pseudobulk."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.data.counts import picks_groups
from hdstbench.data.image import open_image
from hdstbench.data.overview import Overview, read_overview
from hdstbench.data.sample import Sample

CELLS = 24
"""Along each side: cells of 270 um on a whole capture area of 6.5 mm, of 54 um on one of 1.3 mm."""
FINE = 2
"""Cells of the darkness map for each of the others."""
TOP = 100
RIM = 0.01
"""Share of the units on each side that may lie outside the frame, so that a few stray ones do not set it."""
PER = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A section in its standard frame: the square around its tissue, in the image's directions.

    Attributes:
        dark: Mean optical density, [2 CELLS, 2 CELLS].
        tissue: Where there are units, [CELLS, CELLS].
        umi: Log of mean UMI a unit, [CELLS, CELLS].
        top: Log share of the genes with most counts, [CELLS, CELLS, T].
        top_ids: Those genes.
        bulk: Summed counts of each gene of the sample.
    """

    id: str
    dark: FloatArray
    tissue: BoolArray
    umi: FloatArray
    top: FloatArray
    top_ids: tuple[str, ...]
    bulk: dict[str, int]


def fingerprint(sample: Sample) -> Fingerprint:
    """Take the fingerprint of a section.

    Raises:
        DataError: If its image or counts cannot be read.
    """
    low, side = _frame(sample)
    cell = np.floor((sample.xy_px * sample.mpp - low) / side * CELLS).astype(np.int64)
    inside = ((cell >= 0) & (cell < CELLS)).all(axis=1)
    group = np.where(inside, cell[:, 1] * CELLS + cell[:, 0], -1)
    units = np.bincount(group[inside], minlength=CELLS**2)
    (sums,) = sample.counts.sums(picks_groups(group, CELLS**2))
    total, bulk = (np.asarray(sums.sum(axis=axis)).ravel() for axis in (1, 0))
    top = np.argsort(-bulk, kind="stable")[:TOP]
    share = PER * sums[:, top].toarray() / np.maximum(total, 1)[:, None]
    ids = sample.counts.genes.ids
    return Fingerprint(
        id=sample.id,
        dark=_darkness(sample, low, side, group),
        tissue=(units >= np.median(units[units > 0]) / 2).reshape(CELLS, CELLS),
        umi=np.log((total + 0.5) / np.maximum(units, 1)).reshape(CELLS, CELLS),
        top=np.log1p(share).reshape(CELLS, CELLS, -1),
        top_ids=tuple(ids[i] for i in top),
        bulk=dict(zip(ids, bulk.tolist(), strict=True)),
    )


def _frame(sample: Sample) -> tuple[FloatArray, float]:
    """Left and top edge, and the side, of the square around the tissue in um."""
    um = sample.xy_px * sample.mpp
    low, high = np.quantile(um, [RIM, 1 - RIM], axis=0)
    side = float((high - low).max()) + sample.unit_um
    return (low + high - side) / 2, side


def _darkness(sample: Sample, low: FloatArray, side: float, group: IntArray) -> FloatArray:
    if sample.image is not None:
        overview = read_overview(open_image(sample.image), sample.mpp, low, low + side, 20 * FINE * CELLS)
        return _shrink(overview)
    if sample.patches is None:
        return np.zeros((FINE * CELLS, FINE * CELLS))
    density = np.array([-np.log10((patch.mean() + 1) / 256) for patch in sample.patches])
    inside = group >= 0
    summed = np.bincount(group[inside], density[inside], minlength=CELLS**2)
    mean = summed / np.maximum(np.bincount(group[inside], minlength=CELLS**2), 1)
    return np.asarray(mean.reshape(CELLS, CELLS).repeat(FINE, axis=0).repeat(FINE, axis=1))


def _shrink(overview: Overview) -> FloatArray:
    density = -np.log10((overview.pixels.astype(np.float32) + 1) / 256).mean(axis=2)
    size = (FINE * CELLS, FINE * CELLS)
    return np.asarray(Image.fromarray(density).resize(size, Image.Resampling.BOX))
