"""Which genes a fold is about, chosen from its training slides alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdstbench.arrays import CSR, FloatArray, IntArray
from hdstbench.errors import DataError
from hdstbench.protocol.slide import all_counts
from hdstbench.protocol.target import Target

RULE = "mean250+hvg50"
TOP_MEAN, TOP_VARIABLE = 250, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The genes of a fold.

    `genes` are predicted; `mean250` and `hvg50` number the columns of the headline set and of the
    most variable genes among them.
    """

    genes: tuple[str, ...]
    mean250: IntArray
    hvg50: IntArray

    @property
    def hash(self) -> str:
        """Twelve digits that change with the genes."""
        text = "\n".join(self.genes) + str(self.mean250.tolist()) + str(self.hvg50.tolist())
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def choose_panel(train: Sequence[Path], every: Sequence[Path], target: Target) -> Panel:
    """Choose a fold's genes.

    The headline set holds the 250 genes with the largest mean share of a training slide's counts;
    beside it stand the 50 with the largest variance of the target within training slides. Ties go
    to the smaller id.

    Args:
        train: Prepared training slides.
        every: Prepared slides of the whole split; a gene has to be in each one's table. Nothing
            but the gene ids of the test slides is looked at.
        target: The task's transform.

    Raises:
        DataError: If the slides share no gene.
    """
    tables = {folder: all_counts(folder)[0] for folder in every}
    shared = sorted(set.intersection(*(set(ids) for ids in tables.values())))
    if not shared:
        msg = f"the slides {', '.join(f.name for f in every)} have no gene id in common"
        raise DataError(msg)
    share, variance = np.zeros(len(shared)), np.zeros(len(shared))
    for folder in train:
        ids, counts, library, bulk = all_counts(folder)
        place = {name: i for i, name in enumerate(ids)}
        columns = np.array([place[name] for name in shared])
        share += bulk[columns] / max(bulk.sum(), 1) / len(train)
        variance += _variance(target, counts, library)[columns] / len(train)
    top = np.argsort(-share, kind="stable")[:TOP_MEAN]
    variable = np.argsort(-variance, kind="stable")[:TOP_VARIABLE]
    extra = variable[~np.isin(variable, top)]
    order = np.concatenate([top, extra])
    place_of = {int(gene): i for i, gene in enumerate(order)}
    return Panel(
        genes=tuple(shared[i] for i in order),
        mean250=np.arange(len(top)),
        hvg50=np.array([place_of[int(gene)] for gene in variable]),
    )


def _variance(target: Target, counts: CSR, library: IntArray) -> FloatArray:
    """Variance over units of every gene's target, [genes]."""
    values = target.from_sparse(counts, library)
    mean = np.asarray(values.mean(axis=0)).ravel()
    values.data **= 2
    return np.asarray(values.mean(axis=0)).ravel() - mean**2
