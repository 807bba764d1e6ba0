"""What a fold's target takes from the fold's training units, and from nothing else."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import sparse

from hdstbench.arrays import CSR, IntArray
from hdstbench.protocol.panel import Panel
from hdstbench.protocol.slide import all_counts
from hdstbench.protocol.target import FITTED, TRAINING_MEDIAN, Target
from hdstbench.protocol.transforms import Fit


def fit_target(target: Target, panel: Panel, rows: Mapping[Path, IntArray]) -> Target:
    """Give a target what it needs of the training units, those of inner validation included.

    Args:
        target: By its name alone.
        panel: The fold's genes.
        rows: Training units of each prepared training slide.
    """
    if target.base not in (*FITTED, TRAINING_MEDIAN):
        return target
    tables: set[str] = set()
    sizes, low, high = [], [], []
    for folder, units in rows.items():
        ids, counts, library, _ = all_counts(folder)
        place = {name: i for i, name in enumerate(ids)}
        mine: CSR = sparse.csr_array(counts[units][:, [place[gene] for gene in panel.genes]])
        tables |= place.keys()
        sizes.append(library[units])
        if len(units):
            low.append(mine.min(axis=0).toarray().ravel())
            high.append(mine.max(axis=0).toarray().ravel())
    fit = Fit(
        genes=len(tables),
        columns=tuple(panel.mean250.tolist()),
        low=tuple(np.min(low, axis=0).astype(float).tolist()),
        high=tuple(np.max(high, axis=0).astype(float).tolist()),
    )
    return target.fitted(fit, np.concatenate(sizes))
