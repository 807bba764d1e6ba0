"""Speed against the plain way, both in one run: read the ratio of the medians within a group.

make bench
"""

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from pytest_benchmark.fixture import BenchmarkFixture
from scipy import stats
from scipy.spatial import cKDTree

from hdstbench.data.image import open_image, padded
from hdstbench.metrics.correlation import pearson_per_gene
from hdstbench.torchkit.graph import nearest_edges

UNITS, GENES = 100_000, 50
PATCH, PATCHES = 112, 300


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(UNITS, GENES)).astype(np.float32)
    return measured + rng.normal(size=measured.shape).astype(np.float32), measured


@pytest.mark.benchmark(group="correlation of 100,000 units x 50 genes")
def test_ours(benchmark: BenchmarkFixture, pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert len(benchmark(pearson_per_gene, *pair)) == GENES


@pytest.mark.benchmark(group="correlation of 100,000 units x 50 genes")
def test_scipy_per_gene(benchmark: BenchmarkFixture, pair: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, measured = pair

    def plain() -> list[float]:
        return [stats.pearsonr(predicted[:, g], measured[:, g]).statistic for g in range(GENES)]

    assert len(benchmark(plain)) == GENES


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (4096, 4096, 3), dtype=np.uint8) // 8 + 100
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    tifffile.imwrite(path, coarse, tile=(256, 256), compression="jpeg", photometric="rgb")
    return path, rng.integers(0, 4096 - PATCH, (PATCHES, 2))


@pytest.mark.benchmark(group="300 random patches of 112 px from a tiled JPEG")
def test_tiles_with_a_cache(benchmark: BenchmarkFixture, slide: tuple[Path, np.ndarray]) -> None:
    path, corners = slide

    def read() -> int:
        image = open_image(path)
        return sum(padded(image, int(x), int(y), PATCH, PATCH).shape[0] for x, y in corners)

    assert benchmark.pedantic(read, rounds=5) == PATCH * PATCHES


@pytest.mark.benchmark(group="300 random patches of 112 px from a tiled JPEG")
def test_openslide_read_region(benchmark: BenchmarkFixture, slide: tuple[Path, np.ndarray]) -> None:
    path, corners = slide

    def read() -> int:
        image = openslide.OpenSlide(path)
        return sum(image.read_region((int(x), int(y)), 0, (PATCH, PATCH)).height for x, y in corners)

    assert benchmark.pedantic(read, rounds=5) == PATCH * PATCHES


@pytest.fixture(scope="module")
def grid() -> np.ndarray:
    return np.argwhere(np.ones((16, 16)))


@pytest.mark.benchmark(group="8 nearest of each bin of a block")
def test_exact_with_stated_ties(benchmark: BenchmarkFixture, grid: np.ndarray) -> None:
    assert benchmark(nearest_edges, grid, 8).shape == (2, 256 * 9)


@pytest.mark.benchmark(group="8 nearest of each bin of a block")
def test_kdtree(benchmark: BenchmarkFixture, grid: np.ndarray) -> None:
    assert benchmark(lambda: cKDTree(grid).query(grid, k=9))[1].shape == (256, 9)
