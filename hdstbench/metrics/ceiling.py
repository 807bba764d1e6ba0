"""How well a gene could be predicted at all: what its counts would tell of a second measurement."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from hdstbench.arrays import CSR, BoolArray, FloatArray, IntArray
from hdstbench.metrics.thinning import Depth, Sampler, Shared, Transform, sparse_counts

VERSION = 1
"""Raise when numbers change: stored ceilings carry it."""
SPLITS, GROUPS, MIN_GROUPS, MOST_UNITS = 6, 40, 5, 20_000
LEVEL = 0.95
FLAT = 1e-6
"""Share of a gene's variance below which it is constant once a group is left out."""
LEAST, MOST = 0.5, 1.25
"""Limits of the exponent by which odds grow with depth; 1 is Spearman and Brown's."""
WIDTH, ANCHORS, STEPS = 0.7, 9, 24
"""Of the window over genes of like depth in doublings, places it is put at, and halvings of the search."""
SPREAD = 0.15
"""Standard deviation of a gene's own exponent around its window's, as seen in docs/ceilings.md."""
UNCLEAR = 0.02
"""Weight of a gene without clear signal in the mean over a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """Attainable correlation of each gene, A = sqrt(corr(Y, Y')), [G] each.

    Numbers are NaN for a gene whose target is constant, or that of its thinned parts, and on fewer than two
    units; it is then not measurable.

    Attributes:
        low: sqrt(r), r the correlation of thinned halves: exact at half the depth. 0 where r is negative.
        high: sqrt(2r / (1 + r)), Spearman and Brown's extrapolation to full depth.
        value: Extrapolation from a quarter and a half to full depth.
        sd: Standard error of `value`, what genes differ from the extrapolation included; NaN with fewer
            than five groups of units.
        half: r itself, signed.
        half_sd: Its standard error; NaN where `sd` is.
        measurable: Whether the lower 95 % limit of r is above 0; False where no error is known.
        beyond_depth: The same for r after what a cubic in log library size explains is taken from the
            halves: a gene of constant share is measurable where library sizes differ, but not beyond them.
    """

    low: FloatArray
    high: FloatArray
    value: FloatArray
    sd: FloatArray
    half: FloatArray
    half_sd: FloatArray
    measurable: BoolArray
    beyond_depth: BoolArray


def ceiling(
    counts: CSR | IntArray,
    library: IntArray,
    transform: Transform,
    rng: np.random.Generator,
    block: IntArray | None = None,
) -> Ceiling:
    """Estimate the correlation with the target that a perfect model would reach, per gene.

    Y' is a second measurement of the same units with the same rates and library sizes. Counts are thinned
    into halves and quarters, each normalised by its own library size. Standard errors are a jackknife's
    over up to 40 groups of whole blocks, of the whole procedure. On more than 20,000 units it is done for
    as many of them, in whole blocks, drawn at random.

    Args:
        counts: Of the panel, [N, G].
        library: Counts over all genes, [N].
        transform: The task's target of counts and library sizes.
        rng: Of all draws.
        block: Units of one block are taken as dependent, [N]; by default each is on its own.

    Raises:
        ValueError: If shapes differ, a count is negative or a library smaller than its panel's counts.
    """
    depth = _checked(counts, library, block)
    order, starts = _grouped(np.arange(len(library)) if block is None else block, rng)
    if len(order) < 2:  # noqa: PLR2004
        return nothing(depth.counts.shape[1])
    sampler = Sampler(Depth(depth.counts[order], depth.library[order]), transform, starts)
    drawn = [sampler.draw(rng) for _ in range(SPLITS)]
    varies = np.ptp(sampler.values(sampler.depth), axis=0) > 0
    half, quarter, rest = (
        np.where(varies, _correlation([draw[i] for draw in drawn]), np.nan) for i in range(3)
    )
    mean = np.asarray(sampler.depth.counts.mean(axis=0)).ravel()
    return _summed_up(half, extrapolate(quarter, half, mean, _clarity(rest)), rest)


def _checked(counts: CSR | IntArray, library: IntArray, block: IntArray | None) -> Depth:
    matrix = sparse_counts(counts)
    if matrix.shape[0] != len(library) or (block is not None and len(block) != len(library)):
        msg = f"got {matrix.shape[0]} units with counts, {len(library)} library sizes"
        msg += "" if block is None else f" and {len(block)} blocks"
        raise ValueError(msg + "; wanted as many of each")
    if (np.asarray(matrix.sum(axis=1)) > library).any():
        msg = "a library size is below the sum of its panel; give counts over all genes"
        raise ValueError(msg)
    return Depth(matrix, np.asarray(library, np.int64))


def _grouped(block: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Deal blocks out to groups at random: units in the order of groups, and where each group begins."""
    _, block = np.unique(block, return_inverse=True)
    size = np.bincount(block)
    place = rng.permutation(len(size))  # each block's turn
    turn = np.argsort(place)
    before = np.cumsum(size[turn]) - size[turn]
    kept = before[place] < MOST_UNITS
    group = np.where(kept, place % GROUPS, GROUPS)[block]
    order = np.argsort(group, kind="stable")
    order = order[group[order] < GROUPS]
    return order, np.flatnonzero(np.diff(group[order], prepend=-1))


def nothing(genes: int) -> Ceiling:
    """Ceilings of which nothing is known."""
    return _summed_up(*[np.full((1, genes), np.nan)] * 3)


def _correlation(splits: list[Shared]) -> FloatArray:
    """Correlation of parts over all splits, of all units and without each group, [1 + B, G]."""
    moments = [split.moments() for split in splits]
    covariance, variance = (np.sum([m[i] for m in moments], axis=0) for i in (0, 1))
    flat = ~(variance > FLAT * np.abs(variance[:1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flat, np.nan, covariance / variance)


def deepen(r: FloatArray, exponent: FloatArray | float = 1.0) -> FloatArray:
    """Correlation at twice the depth, the odds r / (1 - r) growing by 2^exponent.

    With an exponent of 1 it is 2r / (1 + r), the formula of Spearman and Brown (1910). Negative values,
    which are chance, mirror positive ones.
    """
    growth = 2.0**exponent
    return np.asarray(growth * r / (1 + (growth - 1) * np.abs(r)))


def _clarity(rest: FloatArray) -> FloatArray:
    """How much a gene says about the growth of patterns with depth, near 1 where its signal is clear, [G].

    What library sizes explain grows otherwise, and falls in the end.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        clear = 1 - (2 * _jackknife(rest) / np.maximum(rest[0], 0)) ** 2
    return np.asarray(np.clip(np.nan_to_num(clear, nan=0, neginf=0), UNCLEAR, 1))


def extrapolate(
    quarter: FloatArray, half: FloatArray, mean: FloatArray, weight: FloatArray | None = None
) -> FloatArray:
    """Correlation at full depth from those at a quarter and a half.

    Odds r / (1 - r) grow with depth to a power: 1 on a linear scale, less or more on a logarithmic one,
    depending on how many molecules there are. The power for a gene from half to full depth is taken from
    genes of twice its mean count, from a quarter to a half, for these are as deep: that which makes
    their mean correlation right, in a window a few doublings wide.

    Args:
        quarter: Signed correlations, [R, G]; each row is extrapolated on its own.
        half: The same at half depth.
        mean: Mean count of each gene, [G].
        weight: What each gene counts for in the mean, [G]; all alike by default.

    Returns:
        Signed, [R, G].
    """
    known = np.isfinite(quarter[0]) & np.isfinite(half[0]) & (mean > 0)
    if not known.any():
        return np.full_like(half, np.nan)
    x = np.log2(np.where(known, mean, 1))
    at = np.quantile(x[known], np.linspace(0, 1, ANCHORS))
    near = np.exp(-0.5 * ((x - at[:, None] - 1) / WIDTH) ** 2) + 1e-6  # genes twice as deep
    near *= known if weight is None else known * weight
    exponent = _exponents(np.nan_to_num(quarter), np.nan_to_num(half), near / near.sum(axis=1, keepdims=True))
    power = np.array([np.interp(x, at, row) for row in exponent])
    return deepen(half, power)


def _exponents(quarter: FloatArray, half: FloatArray, weight: FloatArray) -> FloatArray:
    """Find the exponent that makes the mean of quarters right by bisection, [R, J]; `weight` is [J, G]."""
    low, high = (np.full((len(half), len(weight)), limit) for limit in (LEAST, MOST))
    for _ in range(STEPS):
        middle = (low + high) / 2
        back = deepen(half[:, None], -middle[..., None])
        small = np.einsum("jg,rjg->rj", weight, quarter[:, None] - back) > 0
        low, high = np.where(small, low, middle), np.where(small, middle, high)
    return np.asarray((low + high) / 2)


def _summed_up(half: FloatArray, full: FloatArray, rest: FloatArray) -> Ceiling:
    """Numbers of each gene from signed correlations, of all units and without each group, [1 + B, G]."""
    half_sd = _jackknife(half)
    full_sd = np.hypot(_jackknife(full), SPREAD * np.log(2) * full[0] * (1 - full[0]))
    steep = np.sqrt(np.maximum(np.maximum(full[0], full_sd), 1e-12))  # the root has no slope at 0
    return Ceiling(
        low=_root(half[0]),
        high=_root(deepen(half[0])),
        value=_root(full[0]),
        sd=full_sd / (2 * steep),
        half=half[0],
        half_sd=half_sd,
        measurable=_above(half),
        beyond_depth=_above(rest),
    )


def _root(r: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.clip(r, 0, 1)))


def _jackknife(values: FloatArray) -> FloatArray:
    """Standard error of the first row from the others, each of which lacks one group, [G]."""
    groups = len(values) - 1
    if groups < MIN_GROUPS:
        return np.full(values.shape[1], np.nan)
    return np.asarray(np.std(values[1:], axis=0) * np.sqrt(groups - 1))


def _above(r: FloatArray) -> BoolArray:
    """Whether the lower limit of r is above 0; not where it is unknown."""
    limit = stats.t.ppf((1 + LEVEL) / 2, max(len(r) - 2, 1))
    return np.asarray(r[0] - limit * _jackknife(r) > 0)


def share_of_ceiling(pcc: FloatArray, attainable: FloatArray, usable: BoolArray) -> float:
    """Sum of correlations over sum of ceilings, both over one set of genes.

    Args:
        pcc: Correlation of each gene, [G].
        attainable: Ceiling of each gene, such as `Ceiling.value`, [G].
        usable: Genes that count: those scored that have a measurable signal, [G].

    Returns:
        NaN if no gene is usable or no ceiling above 0.

    Raises:
        ValueError: If shapes differ or a usable gene has no correlation or no ceiling.
    """
    if not pcc.shape == attainable.shape == usable.shape:
        msg = f"need equal shapes, got {pcc.shape}, {attainable.shape} and {usable.shape}"
        raise ValueError(msg)
    p, a = (values[usable].astype(np.float64) for values in (pcc, attainable))
    if not (np.isfinite(p).all() and np.isfinite(a).all()):
        msg = "a usable gene has no correlation or no ceiling; leave it out of usable"
        raise ValueError(msg)
    total = float(a.sum())
    return float(p.sum()) / total if total > 0 else float("nan")
