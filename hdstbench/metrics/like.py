"""What other papers' code would print for the same predictions; not comparable with the suite's scores.

Each takes the slides of one test fold, as pairs of prediction and measurement, [N, G], in the task's target
space. Facts from the authors' released code, as docs/scoring.md tells.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.metrics.correlation import pearson_per_gene, pearson_per_unit, pearson_pooled

Pair = tuple[FloatArray, FloatArray]
Folds = Sequence[Sequence[Pair]]


def like_hest(folds: Folds) -> dict[str, float]:
    """HEST-Benchmark: per gene over all spots of a fold's test slides together, mean over genes, folds.

    A gene that is constant in either makes its fold, and so the whole, NaN, as there. The deviation over
    folds is that of the population.
    """
    per_fold = [float(np.mean(pearson_pooled(slides))) for slides in folds]
    return {"pearson_mean": float(np.mean(per_fold)), "pearson_std": float(np.std(per_fold))}


def like_triplex(folds: Folds) -> dict[str, float]:
    """TRIPLEX: per gene within slides, mean over genes that have one, slides weighted by spots, folds."""
    return {"PearsonCorrCoef": float(np.mean([_weighted(slides) for slides in folds]))}


def _weighted(slides: Sequence[Pair]) -> float:
    means = [_nanmean(pearson_per_gene(p, m)) for p, m in slides]
    sizes = [len(p) for p, _ in slides]
    known = [(mean, size) for mean, size in zip(means, sizes, strict=True) if not np.isnan(mean)]
    spots = sum(size for _, size in known)
    return sum(mean * size for mean, size in known) / spots if spots else float("nan")


def like_magnet(folds: Folds) -> dict[str, float]:
    """MagNet: over genes within each bin, 1e-8 under the root, mean over bins; mean and sd over slides."""
    slides = [pair for fold in folds for pair in fold]
    pcc = [float(pearson_per_unit(p, m).mean()) for p, m in slides]
    errors = [p.astype(np.float64) - m for p, m in slides]
    return {
        "PCC": float(np.mean(pcc)),
        "PCC_std": float(np.std(pcc)),
        "MSE": float(np.mean([np.mean(e**2) for e in errors])),
        "MAE": float(np.mean([np.mean(np.abs(e)) for e in errors])),
    }


def like_hetosge(folds: Folds) -> dict[str, float]:
    """HEtoSGEBench: per gene within each image, mean over images, then genes, undefined ones left out."""
    return {"PCC": float(np.mean([_over_images(slides) for slides in folds]))}


def _over_images(slides: Sequence[Pair]) -> float:
    table = np.array([pearson_per_gene(p, m) for p, m in slides])
    known = ~np.isnan(table)
    count = known.sum(axis=0)
    means = np.where(known, table, 0).sum(axis=0)[count > 0] / count[count > 0]
    return float(means.mean()) if len(means) else float("nan")


def _nanmean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


LIKE = {"hest": like_hest, "triplex": like_triplex, "magnet": like_magnet, "hetosge": like_hetosge}
MEANING: Mapping[str, str] = {
    "hest": "HEST-Benchmark: genes over all spots of a fold together; a constant gene makes it nan",
    "triplex": "TRIPLEX: genes within slides, undefined ones dropped, slides weighted by their spots",
    "magnet": "MagNet: over genes within a bin; mean and deviation over slides",
    "hetosge": "HEtoSGEBench: genes within images, mean over images, then genes, undefined ones dropped",
}
