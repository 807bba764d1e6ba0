"""Who is trained on what: split files, checked and hashed."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from hdstbench.data.card import Dataset
from hdstbench.errors import DataError, MissingError
from hdstbench.strict import build, read_toml

MIN_PARTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldTable:
    """Slides of one fold; everything else of the split trains unless `train` names slides."""

    test: tuple[str, ...]
    train: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A split file.

    Attributes:
        unit: What is held out together; "block" divides the blocks of every slide, so that each slide
            is in training and in test.
        title: Stands over the tables.
        folds: None in a file that divides blocks; its folds then are the parts.
        leaky: The split separates slides of one patient, or parts of one slide, on purpose.
        slides: The slides that take part; empty for all of the card.
        parts: Into how many parts blocks are divided.
    """

    unit: Literal["patient", "slide", "block"]
    title: str
    folds: tuple[FoldTable, ...] = ()
    leaky: bool = False
    slides: tuple[str, ...] = ()
    parts: int = 0
    name: str = ""

    @property
    def hash(self) -> str:
        """Twelve digits that change with the split's content."""
        content = {name: value for name, value in asdict(self).items() if name != "parts" or value}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def within(self) -> bool:
        """Whether the slides that are tested are trained on too, in other parts."""
        return self.unit == "block"

    def train_of(self, fold: int) -> tuple[str, ...]:
        """Slides that fold `fold` is trained on."""
        table = self.folds[fold]
        return table.train or tuple(s for s in self.slides if s not in table.test)


def load_split(dataset: Dataset, name: str | None) -> Split:
    """Read a split of a data set, the first of its card by default.

    Raises:
        MissingError: If the card has no such split.
        DataError: If the file names unknown slides, or a slide on both sides of a fold.
    """
    card = dataset.card
    if not card.splits:
        msg = (
            f"data set {card.name} has no split: it holds {len(card.samples)} slides, and a benchmark needs "
            "several patients; write a card of your own that joins slides"
        )
        raise MissingError(msg)
    name = name or next(iter(card.splits))
    if name not in card.splits:
        msg = f"data set {card.name} has no split {name!r}; it has {', '.join(card.splits)}"
        raise MissingError(msg)
    place = dataset.place.joinpath(card.splits[name])
    split = build(Split, {**read_toml(place), "name": name}, str(place))
    known = tuple(sample.id for sample in card.samples)
    split = replace(split, slides=split.slides or known)
    _check_parts(split, str(place))
    if split.within:
        split = replace(split, folds=(FoldTable(test=split.slides, train=split.slides),) * split.parts)
    _check(split, known, str(place))
    return split


def _check_parts(split: Split, where: str) -> None:
    good = split.parts >= MIN_PARTS and not split.folds if split.within else not split.parts
    if not good:
        msg = (
            f"{where}: parts = {split.parts} and {len(split.folds)} folds with unit {split.unit!r}; a split "
            f"of blocks wants parts = {MIN_PARTS} or more and no fold, any other no parts"
        )
        raise DataError(msg)


def _check(split: Split, known: tuple[str, ...], where: str) -> None:
    problem = "" if split.folds else "no fold"
    unknown = set(split.slides) - set(known)
    if unknown:
        problem = f"unknown slide {', '.join(sorted(unknown))}; the card has {', '.join(known)}"
    for number in range(len(split.folds)):
        test, train = set(split.folds[number].test), set(split.train_of(number))
        if not test or not train:
            problem = f"fold {number} has {len(test)} test and {len(train)} training slides"
        elif test & train and not split.within:
            problem = f"fold {number} has {', '.join(sorted(test & train))} on both sides"
        elif (test | train) - set(split.slides):
            names = ", ".join(sorted((test | train) - set(split.slides)))
            problem = f"fold {number} names {names}, which the split does not have"
    if problem:
        msg = f"{where}: {problem}"
        raise DataError(msg)
