"""What is asked: data set, resolution, protocol, target, panel rule and split; and its folds."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.prepared import load_manifest
from hdstbench.errors import DataError
from hdstbench.protocol.fitting import fit_target
from hdstbench.protocol.inner import split_inner, split_part
from hdstbench.protocol.markers import add_markers
from hdstbench.protocol.panel import RULE_EVERY, Panel, choose_panel
from hdstbench.protocol.rules import find_rules
from hdstbench.protocol.slide import UNIT, Slide, open_slide, sampled
from hdstbench.protocol.splits import Split
from hdstbench.protocol.target import Target, find_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything that makes two scores comparable, except the slides' content.

    `panel` is the rule by which genes are chosen, or the name and hash of a list of genes, which
    `listed` holds; `markers` are genes that are predicted beside them.
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
    markers: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        """What names the task in a record."""
        named = {name: value for name, value in self._asked().items() if name != "listed"}
        return {name: ",".join(value) if name == "markers" else value for name, value in named.items()}

    def _asked(self) -> dict[str, Any]:
        """All fields, but for markers where there are none: a task without is what it was before them."""
        return {name: value for name, value in asdict(self).items() if name != "markers" or value}

    @property
    def hash(self) -> str:
        """Twelve digits that change with any of the fields."""
        return hashlib.sha256(json.dumps(self._asked(), sort_keys=True).encode()).hexdigest()[:12]


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
        task: Names protocol, target and panel rule.
        split: The split.
        number: Which fold.
        folders: Prepared folder of every slide of the split.
    """
    target = find_target(task.target)
    sides = _sides(split, number, folders, target)
    rules, every = find_rules(task.protocol), [folders[name] for name in split.slides]
    names = [folders[name] for name in sides.train]
    trained = {folders[name]: units for name, units in sides.train.items()}
    rows = trained if split.within else None
    ranked = every if task.panel == RULE_EVERY else ()
    ranking = find_target(rules.target)  # so that genes do not depend on the target
    panel = choose_panel(names, every, ranking, task.listed, rows=rows, ranked=ranked)
    panel = add_markers(panel, task.markers, names, every, rows)
    target = fit_target(target, panel, trained)
    whole = [
        open_slide(folders[name], panel.genes, target).take(units) for name, units in sides.train.items()
    ]
    parts = [split_inner(slide) if rules.inner else (slide, slide.take(np.arange(0))) for slide in whole]
    sums = [slide.need_labels().target().sum(axis=0, dtype=np.float64) for slide in whole]
    return Fold(
        number=number,
        panel=panel,
        train=tuple(train for train, _ in parts),
        val=tuple(val for _, val in parts if len(val)),
        test=tuple(
            TestSlide(
                slide=open_slide(folders[name], panel.genes, target),
                headline=units,
                left_out=_left_out(folders[name], units),
            )
            for name, units in sides.test.items()
        ),
        train_mean=np.sum(sums, axis=0) / sum(map(len, whole)),
    )


@dataclass(frozen=True, slots=True)
class _Sides:
    """Units of each slide that a fold trains on, inner validation included, and that it tests."""

    train: Mapping[str, IntArray]
    test: Mapping[str, IntArray]


def _sides(split: Split, number: int, folders: Mapping[str, Path], target: Target) -> _Sides:
    """Part the sampled units, by slide or within slides; nothing but places is looked at.

    Raises:
        DataError: If slides are too small to be divided.
    """
    test = split.folds[number].test
    if not split.within:
        names = split.train_of(number)
        return _Sides({n: sampled(folders[n]) for n in names}, {n: sampled(folders[n]) for n in test})
    pairs = {
        name: split_part(
            open_slide(folders[name], (), target).take(sampled(folders[name])), split.parts, number
        )
        for name in test
    }
    sides = _Sides(
        *({name: pair[i].rows(UNIT) for name, pair in pairs.items() if len(pair[i])} for i in (0, 1))
    )
    if not sides.train or not sides.test:
        msg = (
            f"fold {number} of split {split.name} leaves {len(sides.train)} slides to train on and "
            f"{len(sides.test)} to test: they have too few blocks for {split.parts} parts; take fewer parts"
        )
        raise DataError(msg)
    return sides


def _left_out(folder: Path, units: IntArray) -> dict[str, int]:
    """Why units in tissue are not tested, and how many."""
    others = len(sampled(folder)) - len(units)
    parts = {"in other parts": others} if others else {}
    return {**load_manifest(folder).left_out, **parts}


def data_hash(split: Split, number: int, folders: Mapping[str, Path]) -> str:
    """Hash of the content and the patient of every prepared slide that a fold depends on."""
    names = (*split.train_of(number), *split.folds[number].test)
    slides = [load_manifest(folders[name]) for name in names]
    content = [(s.slide, s.patient, s.pixels, s.labels) for s in slides]
    genes = sorted(load_manifest(folders[name]).labels for name in split.slides)
    return hashlib.sha256(json.dumps([content, genes]).encode()).hexdigest()[:12]
