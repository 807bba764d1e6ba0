"""Scores beside the table's own: ceilings, maps, depth, parts, and the pooled correlation."""

import math
from collections.abc import Sequence
from dataclasses import asdict, fields, replace

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.metrics.moments import Moments
from hdstbench.metrics.pooled import pooled_correlation
from hdstbench.records import SlideScores
from hdstbench.report.cells import StoredCell
from hdstbench.stats.bootstrap import mean_over

COUNTS = ("windows", "units", "spots", "flat", "genes", "unmeasurable")


def more_scores(cells: Sequence[StoredCell]) -> dict[str, float]:
    """Of each further score the mean over slides of a patient, then over patients; without what no slide has.

    `share_of_ceiling` is a ratio of two such means, of the correlation and of what was attainable, both over
    genes with a measurable signal: never a mean of ratios.
    """
    gathered: dict[str, dict[str, list[float]]] = {}
    for scores in (s for cell in cells for s in cell.scores):
        for name, value in _flat(scores).items():
            gathered.setdefault(name, {}).setdefault(scores.patient, []).append(value)
    out = {name: mean_over(values) for name, values in sorted(gathered.items())}
    if out.get("ceiling_value", 0) > 0:
        out["share_of_ceiling"] = out["ceiling_pcc"] / out["ceiling_value"]
    pooled = pooled_pcc(cells)
    return out if pooled is None else out | {"pcc_gene_pooled": pooled}


def totals(cells: Sequence[StoredCell], part: str, name: str) -> int:
    """A count of `ceiling` or `spatial`, added up over slides; of several seeds that of the first."""
    first = [cell for cell in cells if cell.record.seed == cells[0].record.seed]
    parts = (getattr(s, part) for cell in first for s in cell.scores)
    return sum(getattr(found, name) for found in parts if found is not None)


def _flat(scores: SlideScores) -> dict[str, float]:
    """Everything of a slide that has a mean, by one name each."""
    out = {"pcc_gene_depth": scores.pcc_gene_depth}
    for prefix, part in (("ceiling_", scores.ceiling), ("", scores.spatial)):
        table = asdict(part) if part is not None else {}
        out |= {prefix + name: value for name, value in table.items() if name not in COUNTS}
    out |= {f"class {name}": value for name, value in scores.classes.items()}
    out |= {f"stratum {name}": value for name, value in scores.strata.items()}
    return {name: value for name, value in out.items() if value is not None and not math.isnan(value)}


def pooled_pcc(cells: Sequence[StoredCell]) -> float | None:
    """Mean over genes of the correlation over the units of all tested slides together; over seeds the mean.

    Over genes that every fold's panel holds in its headline set and that vary; None if there is none.
    """
    found = [_pooled([c for c in cells if c.record.seed == seed]) for seed in {c.record.seed for c in cells}]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def _pooled(cells: Sequence[StoredCell]) -> float | None:
    """Of the cells of one seed."""
    kept = [_headline(cell) for cell in cells]
    shared = [gene for gene in kept[0] if all(gene in genes for genes in kept)] if kept else []
    if not shared:
        return None
    slides = [
        _columns(sums.moments, np.array([genes[gene] for gene in shared]))
        for cell, genes in zip(cells, kept, strict=True)
        for sums in cell.moments.values()
    ]
    r = pooled_correlation(slides)
    return float(r[~np.isnan(r)].mean()) if not np.isnan(r).all() else None


def _headline(cell: StoredCell) -> dict[str, int]:
    """Column of each gene of the headline set."""
    masks = [sums.mean250 for sums in cell.moments.values()]
    return {gene: i for i, gene in enumerate(cell.genes) if masks and masks[0][i]}


def _columns(moments: Moments, genes: IntArray) -> Moments:
    """Sums of some genes."""
    names = [f.name for f in fields(Moments) if f.name != "n"]
    chosen: dict[str, FloatArray] = {name: getattr(moments, name)[..., genes] for name in names}
    return replace(moments, **chosen)
