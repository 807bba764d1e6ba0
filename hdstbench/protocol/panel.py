"""Which genes a fold is about, chosen from its training slides alone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hdstbench.arrays import CSR, FloatArray, IntArray
from hdstbench.data.card import Dataset
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.slide import all_counts, symbols_of
from hdstbench.protocol.target import Target

RULE = "mean250+hvg50"
RULE_EVERY = "mean250-of-all-slides+hvg50"
"""The tested slides choose the 250 genes too."""
TOP_MEAN, TOP_VARIABLE = 250, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The genes of a fold.

    `genes` are predicted; `mean250` and `hvg50` number the columns of the headline set and of the
    most variable genes among them. `markers` are genes that a user added, by name and column.
    """

    genes: tuple[str, ...]
    mean250: IntArray
    hvg50: IntArray
    markers: tuple[tuple[str, int], ...] = ()

    @property
    def hash(self) -> str:
        """Twelve digits that change with the genes."""
        text = "\n".join(self.genes) + str(self.mean250.tolist()) + str(self.hvg50.tolist())
        text += str(self.markers) if self.markers else ""
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def rule(name: str, listed: Sequence[str], *, every: bool = False) -> str:
    """How a task's genes are chosen, as its records say it; `every` if all slides rank them."""
    if not listed:
        return RULE_EVERY if every else RULE
    return f"{name}:{hashlib.sha256(chr(10).join(listed).encode()).hexdigest()[:12]}"


def read_panel(dataset: Dataset, name: str) -> tuple[str, ...]:
    """Read a card's list of genes: ids or symbols, one a line, `#` begins a comment.

    Raises:
        MissingError: If the card has no such panel.
        DataError: If the file is not there, is empty or repeats a gene.
    """
    if name not in dataset.card.panels:
        there = ", ".join(dataset.card.panels) or "none"
        msg = f"data set {dataset.card.name} has no panel {name!r}; it has {there}"
        raise MissingError(msg)
    place = dataset.place.joinpath(dataset.card.panels[name])
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{place}: {error}; wanted a gene id or symbol a line"
        raise DataError(msg) from error
    names = tuple(word for line in lines if (word := line.split("#")[0].strip()))
    if not names or len(set(names)) != len(names):
        msg = f"{place} lists {len(names)} genes, {len(set(names))} of them different; wanted each once"
        raise DataError(msg)
    return names


def choose_panel(
    train: Sequence[Path],
    every: Sequence[Path],
    target: Target,
    listed: Sequence[str] = (),
    *,
    rows: Mapping[Path, IntArray] | None = None,
    ranked: Sequence[Path] = (),
) -> Panel:
    """Choose a fold's genes.

    The headline set holds the 250 genes with the largest mean share of a training slide's counts, or
    those that are listed; beside it stand the 50 with the largest variance of the target within
    training slides. Ties go to the smaller id.

    Args:
        train: Prepared training slides.
        every: Prepared slides of the whole split; a gene has to be in each one's table. Nothing
            but the gene ids of the test slides is looked at.
        target: The task's transform.
        listed: Gene ids or symbols that take the place of the 250; those that a slide lacks are left
            out, and of several ids of one symbol the one with the largest share is meant.
        rows: The units of each training slide that may be looked at, where it is tested too; by
            default all prepared ones and, for the shares, the whole tissue.
        ranked: Slides whose mean shares choose the 250, where that is not left to the training slides.

    Raises:
        DataError: If the slides share no gene, or none of the listed ones.
    """
    tables = {folder: all_counts(folder)[0] for folder in every}
    shared = sorted(set.intersection(*(set(ids) for ids in tables.values())))
    if not shared:
        msg = f"the slides {', '.join(f.name for f in every)} have no gene id in common"
        raise DataError(msg)
    share, variance = _ranks(train, shared, target, rows)
    if ranked:
        share, _ = _ranks(ranked, shared, target, None)
    top: IntArray = np.argsort(-share, kind="stable")[:TOP_MEAN]
    if listed:
        top = _find(listed, shared, every[0], share)
    variable = np.argsort(-variance, kind="stable")[:TOP_VARIABLE]
    extra = variable[~np.isin(variable, top)]
    order = np.concatenate([top, extra])
    place_of = {int(gene): i for i, gene in enumerate(order)}
    return Panel(
        genes=tuple(shared[i] for i in order),
        mean250=np.arange(len(top)),
        hvg50=np.array([place_of[int(gene)] for gene in variable]),
    )


def _ranks(
    train: Sequence[Path], shared: Sequence[str], target: Target, rows: Mapping[Path, IntArray] | None
) -> tuple[FloatArray, FloatArray]:
    """Mean share of counts and mean variance of the target of each gene, [genes] both."""
    share, variance = np.zeros(len(shared)), np.zeros(len(shared))
    for folder in train:
        ids, counts, library, bulk = all_counts(folder)
        own = target.of_slide(library)
        if rows is not None:
            counts, library = counts[rows[folder]], library[rows[folder]]
            bulk = np.asarray(counts.sum(axis=0)).ravel()
        place = {name: i for i, name in enumerate(ids)}
        columns = np.array([place[name] for name in shared])
        share += bulk[columns] / max(bulk.sum(), 1) / len(train)
        spread = _variance(own, counts, library) if rows is not None else _whole_variance(folder, own)
        variance += spread[columns] / len(train)
    return share, variance


def _find(listed: Sequence[str], shared: Sequence[str], folder: Path, share: FloatArray) -> IntArray:
    """Numbers of the listed genes among the shared ones."""
    place: dict[str, int] = {}
    symbols = symbols_of(folder)
    for number in np.argsort(share, kind="stable"):  # the largest share comes last and stays
        place[symbols[shared[number]]] = int(number)
    place |= {name: number for number, name in enumerate(shared)}
    found = list(dict.fromkeys(place[name] for name in listed if name in place))
    if not found:
        msg = f"none of the {len(listed)} listed genes, such as {listed[0]}, is in every slide's table"
        raise DataError(msg)
    return np.array(found)


@lru_cache(maxsize=32)
def _whole_variance(folder: Path, target: Target) -> FloatArray:
    """Of all prepared units of a slide: the cells of a worker ask for the same ones, fold after fold."""
    _, counts, library, _ = all_counts(folder)
    return _variance(target, counts, library)


def _variance(target: Target, counts: CSR, library: IntArray) -> FloatArray:
    """Variance over units of every gene's target, [genes]."""
    values = target.from_sparse(counts, library)
    mean = np.asarray(values.mean(axis=0)).ravel()
    values.data **= 2
    return np.asarray(values.mean(axis=0)).ravel() - mean**2
