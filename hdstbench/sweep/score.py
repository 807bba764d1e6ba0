"""Score the predictions of one fold: per slide, per gene, and as block moments."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hdstbench.arrays import CSR, BoolArray, FloatArray, IntArray
from hdstbench.metrics.correlation import pearson_per_gene, pearson_per_unit
from hdstbench.metrics.error import mae, mse, mse_skill
from hdstbench.metrics.moments import block_moments
from hdstbench.metrics.partial import partial_per_gene
from hdstbench.protocol.slide import Slide
from hdstbench.protocol.task import Fold
from hdstbench.records import GeneSums, SlideScores
from hdstbench.stats.blocks import residual_range, widest_blocks
from hdstbench.sweep.agreement import spatial_scores
from hdstbench.sweep.ceilings import ceiling_columns, ceilings_of, score_ceiling
from hdstbench.sweep.parts import class_scores, strata_scores

MIN_NONZERO = 20
"""A gene that is non-zero in fewer test units leaves the slide's panel, for all models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldScores:
    """Everything that a fold's predictions are reduced to."""

    slides: tuple[SlideScores, ...]
    per_gene: pd.DataFrame
    moments: dict[str, GeneSums]


def score_fold(fold: Fold, predictions: dict[str, FloatArray]) -> FoldScores:
    """Score all test slides of a fold.

    Args:
        fold: With labelled test slides.
        predictions: By slide, [N, G] for all its prepared units.
    """
    slides, tables, moments = [], [], {}
    for test in fold.test:
        view = test.slide.take(test.headline)
        predicted = predictions[view.id][test.headline]
        scores, table, sums = _score_slide(fold, view, predicted)
        used = np.flatnonzero(sums.scored & sums.mean250)
        spatial = spatial_scores(test, predictions[view.id], used)
        slides.append(replace(scores, units_left_out=dict(test.left_out), spatial=spatial))
        tables.append(table)
        moments[view.id] = sums
    return FoldScores(slides=tuple(slides), per_gene=pd.concat(tables, ignore_index=True), moments=moments)


def scored_genes(measured: FloatArray, counts: CSR | None = None) -> BoolArray:
    """Genes whose target varies and that were counted in at least 20 units, [G].

    Args:
        measured: Targets, [N, G].
        counts: Raw counts, [N, G]; without them a gene is counted where its target is not 0.
    """
    varies = np.ptp(measured, axis=0) > 0
    seen = np.count_nonzero(measured, axis=0) if counts is None else counted_units(counts)
    return np.asarray(varies & (seen >= MIN_NONZERO))


def counted_units(counts: CSR) -> IntArray:
    """In how many units each gene was counted, [G]."""
    return np.bincount(counts.indices[counts.data > 0], minlength=counts.shape[1])


def _score_slide(
    fold: Fold, view: Slide, predicted: FloatArray
) -> tuple[SlideScores, pd.DataFrame, GeneSums]:
    measured = view.need_labels().target()
    usable = scored_genes(measured, view.need_labels().counts())
    r = pearson_per_gene(predicted, measured)
    constant = np.isnan(r) & usable
    r = np.where(usable, np.nan_to_num(r), np.nan)
    main = fold.panel.mean250
    used = main[usable[main]]
    p, m = predicted[:, used], measured[:, used]
    block, width = _bootstrap_blocks(view)
    hvg = fold.panel.hvg50[usable[fold.panel.hvg50]]
    beyond = partial_per_gene(p, m, np.log1p(view.need_labels().library))
    attainable = ceilings_of(view)
    scores = SlideScores(
        slide=view.id,
        patient=view.patient,
        units=len(view),
        genes=len(used),
        genes_left_out=len(main) - len(used),
        constant=int(constant[used].sum()),
        pcc_gene=_mean(r[used]),
        pcc_gene_hvg50=_mean(r[hvg]),
        pcc_bin=_mean(pearson_per_unit(p, m)),
        mse=mse(p, m),
        mae=mae(p, m),
        mse_skill=mse_skill(p, m, fold.train_mean[used]),
        range_um=residual_range(view.xy_um, p - m, view.unit_um, view.id),
        patch_um=max(view.patch_px.values()) * view.mpp,
        blocks=int(block.max()) + 1,
        block_um=width,
        flat_units=int(((np.ptp(p, axis=1) == 0) | (np.ptp(m, axis=1) == 0)).sum()) if len(used) else 0,
        pcc_gene_depth=_mean(np.nan_to_num(beyond)),
        classes=class_scores(r, used, fold.train_mean),
        strata=strata_scores(view, predicted, used, MIN_NONZERO),
        ceiling=score_ceiling(attainable, r, used),
    )
    sums = GeneSums(
        moments=block_moments(predicted, measured, block),
        scored=usable,
        mean250=_mask(main, len(usable)),
        hvg50=_mask(fold.panel.hvg50, len(usable)),
    )
    table = _gene_table(fold, view, predicted, measured, r).assign(**ceiling_columns(attainable))
    return scores, table, sums


def _mask(members: IntArray, count: int) -> BoolArray:
    out = np.zeros(count, bool)
    out[members] = True
    return out


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _bootstrap_blocks(view: Slide) -> tuple[IntArray, float]:
    """Bootstrap block of each unit and the blocks' width; a sampling block is never cut."""
    blocks = view.blocks()
    centre = np.array([view.xy_um[units].mean(axis=0) for units in blocks])
    group, width = widest_blocks(centre)
    number = np.empty(len(view), np.int64)
    for units, mine in zip(blocks, group, strict=True):
        number[units] = mine
    return number, width


def _gene_table(
    fold: Fold, view: Slide, predicted: FloatArray, measured: FloatArray, r: FloatArray
) -> pd.DataFrame:
    error = predicted.astype(np.float64) - measured
    genes = np.arange(len(fold.panel.genes))
    table = pd.DataFrame(
        {
            "slide": view.id,
            "patient": view.patient,
            "gene": fold.panel.genes,
            "mean250": np.isin(genes, fold.panel.mean250),
            "hvg50": np.isin(genes, fold.panel.hvg50),
            "pcc": r,
            "mse": (error**2).mean(axis=0),
            "mae": np.abs(error).mean(axis=0),
            "mean": measured.mean(axis=0),
            "nonzero": counted_units(view.need_labels().counts()) / len(view),
        }
    )
    return _with_markers(table, fold) if fold.panel.markers else table


def _with_markers(table: pd.DataFrame, fold: Fold) -> pd.DataFrame:
    """Name the genes that a user added, and their order."""
    names, places = [""] * len(table), [-1] * len(table)
    for place, (name, column) in enumerate(fold.panel.markers):
        names[column], places[column] = name, place
    return table.assign(marker=names, place=places)


def check_predictions(slide: Slide, predicted: FloatArray) -> FloatArray:
    """Check what a model returned for a slide.

    Raises:
        ValueError: If the shape is wrong or a value is not finite.
    """
    predicted = np.asarray(predicted)
    wanted = (len(slide), len(slide.genes))
    if predicted.shape != wanted:
        msg = f"predict returned shape {predicted.shape} for slide {slide.id}, wanted {wanted}"
        raise ValueError(msg)
    if not np.isfinite(predicted).all():
        bad = int((~np.isfinite(predicted)).any(axis=1).sum())
        msg = f"predict returned values that are not finite in {bad} units of slide {slide.id}"
        raise ValueError(msg)
    return predicted.astype(np.float32, copy=False)
