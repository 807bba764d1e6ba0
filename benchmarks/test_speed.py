"""Functions against the plain way, both in one run; `benchmarks/table.py` makes ratios of them.

Each group holds ours and what it is compared with, on the same input. Input is random or simulated.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from pytest_benchmark.fixture import BenchmarkFixture
from scipy import ndimage, sparse, stats
from scipy.spatial import cKDTree

from hdstbench.data.counts import Genes, MemoryCounts, picks_groups
from hdstbench.data.image import open_image, read_regions
from hdstbench.metrics.correlation import pearson_per_gene
from hdstbench.torchkit.graph import nearest_edges

UNITS, GENES = 1_000_000, 250
SOME_GENES = 10
PATCH, PATCHES = 112, 6_000
SIDE, TILE = 16_384, 256
STEP, ACROSS, BLOCKS = 32, 16, 25
"""Bins of 8 um lie 32 pixels apart at 0.25 um a pixel; a block is 16 x 16 of them."""
BLOCK_PX = (ACROSS - 1) * STEP + PATCH
BINS, COUNTS = 500_000, 50_000_000


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    measured, noise = rng.standard_normal((2, UNITS // 10, GENES), dtype=np.float32)
    return np.tile(measured + noise, (10, 1)), np.tile(measured, (10, 1))


@pytest.mark.benchmark(group="correlation")
def test_correlation(benchmark: BenchmarkFixture, pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert len(benchmark.pedantic(pearson_per_gene, pair, rounds=3)) == GENES


@pytest.mark.benchmark(group="correlation")
def test_correlation_scipy(benchmark: BenchmarkFixture, pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Some of the genes, each strided; the table takes 25 times as long."""
    predicted, measured = pair

    def plain() -> list[float]:
        return [stats.pearsonr(predicted[:, g], measured[:, g]).statistic for g in range(SOME_GENES)]

    assert len(benchmark.pedantic(plain, rounds=3)) == SOME_GENES
    exact = [np.corrcoef(*(x[:, g].astype(np.float64) for x in pair))[0, 1] for g in range(SOME_GENES)]
    np.testing.assert_allclose(pearson_per_gene(*pair)[:SOME_GENES], exact, atol=1e-6)


