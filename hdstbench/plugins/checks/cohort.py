"""The planted slides of a trial, parted into training, validation and test as a task parts them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdstbench.plugins.checks.planted import BRIGHT, CONSTANT, GENES, NOISE, PLACE, make_slide
from hdstbench.protocol.inner import split_inner
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.target import find_target

HELD, VALIDATES = (1, 6, 8, 14), (4, 11)
"""Blocks of a training slide, of sixteen in four rows, that test and validate a task within slides."""
FEW_BLOCKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Labelled views of planted slides; the training slides are of two patients.

    Attributes:
        train: Training views.
        val: Views of other blocks of the training slides.
        test: Units that are in neither.
        other: More units, another number of them.
        signal: The gene that can be learnt.
        prepared: Prepared folder of the test slide.
    """

    train: tuple[Slide, ...]
    val: tuple[Slide, ...]
    test: Slide
    other: Slide
    signal: str
    prepared: Path

    def few(self) -> tuple[Slide, ...]:
        """Some blocks of each training view."""
        return tuple(slide.take(np.concatenate(slide.blocks()[:FEW_BLOCKS])) for slide in self.train)


@dataclass(frozen=True, slots=True)
class Slides:
    """Prepared folders of planted slides: two to train on, and one to test on, if it is not one of them.

    Attributes:
        folders: Of the two, or three, slides.
        within: Whether the test units lie on training slides.
    """

    folders: tuple[Path, ...]
    within: bool

    @property
    def signal(self) -> str:
        """The gene that can be learnt: by its place within a slide, by brightness else."""
        return PLACE if self.within else BRIGHT

    @property
    def panels(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Two orders of the same genes, neither sorted nor the table's."""
        return (NOISE, self.signal, CONSTANT), (CONSTANT, NOISE, self.signal)

    def open(self, genes: tuple[str, ...]) -> Cohort:
        """Open the slides with a panel; no array is shared with what was opened before."""
        slides = [open_slide(folder, genes, find_target("log1p-cp10k")) for folder in self.folders]
        if self.within:
            parts = [_within(slide) for slide in slides]
            test, other = (part[2] for part in parts)
        else:
            parts = [(*split_inner(slide), slide) for slide in slides[:2]]
            test, other = slides[2], slides[0]
        return Cohort(
            train=tuple(part[0] for part in parts),
            val=tuple(part[1] for part in parts),
            test=test,
            other=other,
            signal=self.signal,
            prepared=self.folders[0 if self.within else 2],
        )


def write_slides(folder: Path, *, within: bool) -> Slides:
    """Make planted slides; the test slide is smaller than the others, and turned."""
    genes = (*GENES, PLACE) if within else GENES
    made = [make_slide(folder, "a", seed=1, genes=genes), make_slide(folder, "b", seed=2, genes=genes)]
    if not within:
        made.append(make_slide(folder, "c", seed=3, side_um=384, turn=0.3))
    return Slides(tuple(planted.folder for planted in made), within)


def _within(slide: Slide) -> tuple[Slide, Slide, Slide]:
    """Training, validation and test blocks of one slide."""
    blocks = slide.blocks()
    held = {*HELD, *VALIDATES}
    train = [number for number in range(len(blocks)) if number not in held]
    first, second, third = (
        slide.take(np.sort(np.concatenate([blocks[number] for number in numbers])))
        for numbers in (train, VALIDATES, HELD)
    )
    return first, second, third
