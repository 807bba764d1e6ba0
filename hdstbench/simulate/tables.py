"""The simulated genes' names, and grids summed from the 2 um counts."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hdstbench.arrays import CSR, BoolArray, IntArray
from hdstbench.rng import stream
from hdstbench.simulate.constants import GENES, VERSION
from hdstbench.simulate.expression import GeneModel


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneTable:
    """Names of all genes in file order; `column` [G] says which simulated gene each one is."""

    ids: tuple[str, ...]
    symbols: tuple[str, ...]
    column: IntArray
    on_target: BoolArray  # in the probe set, so in the filtered matrix

    def probes(self) -> "GeneTable":
        """Return the genes of the filtered matrix."""
        keep = np.flatnonzero(self.on_target)
        return GeneTable(
            ids=tuple(self.ids[i] for i in keep),
            symbols=tuple(self.symbols[i] for i in keep),
            column=self.column[keep],
            on_target=self.on_target[keep],
        )


def gene_table(genes: GeneModel, seed: int) -> GeneTable:
    """Name the genes: a symbol begins with the gene's class, an id says that it is simulated."""
    total = len(genes.kind) + GENES.rest + GENES.raw_only
    symbols = [f"{kind}{i:04d}" for i, kind in enumerate(genes.kind)]
    symbols += [f"REST{i:04d}" for i in range(GENES.rest)]
    symbols += [f"RAWONLY{i:03d}" for i in range(GENES.raw_only)]
    for i in range(GENES.duplicate_symbols):  # two genes of one symbol, as in real references
        symbols[-GENES.raw_only - 1 - i] = symbols[i]
    column = stream("simulate", VERSION, "gene-order", seed).permutation(total)
    return GeneTable(
        ids=tuple(f"ENSGSIM{i:08d}" for i in column),
        symbols=tuple(symbols[i] for i in column),
        column=column,
        on_target=column < total - GENES.raw_only,
    )


def coarsen(counts: CSR, squares: int, scale: int) -> tuple[CSR, int]:
    """Sum 2 um squares into bins of `scale` x `scale`; edge bins may be partial.

    Returns:
        The counts, int32 [side^2, G] with row = array_row * side + array_col, and the side.
    """
    side = -(-squares // scale)
    row, col = np.divmod(np.arange(squares * squares), squares)
    parent = row // scale * side + col // scale
    ones = np.ones(len(parent), np.int32)
    sums = sparse.csr_array((ones, (parent, np.arange(len(parent)))), shape=(side * side, len(parent)))
    return sparse.csr_array(sums @ counts), side


def coarsen_mask(mask: BoolArray, scale: int) -> BoolArray:
    """A bin is in tissue if any 2 um square in it is, [side, side]."""
    side = -(-mask.shape[0] // scale)
    padded = np.zeros((side * scale, side * scale), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(padded.reshape(side, scale, side, scale).any(axis=(1, 3)))
