"""Marker genes that a user adds to a panel: found by id or symbol, predicted, and no part of the headline."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.prepared import load_manifest
from hdstbench.errors import MissingError
from hdstbench.protocol.panel import Panel
from hdstbench.protocol.slide import all_counts, symbols_of


def add_markers(
    panel: Panel,
    names: Sequence[str],
    train: Sequence[Path],
    every: Sequence[Path],
    rows: Mapping[Path, IntArray] | None = None,
) -> Panel:
    """Put marker genes behind a panel's columns, but for those that it has anyway.

    Args:
        panel: A fold's genes; its headline set and most variable genes stay what they are.
        names: Gene ids or symbols; of several ids of one symbol the one with the largest mean share of
            a training slide's counts is meant. A gene that is named twice is added once.
        train: Prepared training slides.
        every: Prepared slides of the whole split.
        rows: The units of each training slide that may be looked at; None for the whole tissue.

    Raises:
        MissingError: If a gene is not in every slide's table.
    """
    if not names:
        return panel
    genes, columns = list(panel.genes), {gene: i for i, gene in enumerate(panel.genes)}
    markers: dict[int, str] = {}
    for name, ids in zip(names, find_markers(names, every), strict=True):
        gene = ids[int(np.argmax(_share(ids, train, rows)))] if len(ids) > 1 else ids[0]
        if gene not in columns:
            columns[gene] = len(genes)
            genes.append(gene)
        markers.setdefault(columns[gene], name)
    return replace(panel, genes=tuple(genes), markers=tuple((name, i) for i, name in markers.items()))


def find_markers(names: Sequence[str], every: Sequence[Path]) -> list[list[str]]:
    """Ids that each name may mean: itself, or all ids of a symbol, sorted.

    Raises:
        MissingError: If a gene is not in every slide's table; names it and what looks like it.
    """
    tables = {folder: set(all_ids(folder)) for folder in every}
    shared = sorted(set.intersection(*tables.values()))
    symbols = symbols_of(every[0])
    named: dict[str, list[str]] = {}
    for gene in shared:
        named.setdefault(symbols[gene], []).append(gene)
    named |= {gene: [gene] for gene in shared}
    for name in names:
        if name not in named:
            raise MissingError(_missing(name, named, every))
    return [named[name] for name in names]


def all_ids(folder: Path) -> tuple[str, ...]:
    """Gene ids of a prepared slide's table."""
    return tuple(symbols_of(folder))


def _missing(name: str, named: Mapping[str, Sequence[str]], every: Sequence[Path]) -> str:
    """Say that a gene is in no table, or in which ones it is not."""
    without = []
    for folder in every:
        symbols = symbols_of(folder)
        if name not in symbols and name not in symbols.values():
            without.append(load_manifest(folder).slide)
    if len(without) < len(every):
        lack = ", ".join(without[:3]) or "some slides under the same id"
        return f"marker gene {name} is not in every slide's table; it is missing from {lack}"
    upper = {known.upper(): known for known in named}
    close = [upper[word] for word in get_close_matches(name.upper(), upper, n=3)]
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return f"no slide's table has the marker gene {name}{hint}"


def _share(ids: Sequence[str], train: Sequence[Path], rows: Mapping[Path, IntArray] | None) -> FloatArray:
    """Mean share of a training slide's counts of each gene, [ids]."""
    share = np.zeros(len(ids))
    for folder in train:
        known, counts, _, bulk = all_counts(folder)
        if rows is not None:
            bulk = np.asarray(counts[rows[folder]].sum(axis=0)).ravel()
        share += bulk[[known.index(gene) for gene in ids]] / max(bulk.sum(), 1) / len(train)
    return share
