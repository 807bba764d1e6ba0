"""What a protocol fixes: units, target, panel, split, validation and the headline.

`hd` is the suite's own. `magnet-paper` follows the data preparation of Zhu et al., "MagNet", MIDL 2025,
arXiv 2502.21011, wherever it is known; docs/magnet-reproduction.md says where it is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hdstbench.data.card import Card, Dataset
from hdstbench.data.levels import Resolution
from hdstbench.data.tiles import tiled_resolution
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.splits import MIN_PARTS, FoldTable, Split, load_split
from hdstbench.protocol.target import MEDIAN, TRAINING_MEDIAN, find_target

Name = Literal["hd", "magnet-paper"]
PAPER: Name = "magnet-paper"
EACH = "each-slide"
"""The split that is made where a card has none with one slide a fold."""
LISTED = f"{PAPER}-"
"""Panels of a card that begin so are the paper's; the sizes they are for follow."""
SEES_TEST = "panel-sees-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One protocol.

    Attributes:
        target: The transform of counts.
        headline: The metric that tables are sorted by.
        inner: Whether part of the training slides validates.
        every: Whether all slides choose the 250 genes, the tested ones too.
        tiled: Whether units are drawn at random and coarser levels are tiles of the image.
    """

    name: Name
    target: str = "log1p-cp10k"
    headline: Literal["pcc_gene", "pcc_bin"] = "pcc_gene"
    inner: bool = True
    every: bool = False
    tiled: bool = False

    def resolution(self, card: Card, name: str) -> Resolution:
        """Look up a resolution of a data set.

        Raises:
            MissingError: If the card does not list it, or the protocol has no such units.
            DataError: If the protocol does not fit the data.
        """
        found = card.resolution(name)
        if not self.tiled:
            return found
        if card.native_um:
            msg = (
                f"protocol {self.name} draws bins of Visium HD and sums them in tiles; data set {card.name} "
                f"has spots of {card.native_um:g} um, choose protocol hd"
            )
            raise DataError(msg)
        return tiled_resolution(name)

    def split(self, dataset: Dataset, name: str) -> Split:
        """The split of that name, or the protocol's usual one.

        Raises:
            MissingError: If there is none.
            DataError: If its file is wrong, or it divides slides where the protocol wants them whole.
        """
        if not self.tiled:
            return load_split(dataset, name or None)
        split = load_split(dataset, name) if name else slide_folds(dataset)
        if split.within:
            msg = f"protocol {self.name} tests whole slides, split {split.name} parts of them; leave it out"
            raise DataError(msg)
        return split

    def target_named(self, name: str) -> str:
        """The target of that name, or the protocol's.

        The median library of `median-log1p` is that of the training units, and its name then says so,
        unless the protocol scales each slide by its own.

        Raises:
            MissingError: If there is none.
        """
        if not name:
            return self.target
        found = find_target(name)
        own = found.base == MEDIAN and not self.tiled
        return found.name.replace(MEDIAN, TRAINING_MEDIAN) if own else found.name

    def usual_split(self, dataset: Dataset) -> str:
        """Name of the split that is taken where none is named."""
        return slide_folds(dataset).name if self.tiled else next(iter(dataset.card.splits))

    def panel(self, card: Card, res: Resolution) -> str:
        """The list of genes that is usual for a resolution; empty if genes are chosen."""
        return (self.tiled and printed_panel(card, res.name)) or card.panel

    def flags(self, panel: str) -> tuple[str, ...]:
        """What tables have to say of a panel, empty for one that is chosen."""
        sees = panel.startswith(LISTED) if panel else self.every
        return (SEES_TEST,) if sees else ()


RULES: dict[str, Rules] = {
    rules.name: rules
    for rules in (
        Rules(name="hd"),
        Rules(name=PAPER, target=MEDIAN, headline="pcc_bin", inner=False, every=True, tiled=True),
    )
}


def find_rules(name: str) -> Rules:
    """Look up a protocol.

    Raises:
        MissingError: If there is none of that name.
    """
    if name not in RULES:
        msg = f"no protocol {name!r}; there are {', '.join(RULES)}"
        raise MissingError(msg)
    return RULES[name]


def printed_panel(card: Card, resolution: str) -> str:
    """The paper's printed panel for a resolution, as a card names it; empty if it has none."""
    fit = [name for name in card.panels if name.startswith(LISTED) and resolution in name.split("-")]
    return fit[0] if fit else ""


def slide_folds(dataset: Dataset) -> Split:
    """A card's first split that tests one slide a fold and trains on all others, or else one of all slides.

    The latter is declared leaky where a patient has several slides.

    Raises:
        MissingError: If the data set has one slide.
    """
    for name in dataset.card.splits:
        split = load_split(dataset, name)
        if not split.within and _is_each_slide(split):
            return split
    samples = dataset.card.samples
    if len(samples) < MIN_PARTS:
        msg = f"data set {dataset.card.name} holds {len(samples)} slide; folds of one slide each want several"
        raise MissingError(msg)
    slides = tuple(sample.id for sample in samples)
    patients = {sample.patient for sample in samples}
    return Split(
        unit="slide",
        title="each slide is a fold",
        folds=tuple(FoldTable(test=(slide,)) for slide in slides),
        leaky=len(patients) < len(slides),
        slides=slides,
        name=EACH,
    )


def _is_each_slide(split: Split) -> bool:
    tested: Sequence[tuple[str, ...]] = [fold.test for fold in split.folds]
    apart = sorted(tested) == sorted((slide,) for slide in split.slides)
    return apart and all(
        len(split.train_of(number)) == len(split.slides) - 1 for number in range(len(split.folds))
    )