@pytest.mark.benchmark(group="correlation")
def test_correlation_sum(benchmark: BenchmarkFixture, pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert len(benchmark.pedantic(lambda: [array.sum(axis=0) for array in pair], rounds=5)) == len(pair)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiled JPEG pyramid's finest level, of smooth noise: as hard to decode as tissue."""
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    smooth = ndimage.gaussian_filter(rng.normal(size=(2048, 2048, 3)), (2, 2, 0))
    pixels = np.clip(smooth * 400 + 190, 0, 255).astype(np.uint8)

    def tiles() -> Iterator[np.ndarray]:
        for number in range((SIDE // TILE) ** 2):
            y, x = divmod(number * 5 % 64, 8)
            yield pixels[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]

    shape = (SIDE, SIDE, 3)
    options = {"tile": (TILE, TILE), "compression": "jpeg", "photometric": "rgb"}
    tifffile.imwrite(path, tiles(), shape=shape, dtype=np.uint8, **options)
    return path


def _corners(layout: str) -> np.ndarray:
    rng = np.random.default_rng(2)
    if layout == "random":
        return rng.integers(0, SIDE - PATCH, (PATCHES, 2)).astype(np.float64)
    return (_starts(rng)[:, None] + _block()).reshape(-1, 2).astype(np.float64)


def _starts(rng: np.random.Generator) -> np.ndarray:
    """Corners of blocks, which are whole pixels."""
    return rng.integers(0, SIDE - BLOCK_PX, (BLOCKS, 2))


def _block() -> np.ndarray:
    """Corners of patches in a block."""
    return np.argwhere(np.ones((ACROSS, ACROSS)))[:, ::-1] * STEP


@pytest.mark.benchmark(group="patches-random")
def test_patches_random(benchmark: BenchmarkFixture, picture: Path) -> None:
    corners = _corners("random")

    def read() -> int:
        return sum(pixels.shape[0] for _, pixels in read_regions(open_image(picture), corners, PATCH, PATCH))

    assert benchmark.pedantic(read, rounds=2) == PATCH * len(corners)


@pytest.mark.benchmark(group="patches-random")
def test_patches_random_threads(benchmark: BenchmarkFixture, picture: Path) -> None:
    """The upper and the lower half of the picture at a time, of one opened file."""
    corners = _corners("random")
    image, upper = open_image(picture), corners[:, 1] < SIDE / 2

    def read_half(half: np.ndarray) -> int:
        return sum(pixels.shape[0] for _, pixels in read_regions(image, half, PATCH, PATCH))

    def read() -> int:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(read_half, (corners[upper], corners[~upper])))

    assert benchmark.pedantic(read, rounds=2) == PATCH * len(corners)


@pytest.mark.benchmark(group="patches-dense")
def test_patches_dense(benchmark: BenchmarkFixture, picture: Path) -> None:
    """As the suite reads them: the image of each block, from which its patches are cut."""
    starts, block = _starts(np.random.default_rng(2)).astype(np.float64), _block().tolist()

    def read() -> int:
        count = 0
        for _, pixels in read_regions(open_image(picture), starts, BLOCK_PX, BLOCK_PX):
            out = np.empty((len(block), PATCH, PATCH, 3), np.uint8)
            for i, (x, y) in enumerate(block):
                out[i] = pixels[y : y + PATCH, x : x + PATCH]
            count += len(out)
        return count

    assert benchmark.pedantic(read, rounds=2) == BLOCKS * len(block)


@pytest.mark.parametrize("layout", ["random", "dense"])
def test_patches_openslide(benchmark: BenchmarkFixture, picture: Path, layout: str) -> None:
    corners = _corners(layout).astype(int).tolist()
    benchmark.group = f"patches-{layout}"

    def read() -> int:
        image = openslide.OpenSlide(picture)
        return sum(np.asarray(image.read_region((x, y), 0, (PATCH, PATCH))).shape[0] for x, y in corners)

    assert benchmark.pedantic(read, rounds=2) == PATCH * len(corners)


@pytest.mark.parametrize("layout", ["random", "dense"])
def test_patches_decode(benchmark: BenchmarkFixture, picture: Path, layout: str) -> None:
    """Each tile that a patch touches is decoded once, and thrown away."""
    low, high = (_corners(layout) + add for add in (0, PATCH - 1))
    corners = [np.stack([a[:, 0], b[:, 1]], axis=1) for a in (low, high) for b in (low, high)]
    touched = np.unique((np.concatenate(corners) // TILE).astype(int), axis=0)
    benchmark.group = f"patches-{layout}"

    def read() -> int:
        with tifffile.TiffFile(picture) as file:
            page, count = file.pages[0], 0
            numbers = [int(y) * (SIDE // TILE) + int(x) for x, y in touched]
            tables = {"jpegtables": page.jpegtables}
            for number in numbers:
                file.filehandle.seek(page.dataoffsets[number])
                data = file.filehandle.read(page.databytecounts[number])
                count += page.decode(data, number, **tables)[0].shape[-2]
            return count

    assert benchmark.pedantic(read, rounds=2) == TILE * len(touched)


@pytest.mark.parametrize("layout", ["random", "dense"])
def test_patches_copy(benchmark: BenchmarkFixture, layout: str) -> None:
    """Each patch is copied from pixels that are in memory: what is left when decoding costs nothing."""
    corners = _corners(layout).astype(int).tolist()
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[...] = 1  # pages that are there
    benchmark.group = f"patches-{layout}"

    def copy() -> int:
        return sum(pixels[y : y + PATCH, x : x + PATCH].copy().shape[0] for x, y in corners)

    assert benchmark.pedantic(copy, rounds=2) == PATCH * len(corners)


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.normal(size=(1000, 1000)), 20)
    return np.argwhere(field > np.quantile(field, 0.4))


@pytest.mark.benchmark(group="graph")
def test_graph(benchmark: BenchmarkFixture, tissue: np.ndarray) -> None:
    assert benchmark.pedantic(nearest_edges, (tissue, 8), rounds=3).shape == (2, len(tissue) * 9)


@pytest.mark.benchmark(group="graph")
def test_graph_tree(benchmark: BenchmarkFixture, tissue: np.ndarray) -> None:
    found = benchmark.pedantic(lambda: cKDTree(tissue).query(tissue, k=9), rounds=2)
    assert found[1].shape == (len(tissue), 9)


@pytest.fixture(scope="module")
def counts() -> sparse.csr_array:
    """500,000 bins of 18,000 genes, 100 in each bin."""
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 18_000, (BINS, COUNTS // BINS), dtype=np.int32)
    columns.sort(axis=1)
    data = rng.poisson(1.0, COUNTS).astype(np.int32) + 1
    start = np.arange(0, COUNTS + 1, COUNTS // BINS, dtype=np.int32)  # as read from a file
    return sparse.csr_array((data, columns.ravel(), start), shape=(BINS, 18_000))


@pytest.mark.benchmark(group="levels")
def test_levels(benchmark: BenchmarkFixture, counts: sparse.csr_array) -> None:
    """Sums of 7 x 7 bins, as spots of 56 um are made."""
    side = int(np.sqrt(BINS))
    row, column = np.divmod(np.arange(BINS), side)
    group = row // 7 * (side // 7 + 1) + column // 7
    pick = picks_groups(np.unique(group, return_inverse=True)[1], len(np.unique(group)))

    genes = Genes(ids=tuple(map(str, range(18_000))), symbols=tuple(map(str, range(18_000))))
    held = MemoryCounts(counts, genes)

    (summed,) = benchmark.pedantic(held.sums, (pick,), rounds=3)

    assert summed.sum() == counts.sum()


@pytest.mark.benchmark(group="levels")
def test_levels_pass(benchmark: BenchmarkFixture, counts: sparse.csr_array) -> None:
    """One pass over the non-zeros: their sum a gene."""
    found = benchmark.pedantic(lambda: counts.sum(axis=0), rounds=3)
    assert found.sum() == counts.data.sum()


@pytest.mark.benchmark(group="levels")
def test_levels_copy(benchmark: BenchmarkFixture, counts: sparse.csr_array) -> None:
    """The non-zeros read and written once: sums of 7 x 7 bins are nearly as many as they are."""
    assert benchmark.pedantic(counts.copy, rounds=3).nnz == counts.nnz
