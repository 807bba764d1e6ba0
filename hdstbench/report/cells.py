"""The stored cells of one job, read from their folders and reduced to what its table needs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.records import (
    GeneSums,
    Record,
    SlideScores,
    load_moments,
    load_record,
    load_scores,
    scored_genes,
    scores_version,
)
from hdstbench.stats.blocks import MIN_BLOCKS, widening
from hdstbench.stats.bootstrap import SlideMoments, resampled_pcc

RIDGES = ("ridge", "ridge-levels")
"""The controls of which the better one is what a model has to beat."""


@dataclass(frozen=True, slots=True)
class StoredCell:
    """What a cell left behind; without scores if it failed."""

    record: Record
    scores: tuple[SlideScores, ...]
    moments: dict[str, GeneSums]
    version: int = 0
    genes: tuple[str, ...] = ()


def load_cell(folder: Path) -> StoredCell:
    """Read one cell.

    Raises:
        DataError: If a file is broken.
    """
    record = load_record(folder)
    if record.status != "ok":
        return StoredCell(record, (), {})
    scores, genes = load_scores(folder), scored_genes(folder)
    return StoredCell(record, scores, load_moments(folder), scores_version(folder), genes)


def by_model(cells: Sequence[StoredCell]) -> dict[str, list[StoredCell]]:
    """The cells of each model."""
    out: dict[str, list[StoredCell]] = {}
    for cell in cells:
        out.setdefault(cell.record.model, []).append(cell)
    return out


def samples_of(cells: Sequence[StoredCell], widenings: Mapping[str, float]) -> FloatArray:
    """Bootstrap samples of pcc_gene of one model, meaned over seeds, [1 + R].

    Args:
        cells: Of one model.
        widenings: Of each slide, the same for all models.
    """
    by_seed: dict[int, list[SlideMoments]] = {}
    for cell in cells:
        for name, scores in named_scores(cell, cells).items():
            sums = cell.moments[scores.slide]
            part = SlideMoments(
                slide=name,
                patient=scores.patient,
                moments=sums.moments,
                scored=sums.scored & sums.mean250,
                widening=widenings[name],
            )
            by_seed.setdefault(cell.record.seed, []).append(part)
    return np.asarray(np.mean([resampled_pcc(slides) for slides in by_seed.values()], axis=0))


def named_scores(cell: StoredCell, cells: Sequence[StoredCell]) -> dict[str, SlideScores]:
    """Scores of a cell by slide; where several folds test one slide, by slide and fold.

    Args:
        cell: Whose scores.
        cells: All cells of its model.
    """
    often = Counter(s.slide for c in cells if c.record.seed == cell.record.seed for s in c.scores)
    return {
        s.slide if often[s.slide] == 1 else f"{s.slide} (fold {cell.record.fold})": s for s in cell.scores
    }


def slide_widenings(cells: Sequence[StoredCell]) -> dict[str, float]:
    """How far resamples of each slide are spread: by the widest range of any model's residuals.

    Oracles have no say in it, unless there is nothing else.
    """
    models = [cell for cell in cells if cell.record.kind != "oracle"] or list(cells)
    out: dict[str, float] = {}
    for members in by_model(models).values():
        for cell in members:
            for name, s in named_scores(cell, members).items():
                out[name] = max(out.get(name, 1.0), widening(s.range_um, s.block_um, s.blocks))
    return out


def tested_slides(cells: Sequence[StoredCell]) -> tuple[tuple[SlideScores, ...], frozenset[str]]:
    """Scores of any one model by slide, for counts, and the slides whose blocks are too few or too narrow.

    Blocks are too narrow if they are not twice as wide as the range of some model's residuals, or not
    as the largest patch. Oracles do not count for that.
    """
    slides: dict[str, SlideScores] = {}
    narrow = set()
    for members in by_model(cells).values():
        for cell in members:
            for name, s in named_scores(cell, members).items():
                slides.setdefault(name, replace(s, slide=name))
                thin = s.blocks < MIN_BLOCKS or s.block_um < max(2 * s.range_um, s.patch_um)
                if thin and cell.record.kind != "oracle":
                    narrow.add(name)
    return tuple(slides[name] for name in sorted(slides)), frozenset(narrow)


@dataclass(frozen=True, slots=True)
class BetterRidge:
    """What a model has to beat; `chosen` says whether inner validation had two to choose from."""

    name: str = ""
    chosen: bool = False


def better_ridge(cells: Mapping[str, Sequence[StoredCell]]) -> BetterRidge:
    """The ridge with the smaller error on inner validation, meaned over its cells.

    No test score is looked at. Where a ridge does not tell its error, as in older records, it is
    `ridge`; where only one is there, it is that.

    Args:
        cells: By model, of models of which every cell is whole.
    """
    there = [name for name in RIDGES if name in cells]
    errors: dict[str, float] = {}
    for name in there:
        told = [cell.record.validation for cell in cells[name]]
        known = [error for error in told if error is not None]
        if len(known) < len(told):
            return BetterRidge(there[0])
        errors[name] = float(np.mean(known))
    return BetterRidge(min(errors, key=lambda name: errors[name], default=""), len(errors) > 1)
