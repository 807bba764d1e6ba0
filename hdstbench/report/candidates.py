"""What the training mean, which sees no image, scores under every target that the MagNet paper may have used.

The paper says "proportional normalization followed by a log transformation" as in TRIPLEX, whose code
changed over time, and its repository has none. So its MSE and MAE have no known unit; this tries them all.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdstbench import ENGINE
from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.card import Dataset
from hdstbench.metrics.correlation import pearson_per_unit
from hdstbench.metrics.error import mae, mse
from hdstbench.protocol.panel import Panel, choose_panel, read_panel
from hdstbench.protocol.rules import find_rules, printed_panel
from hdstbench.protocol.slide import all_counts
from hdstbench.protocol.splits import Split
from hdstbench.protocol.target import MEDIAN, SCALE, Target, find_target
from hdstbench.protocol.task import Task, data_hash
from hdstbench.report.reported import METRICS, Metric, Score

PRINTED, ALL_SLIDES, TRAINING = "printed", "top 250 of all slides", "top 250 of the training slides"

Transform = Callable[[FloatArray, IntArray], FloatArray]
"""Counts of the panel [N, G] and library sizes over all genes [N] of one slide to a target [N, G]."""


def _named(name: str) -> Transform:
    target = find_target(name)
    return lambda counts, library: target.of_slide(library).from_counts(counts, library).astype(np.float64)


def _per_10k_of_panel(counts: FloatArray, library: IntArray) -> FloatArray:
    return np.asarray(SCALE * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


TARGETS: Mapping[str, tuple[str, Transform]] = {
    MEDIAN: ("ln(1 + counts / library x median library of the slide)", _named(MEDIAN)),
    Target().name: ("ln(1 + counts / library x 10,000), library over all genes", _named(Target().name)),
    "triplex-release": (
        "log10(1 + counts / sum over the panel x 10,000): TRIPLEX's release, without its smoothing",
        lambda counts, library: np.log10(1 + _per_10k_of_panel(counts, library)),
    ),
    "triplex-refactored": (
        "ln(1 + counts / sum over the panel x 10,000): TRIPLEX's later code",
        lambda counts, library: np.log1p(_per_10k_of_panel(counts, library)),
    ),
    "asign": (
        "ln((counts + 1) / sum over the panel of (counts + 1)): ASIGN, by the same authors",
        lambda counts, library: np.log((counts + 1) / (counts + 1).sum(axis=1, keepdims=True)),
    ),
    "raw-log1p": ("ln(1 + counts)", lambda counts, library: np.log1p(counts)),
}
"""Candidates by name, in words and as functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The training mean under one target and panel: mean and sd over folds."""

    target: str
    panel: str
    genes: int
    scores: dict[str, Score]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All candidates on one data set at one resolution; `key` names what they were computed from."""

    stem: str
    dataset: str
    title: str
    resolution: str
    split: str
    simulated: bool
    folds: int
    key: str
    rows: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A job as far as this needs it: its data, and its split's folds that were asked for."""

    stem: str
    dataset: Dataset
    task: Task
    split: Split
    folds: Sequence[int]
    folders: Mapping[str, Path]

    @property
    def key(self) -> str:
        """Changes with anything that changes the listing."""
        data = [data_hash(self.split, fold, self.folders) for fold in self.folds]
        text = json.dumps([ENGINE, self.task.hash, list(TARGETS), data])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def list_candidates(source: Source) -> Listing:
    """Score the training mean under every target and panel of every fold."""
    found: dict[tuple[str, str], list[dict[Metric, float]]] = {}
    genes: dict[str, int] = {}
    for fold in source.folds:
        for name, panel in _panels(source, fold).items():
            ids = [panel.genes[i] for i in panel.mean250]
            genes[name] = len(ids)
            for target, scores in _fold_scores(source, fold, ids).items():
                found.setdefault((target, name), []).append(scores)
    rows = [
        Candidate(
            target=target,
            panel=panel,
            genes=genes[panel],
            scores={metric: _over([scores[metric] for scores in folds]) for metric in METRICS},
        )
        for (target, panel), folds in sorted(found.items(), key=lambda item: _order(*item[0]))
    ]
    card = source.dataset.card
    return Listing(
        stem=source.stem,
        dataset=card.name,
        title=card.title,
        resolution=source.task.resolution,
        split=source.split.title,
        simulated=card.simulated,
        folds=len(source.folds),
        key=source.key,
        rows=tuple(rows),
    )


def _order(target: str, panel: str) -> tuple[int, int]:
    return list(TARGETS).index(target), (PRINTED, ALL_SLIDES, TRAINING).index(panel)


def _over(values: Sequence[float]) -> Score:
    return Score(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"))


def _panels(source: Source, fold: int) -> dict[str, Panel]:
    """The panels of a fold, by name."""
    every = [source.folders[name] for name in source.split.slides]
    train = [source.folders[name] for name in source.split.train_of(fold)]
    target = find_target(find_rules(source.task.protocol).target)
    out = {
        ALL_SLIDES: choose_panel(train, every, target, ranked=every),
        TRAINING: choose_panel(train, every, target),
    }
    if name := printed_panel(source.dataset.card, source.task.resolution):
        out[PRINTED] = choose_panel(train, every, target, read_panel(source.dataset, name))
    return out


def _fold_scores(source: Source, fold: int, genes: Sequence[str]) -> dict[str, dict[Metric, float]]:
    """Each metric of the training mean by target, meaned over the fold's test slides."""
    test, train = source.split.folds[fold].test, source.split.train_of(fold)
    counts = {name: _counts(source.folders[name], genes) for name in (*train, *test)}
    out: dict[str, dict[Metric, float]] = {}
    for target, (_, transform) in TARGETS.items():
        values = {name: transform(*counts[name]) for name in counts}
        mean = np.concatenate([values[name] for name in train]).mean(axis=0)
        each = [_scores(np.broadcast_to(mean, values[name].shape), values[name]) for name in test]
        out[target] = {metric: float(np.mean([scores[metric] for scores in each])) for metric in METRICS}
    return out


def _scores(predicted: FloatArray, measured: FloatArray) -> dict[Metric, float]:
    return {
        "mse": mse(predicted, measured),
        "mae": mae(predicted, measured),
        "pcc": float(pearson_per_unit(predicted, measured).mean()),
    }


def _counts(folder: Path, genes: Sequence[str]) -> tuple[FloatArray, IntArray]:
    """Counts of some genes [N, G] and library sizes over all genes [N]."""
    ids, counts, library, _ = all_counts(folder)
    place = {name: i for i, name in enumerate(ids)}
    columns = [place[name] for name in genes]
    return np.asarray(counts[:, columns].toarray(), np.float64), library
