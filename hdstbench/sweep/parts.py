"""Scores of parts of a slide: strata of its units, and classes of its genes."""

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.prepared import load_arrays
from hdstbench.metrics.correlation import pearson_per_gene
from hdstbench.protocol.slide import UNIT, Slide

MIN_UNITS = 50
CLASSES = ("high", "middle", "low")


def class_scores(r: FloatArray, used: IntArray, train_mean: FloatArray) -> dict[str, float]:
    """Mean correlation of each third of the scored genes, the highest training means first.

    Args:
        r: Correlation of each gene, [G].
        used: Genes that are scored.
        train_mean: Mean target over the training units, [G].
    """
    order = used[np.argsort(-train_mean[used], kind="stable")]
    thirds = np.array_split(order, len(CLASSES))
    return {name: float(r[genes].mean()) for name, genes in zip(CLASSES, thirds, strict=True) if len(genes)}


def strata_scores(view: Slide, predicted: FloatArray, used: IntArray, least: int) -> dict[str, float]:
    """Mean correlation within each stratum, over genes that vary in it; a constant prediction counts as 0.

    Args:
        view: The scored units, with labels; strata are those that the card's label file names.
        predicted: [N, G].
        used: Genes that are scored on the slide.
        least: Non-zero units that a gene needs in a stratum.
    """
    path = view.need_labels()._folder / "strata.npz"
    if not path.is_file():
        return {}
    names = load_arrays(path)["name"][view.rows(UNIT)]
    kinds = [kind for kind in np.unique(names).tolist() if kind]
    found = {
        kind: _within(view, predicted, np.ix_(np.flatnonzero(names == kind), used), least) for kind in kinds
    }
    return {kind: value for kind, value in found.items() if value is not None}


def _within(view: Slide, predicted: FloatArray, part: tuple[IntArray, ...], least: int) -> float | None:
    if len(part[0]) < MIN_UNITS:
        return None
    p, measured = predicted[part], view.need_labels().target()[part]
    counts = view.need_labels().counts(part[0].ravel())[:, part[1].ravel()]
    counted = np.asarray((counts > 0).sum(axis=0)).ravel()
    usable = (np.ptp(measured, axis=0) > 0) & (counted >= least)
    if not usable.any():
        return None
    r = pearson_per_gene(p[:, usable], measured[:, usable])
    return float(np.nan_to_num(r).mean())
