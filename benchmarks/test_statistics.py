"""Ceilings and the bootstrap against the plain way; `benchmarks/table.py` makes ratios of them."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hdstbench.metrics.ceiling import GROUPS, ceiling
from hdstbench.metrics.correlation import pearson_per_gene
from hdstbench.metrics.moments import block_moments, correlation_of
from hdstbench.protocol.target import Target

SIDE, GENES, PER_BLOCK = 77, 250, 13
RESAMPLES, SOME = 2_000, 20
"""Drawn from sums, and unit by unit; the table takes a hundred times the seconds of the latter."""
Slide = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def slide() -> Slide:
    """Counts of 5,929 units x 250 genes, their library sizes, and 36 blocks."""
    rng = np.random.default_rng(0)
    row, col = np.divmod(np.arange(SIDE**2), SIDE)
    wave = np.sin(row[:, None] / rng.uniform(3, 20, GENES)) + np.cos(col[:, None] / rng.uniform(3, 20, GENES))
    counts = rng.poisson(np.exp(rng.normal(-1, 1, GENES) + 0.5 * wave))
    block = row // PER_BLOCK * (SIDE // PER_BLOCK + 1) + col // PER_BLOCK
    return counts, counts.sum(axis=1) + rng.poisson(2_000, len(counts)), block


def _log(counts: np.ndarray, library: np.ndarray) -> np.ndarray:
    return np.log1p(counts / np.maximum(library, 1)[:, None] * 1e4)


def _pair(slide: Slide) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and what was measured."""
    measured = _log(*slide[:2])
    return 0.3 * measured + np.random.default_rng(1).normal(size=measured.shape), measured


def _weights(block: np.ndarray, resamples: int) -> np.ndarray:
    blocks = int(block.max()) + 1
    drawn = np.random.default_rng(2).multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    return drawn.astype(np.float64)


@pytest.mark.benchmark(group="bootstrap")
def test_bootstrap(benchmark: BenchmarkFixture, slide: Slide) -> None:
    """From predictions to 2,000 resamples, the sums a block included."""
    predicted, measured = _pair(slide)
    weights = _weights(slide[2], RESAMPLES)

    def drawn() -> np.ndarray:
        return correlation_of(weights, block_moments(predicted, measured, slide[2]))

    assert benchmark.pedantic(drawn, rounds=3).shape == (RESAMPLES, GENES)


@pytest.mark.benchmark(group="bootstrap")
def test_bootstrap_plain(benchmark: BenchmarkFixture, slide: Slide) -> None:
    """The units of the drawn blocks are put together, and correlated."""
    predicted, measured = _pair(slide)
    weights = _weights(slide[2], RESAMPLES)[:SOME]

    def drawn() -> list[np.ndarray]:
        found = []
        for one in weights:
            units = np.repeat(np.arange(len(measured)), one[slide[2]].astype(int))
            found.append(pearson_per_gene(predicted[units], measured[units]))
        return found

    ours = correlation_of(weights, block_moments(predicted, measured, slide[2]))
    np.testing.assert_allclose(benchmark.pedantic(drawn, rounds=3), ours, atol=1e-9)


@pytest.mark.benchmark(group="ceilings")
def test_ceilings(benchmark: BenchmarkFixture, slide: Slide) -> None:
    """All that a ceiling is: halves, quarters, what is beyond library size, errors and extrapolation."""
    counts, library, block = slide
    target = Target().from_counts

    def found() -> np.ndarray:
        return ceiling(counts, library, target, np.random.default_rng(3), block).half

    assert benchmark.pedantic(found, rounds=3).shape == (GENES,)


@pytest.mark.benchmark(group="ceilings")
def test_ceilings_plain(benchmark: BenchmarkFixture, slide: Slide) -> None:
    """Two halves are correlated, whole and with each group of units left out; drawing them is not timed."""
    counts, library, _ = slide
    rng = np.random.default_rng(4)
    group = rng.integers(0, GROUPS, len(library))
    half, size = rng.binomial(counts, 0.5), rng.binomial(library - counts.sum(axis=1), 0.5)
    parts = (half, counts - half)
    sizes = (size + half.sum(axis=1), library - size - half.sum(axis=1))
    a, b = (_log(part, own) for part, own in zip(parts, sizes, strict=True))

    def left_out() -> np.ndarray:
        left = [pearson_per_gene(a[group != g], b[group != g]) for g in range(GROUPS)]
        return np.stack([pearson_per_gene(a, b), *left])

    found = benchmark.pedantic(left_out, rounds=3)[0]
    ours = ceiling(counts, library, Target().from_counts, np.random.default_rng(3)).half
    assert np.median(np.abs(found - ours)) < 0.02
