"""How predicted maps of a test slide look, on its dense windows."""

from collections.abc import Sequence

import numpy as np

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.data.levels import SPOT
from hdstbench.data.prepared import load_arrays
from hdstbench.metrics.correlation import pearson_per_gene
from hdstbench.metrics.spatial import morans_i, neighbours, ssim_per_gene, variance_ratio
from hdstbench.protocol.slide import UNIT, Slide
from hdstbench.protocol.target import MEDIAN, TRAINING_MEDIAN
from hdstbench.protocol.task import TestSlide
from hdstbench.records import SpatialScores

FILLED = 0.8
"""Share of a spot that a window's units must fill, as for a spot that is a target."""
MIN_SPOTS = 20
LOGGED = ("log1p-cp10k", MEDIAN, TRAINING_MEDIAN)
"""Targets that expm1 brings back to rates."""


def windows_of(test: TestSlide) -> list[IntArray]:
    """Units of each dense window of a slide; all scored units of one that has none, as native spots."""
    window = load_arrays(test.slide._folder / "unit.npz")["window"]
    found = [np.flatnonzero(window == number) for number in np.unique(window[window >= 0])]
    return [*found] or [test.headline]


def spatial_scores(test: TestSlide, predicted: FloatArray, used: IntArray) -> SpatialScores:
    """Score the maps of a slide.

    Args:
        test: The slide; of its units, those in windows count, whether or not they are in the headline.
        predicted: For all its prepared units, [N, G].
        used: Genes that are scored on it.
    """
    windows = windows_of(test)
    measured = test.slide.need_labels().target()
    looks = [
        _look(test.slide.grid[units], predicted[units][:, used], measured[units][:, used])
        for units in windows
    ]
    moran, gap, ssim, ratio = (_over([look[i] for look in looks]) for i in range(4))
    spots = _at_spots(test.slide, predicted, np.concatenate(windows), used)
    return SpatialScores(
        windows=len(windows),
        units=sum(map(len, windows)),
        moran=moran,
        moran_gap=gap,
        ssim=ssim,
        variance_ratio=ratio,
        flat=sum(int(look[4].sum()) for look in looks),
        spots=spots[0],
        pcc_spot=spots[1],
        pcc_spot_library=spots[2],
    )


def _look(grid: IntArray, p: FloatArray, m: FloatArray) -> tuple[FloatArray, ...]:
    """Moran's I, its gap, similarity, variance ratio, and which predictions are constant, [G] each."""
    pairs = neighbours(grid)
    truth, found = morans_i(m, pairs), morans_i(p, pairs)
    return (
        truth,
        found - truth,
        ssim_per_gene(p, m, grid),
        variance_ratio(p, m),
        (np.isnan(found) & ~np.isnan(truth)).astype(np.float64),
    )


def _over(values: Sequence[FloatArray]) -> float | None:
    """Mean over windows, then over genes, of what there is."""
    table = np.stack(values)
    known = ~np.isnan(table)
    if not known.any():
        return None
    count = known.sum(axis=0)
    means = np.where(known, table, 0).sum(axis=0)[count > 0] / count[count > 0]
    return float(means.mean())


def _at_spots(
    slide: Slide, predicted: FloatArray, units: IntArray, used: IntArray
) -> tuple[int, float | None, float | None]:
    """Correlate at spots what units were predicted to be: averaged alike, and by library size."""
    if SPOT.name not in slide.levels or slide.target.name not in LOGGED:
        return 0, None, None
    view = slide.take(np.unique(units))
    labels = view.need_labels()
    parent, library = view.parents(SPOT.name), labels.library.astype(np.float64)
    measured, valid = labels.coarse(SPOT.name)
    full = np.bincount(parent, minlength=len(valid)) >= FILLED * (SPOT.side_um / view.unit_um) ** 2
    kept = valid & full & (np.bincount(parent, library, minlength=len(valid)) > 0)
    if kept.sum() < MIN_SPOTS:
        return int(kept.sum()), None, None
    rates = np.expm1(predicted[view.rows(UNIT)][:, used].astype(np.float64))
    means = (_averaged(rates, parent, weight, kept) for weight in (np.ones(len(view)), library))
    alike, weighted = (_mean_r(np.log1p(np.maximum(m, 0)), measured[kept][:, used]) for m in means)
    return int(kept.sum()), alike, weighted


def _averaged(rates: FloatArray, parent: IntArray, weight: FloatArray, kept: BoolArray) -> FloatArray:
    """Weighted means over the units of each spot, [M, G]."""
    sums = np.zeros((len(kept), rates.shape[1]))
    np.add.at(sums, parent, rates * weight[:, None])
    return np.asarray(sums[kept] / np.bincount(parent, weight, minlength=len(kept))[kept, None])


def _mean_r(predicted: FloatArray, measured: FloatArray) -> float | None:
    """Mean over genes that vary in the measurement; a constant prediction counts as 0."""
    varies = np.ptp(measured, axis=0) > 0
    r = np.nan_to_num(pearson_per_gene(predicted, measured))[varies]
    return float(r.mean()) if len(r) else None
