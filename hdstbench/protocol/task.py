"""What is asked: data set, resolution, protocol, target, panel rule and split; and its folds."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.prepared import load_manifest
from hdstbench.protocol.inner import split_inner
from hdstbench.protocol.panel import Panel, choose_panel
from hdstbench.protocol.slide import Slide, open_slide, sampled
from hdstbench.protocol.splits import Split
from hdstbench.protocol.target import find_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything that makes two scores comparable, except the slides' content.

    `panel` is the rule by which genes are chosen, or the name and hash of a list of genes, which
    `listed` holds.
    """

    dataset: str
    resolution: str
    split: str
    split_hash: str
    panel: str
    target: str = "log1p-cp10k"
    protocol: str = "hd"
    bins: str = "sample"
    listed: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        """What names the task in a record."""
        return {name: value for name, value in asdict(self).items() if name != "listed"}

    @property
    def hash(self) -> str:
        """Twelve digits that change with any of the fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSlide:
    """A slide that is tested: all its prepared units, which make the headline, and what was left out."""

    __test__ = False  # no pytest class

    slide: Slide
    headline: IntArray
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fold of a task, with slides opened on its own panel.

    `train_mean` [G] is the mean target of the units of the training slides.
    """

    number: int
    panel: Panel
    train: tuple[Slide, ...]
    val: tuple[Slide, ...]
    test: tuple[TestSlide, ...]
    train_mean: FloatArray


def open_fold(task: Task, split: Split, number: int, folders: Mapping[str, Path]) -> Fold:
    """Open fold `number` of a split on prepared slides.

    Args:
        task: Names target and panel rule.
        split: The split.
        number: Which fold.
        folders: Prepared folder of every slide of the split.
    """
    target = find_target(task.target)
    names = split.train_of(number)
    every = [folders[name] for name in split.slides]
    panel = choose_panel([folders[name] for name in names], every, target, task.listed)
    whole = [_headline(open_slide(folders[name], panel.genes, target), folders[name]) for name in names]
    parts = [split_inner(slide) for slide in whole]
    sums = [slide.need_labels().target().sum(axis=0, dtype=np.float64) for slide in whole]
    return Fold(
        number=number,
        panel=panel,
        train=tuple(train for train, _ in parts),
        val=tuple(val for _, val in parts if len(val)),
        test=tuple(
            TestSlide(
                slide=open_slide(folders[name], panel.genes, target),
                headline=sampled(folders[name]),
                left_out=load_manifest(folders[name]).left_out,
            )
            for name in split.folds[number].test
        ),
        train_mean=np.sum(sums, axis=0) / sum(map(len, whole)),
    )


def _headline(slide: Slide, folder: Path) -> Slide:
    return slide.take(sampled(folder))


def data_hash(split: Split, number: int, folders: Mapping[str, Path]) -> str:
    """Hash of the content and the patient of every prepared slide that a fold depends on."""
    names = (*split.train_of(number), *split.folds[number].test)
    slides = [load_manifest(folders[name]) for name in names]
    content = [(s.slide, s.patient, s.pixels, s.labels) for s in slides]
    genes = sorted(load_manifest(folders[name]).labels for name in split.slides)
    return hashlib.sha256(json.dumps([content, genes]).encode()).hexdigest()[:12]
