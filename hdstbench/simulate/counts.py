"""Draw molecules from cells, let them drift, and catch them on the 2 um grid."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hdstbench.arrays import CSR, FloatArray, IntArray
from hdstbench.rng import stream
from hdstbench.simulate.constants import COUNTS, GENES, VERSION
from hdstbench.simulate.expression import GeneModel, Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Molecules:
    """Every captured molecule of a slide: its gene and its place in the array frame (um), [M]."""

    gene: IntArray
    u: FloatArray
    v: FloatArray


def draw(
    rates: Rates,
    genes: GeneModel,
    cells_um: tuple[FloatArray, FloatArray],
    overdispersion: float,
    names: tuple[str | int, ...],
) -> Molecules:
    """Draw one slide's molecules.

    Args:
        rates: Expected molecules of each cell.
        genes: The cohort's genes.
        cells_um: Places of the cells in the array frame, u and v.
        overdispersion: Scales the variance of the bursts; 0 leaves Poisson counts.
        names: Name the draw.
    """
    rng = stream("simulate", VERSION, "molecules", *names)
    u, v = cells_um
    counts = rng.poisson(_bursts(rates, overdispersion, rng))
    cell, gene = np.nonzero(counts)
    times = counts[cell, gene]
    rest_cell, rest_gene = _rest(rates, genes, rng)
    cell = np.concatenate([np.repeat(cell, times), rest_cell]).astype(np.int32)
    gene = np.concatenate([np.repeat(gene, times), rest_gene]).astype(np.int32)
    du, dv = _drift(len(cell), rng)
    return Molecules(gene=gene, u=u[cell] + du, v=v[cell] + dv)


def _bursts(rates: Rates, overdispersion: float, rng: np.random.Generator) -> FloatArray:
    if overdispersion == 0:
        return rates.modelled
    shape = rates.shape / overdispersion
    factor = rng.standard_gamma(np.broadcast_to(shape, rates.modelled.shape)) / shape
    return np.asarray(rates.modelled * factor)


def _rest(rates: Rates, genes: GeneModel, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Background genes follow a cell's size alone; a few are outside the probe set."""
    count = rng.poisson(rates.rest)
    cell = np.repeat(np.arange(len(count)), count)
    share = np.concatenate([genes.rest_share, np.full(GENES.raw_only, genes.rest_share.min())])
    edges = np.cumsum(share / share.sum())
    return cell, len(genes.kind) + np.searchsorted(edges, rng.random(len(cell)))


def _drift(count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    near, far = (np.hypot(COUNTS.cell_sigma_um, s) for s in drift_sigmas())
    sigma = np.where(rng.random(count) < COUNTS.far_share, far, near).astype(np.float32)
    step = rng.standard_normal((2, count), dtype=np.float32) * sigma
    return step[0], step[1]


def drift_sigmas() -> tuple[float, float]:
    """Standard deviations of lateral diffusion in um: the bulk and the tail."""
    return COUNTS.near_sigma_um, COUNTS.far_sigma_um


def bin_counts(molecules: Molecules, squares: int, genes: int, names: tuple[str | int, ...]) -> CSR:
    """Count molecules on a grid of `squares` x `squares` 2 um squares.

    Rows and columns differ in how much they catch, as their widths do on a slide.

    Returns:
        int32 [squares^2, genes]; row = array_row * squares + array_col.
    """
    rng = stream("simulate", VERSION, "stripes", *names)
    catch = np.minimum(1, np.exp(rng.normal(COUNTS.stripe_mean, COUNTS.stripe_sd, (2, squares))))
    col, row = (np.floor(a / 2).astype(np.int64) for a in (molecules.u, molecules.v))
    ok = (row >= 0) & (row < squares) & (col >= 0) & (col < squares)
    row, col, gene = row[ok], col[ok], molecules.gene[ok]
    kept = rng.random(len(row)) < catch[0, row] * catch[1, col]
    key, count = np.unique((row * squares + col)[kept] * genes + gene[kept], return_counts=True)
    shape = (squares * squares, genes)
    indptr = np.searchsorted(key, np.arange(shape[0] + 1) * genes)
    return sparse.csr_array((count.astype(np.int32), key % genes, indptr), shape=shape)
