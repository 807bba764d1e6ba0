"""Ceilings where the truth is known, what they must not depend on, and the file they are kept in."""

from pathlib import Path

import numpy as np
import pytest
from helpers import Planted, make_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, sparse

from hdstbench.errors import DataError
from hdstbench.metrics.ceiling import Ceiling, ceiling, deepen, extrapolate, share_of_ceiling
from hdstbench.metrics.correlation import pearson_per_gene
from hdstbench.metrics.thinning import Depth, Sampler, polynomials, sparse_counts
from hdstbench.protocol.target import Target
from hdstbench.rng import stream
from hdstbench.sweep import ceilings as kept
from hdstbench.sweep.ceilings import ceilings_of

SIDE = 50
LOG = Target().from_counts


def shares(genes: int, noise: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth patterns and, last, `noise` genes of constant share, [SIDE^2, genes + noise]."""
    field = rng.normal(size=(genes, SIDE, SIDE))
    field = np.stack([ndimage.gaussian_filter(f, 3, mode="wrap").ravel() for f in field], axis=1)
    mean = np.exp(rng.uniform(np.log(5e-4), np.log(5e-3), genes + noise))
    pattern = np.exp(rng.uniform(0.3, 1.0, genes) * field / field.std(axis=0))
    return mean * np.hstack([pattern, np.ones((SIDE**2, noise))])


def measure(share: np.ndarray, library: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts of one measurement with given rates and library sizes."""
    rest = 1 - share.sum(axis=1, keepdims=True)
    return rng.multinomial(library, np.hstack([share, rest]))[:, :-1]


def truth(share: np.ndarray, library: np.ndarray, rng: np.random.Generator, draws: int = 8) -> np.ndarray:
    """sqrt(corr(Y, Y')) over all pairs of a few measurements."""
    many = [LOG(measure(share, library, rng), library) for _ in range(draws)]
    r = [pearson_per_gene(a, b) for i, a in enumerate(many) for b in many[:i]]
    return np.sqrt(np.maximum(np.mean(r, axis=0), 0))


@pytest.mark.parametrize("depth", [100, 1000, 3000])
def test_the_extrapolation_finds_the_known_ceiling(depth: int) -> None:
    rng = np.random.default_rng(depth)
    share = shares(60, 0, rng)
    library = rng.poisson(depth * rng.lognormal(-0.08, 0.4, SIDE**2)) + 1
    wanted = truth(share, library, rng)

    found = ceiling(measure(share, library, rng), library, LOG, stream("test", depth))

    assert abs((found.value - wanted).mean()) < 0.03
    assert np.abs(found.value - wanted).mean() < 0.06
    assert (found.low - wanted).mean() < -0.04
    assert (np.abs(found.value - wanted) < 3.5 * found.sd + 0.03).mean() > 0.9


def test_low_is_exact_at_half_depth() -> None:
    rng = np.random.default_rng(3)
    share = shares(60, 0, rng)
    library = np.full(SIDE**2, 1000)
    wanted = truth(share, library // 2, rng)

    found = ceiling(measure(share, library, rng), library, LOG, stream("test"))

    assert (found.low - wanted).mean() == pytest.approx(0, abs=0.015)


def test_genes_of_noise_have_no_measurable_signal() -> None:
    rng = np.random.default_rng(4)
    share = shares(20, 180, rng) * 0.5
    library = np.full(SIDE**2, 800)

    found = ceiling(measure(share, library, rng), library, LOG, stream("test"))

    assert found.measurable[20:].mean() < 0.05
    assert found.measurable[:20].mean() > 0.8


def test_what_library_sizes_alone_explain_is_told_apart() -> None:
    rng = np.random.default_rng(5)
    share = shares(20, 100, rng)
    library = rng.poisson(800 * rng.lognormal(-0.08, 0.6, SIDE**2)) + 1

    found = ceiling(measure(share, library, rng), library, LOG, stream("test"))

    assert found.measurable[20:].mean() > 0.3
    assert found.beyond_depth[20:].mean() < 0.06
    assert found.beyond_depth[:20].mean() > 0.8


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_halves_add_up_and_stay_within_their_libraries(seed: int, units: int, genes: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2, (units, genes))
    library = counts.sum(axis=1) + rng.poisson(5, units)

    first, second = Depth(sparse_counts(counts), library).halves(rng)

    np.testing.assert_array_equal((first.counts + second.counts).toarray(), counts)
    np.testing.assert_array_equal(first.library + second.library, library)
    for half in (first, second):
        assert (half.counts.sum(axis=1) <= half.library).all()


def test_moments_of_parts_are_those_of_numpy_with_and_without_a_group() -> None:
    rng = np.random.default_rng(6)
    counts, library = rng.poisson(3, (30, 4)), np.full(30, 100)
    sampler = Sampler(Depth(sparse_counts(counts), library), LOG, np.array([0, 10, 18]))

    half, _, _ = sampler.draw(np.random.default_rng(1))
    covariance, variance = half.moments()

    a, b = (LOG(h.counts.toarray(), h.library) for h in sampler.depth.halves(np.random.default_rng(1)))
    for row, kept_units in enumerate([np.arange(30), np.arange(10, 30), np.r_[0:10, 18:30], np.arange(18)]):
        x, y = a[kept_units].astype(float), b[kept_units].astype(float)
        np.testing.assert_allclose(
            covariance[row], [np.cov(x[:, g], y[:, g], ddof=0)[0, 1] for g in range(4)], atol=1e-5
        )
        np.testing.assert_allclose(variance[row], (x.var(axis=0) + y.var(axis=0)) / 2, atol=1e-5)


def test_depth_explains_all_of_a_polynomial_in_log_library_size() -> None:
    library = np.random.default_rng(7).integers(50, 5000, 200)
    x = np.log1p(library)

    basis = polynomials(library).astype(float)

    values = 3 - x + 0.2 * x**3
    np.testing.assert_allclose(basis @ (basis.T @ values), values, rtol=1e-4)
    assert polynomials(np.full(9, 70)).shape == (9, 1)


@given(st.floats(-1, 1), st.floats(0, 1.25))
def test_deepening_keeps_sign_and_bounds_and_goes_back(r: float, exponent: float) -> None:
    value = np.array([r])

    deeper = deepen(value, exponent)

    assert abs(r) - 1e-12 <= abs(deeper[0]) <= 1
    np.testing.assert_allclose(deepen(deeper, -exponent), value, atol=1e-12)
    np.testing.assert_allclose(deepen(np.abs(value)), 2 * abs(r) / (1 + abs(r)))


def test_on_a_linear_scale_the_extrapolation_is_spearman_browns() -> None:
    half = np.linspace(0.05, 0.8, 40)[None]
    quarter = deepen(half, -1.0)

    full = extrapolate(quarter, half, np.geomspace(0.1, 10, 40))

    np.testing.assert_allclose(full, deepen(half), atol=1e-4)


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_the_order_of_genes_does_not_matter_to_the_extrapolation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quarter, half = rng.uniform(-0.1, 0.5, (2, 3, 12))
    mean, order = rng.uniform(0.1, 9, 12), rng.permutation(12)

    there = extrapolate(quarter, half, mean)
    back = extrapolate(quarter[:, order], half[:, order], mean[order])

    np.testing.assert_allclose(back, there[:, order], atol=1e-6)


def same(a: Ceiling, b: Ceiling) -> bool:
    return all(np.array_equal(getattr(a, f), getattr(b, f), equal_nan=True) for f in Ceiling.__slots__)


def test_the_same_stream_gives_the_same_numbers_dense_or_sparse() -> None:
    counts = np.random.default_rng(8).poisson(2, (80, 6))
    library = counts.sum(axis=1) + 100

    first = ceiling(counts, library, LOG, stream("a"))

    assert same(first, ceiling(sparse.csr_array(counts), library, LOG, stream("a")))
    assert not same(first, ceiling(counts, library, LOG, stream("b")))


def test_constant_genes_have_no_ceiling_and_tiny_slides_no_error() -> None:
    counts = np.random.default_rng(9).poisson(4, (60, 3))
    counts[:, 0], counts[:, 1] = 0, 7
    library = np.full(60, 90)

    found = ceiling(counts, library, LOG, stream("a"))
    few = ceiling(counts[:4], library[:4], LOG, stream("a"))
    one = ceiling(counts[:1], library[:1], LOG, stream("a"))

    np.testing.assert_array_equal(np.isnan(found.value), [True, True, False])
    assert not found.measurable[:2].any()
    assert np.isfinite(few.value[2])
    assert np.isnan(few.sd).all()
    assert not few.measurable.any()
    assert np.isnan(one.value).all()


def test_units_of_a_block_that_repeat_each_other_do_not_count_twice() -> None:
    rng = np.random.default_rng(10)
    block = np.repeat(np.arange(40), 25)
    share = 0.01 * np.exp(rng.normal(0, 0.7, (40, 30)))[block]
    library = np.full(1000, 500)
    counts = measure(share, library, rng)

    alone = ceiling(counts, library, LOG, stream("a"))
    blocks = ceiling(counts, library, LOG, stream("a"), block)

    assert np.median(blocks.half_sd / alone.half_sd) > 1.5


def test_one_block_has_no_error() -> None:
    counts = np.random.default_rng(11).poisson(3, (50, 2))

    found = ceiling(counts, np.full(50, 60), LOG, stream("a"), np.zeros(50, int))

    assert np.isfinite(found.value).any()
    assert np.isnan(found.half_sd).all()


def test_large_slides_are_thinned_out_by_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdstbench.metrics.ceiling.MOST_UNITS", 200)
    seen: list[int] = []

    def watched(counts: np.ndarray, library: np.ndarray) -> np.ndarray:
        seen.append(len(library))
        return LOG(counts, library)

    ceiling(np.ones((1000, 2), int), np.full(1000, 9), watched, stream("a"), np.repeat(np.arange(100), 10))

    assert set(seen) == {200}


@pytest.mark.parametrize(
    ("counts", "library", "said"),
    [
        (np.ones((3, 2), int), np.ones(4, int), "3 units"),
        (np.ones((3, 2), int), np.ones(3, int), "below the sum"),
        (-np.ones((3, 2), int), np.ones(3, int), "negative"),
    ],
)
def test_what_cannot_be_is_refused(counts: np.ndarray, library: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ceiling(counts, library, LOG, stream("a"))


def test_the_share_is_one_ratio_of_sums_over_usable_genes() -> None:
    pcc, attainable = np.array([0.2, 0.1, np.nan]), np.array([0.5, 0.1, 0.9])

    assert share_of_ceiling(pcc, attainable, np.array([True, True, False])) == pytest.approx(0.3 / 0.6)
    assert np.isnan(share_of_ceiling(pcc, attainable, np.zeros(3, bool)))
    with pytest.raises(ValueError, match="no correlation or no ceiling"):
        share_of_ceiling(pcc, attainable, np.ones(3, bool))
    with pytest.raises(ValueError, match="equal shapes"):
        share_of_ceiling(pcc, attainable[:2], np.ones(3, bool))


@pytest.fixture
def slide(tmp_path: Path) -> Planted:
    return make_slide(tmp_path, "a", seed=1)


def files(slide: Planted) -> list[Path]:
    return sorted(slide.folder.rglob("ceilings-*"))


def test_a_second_call_reads_what_the_first_has_kept(slide: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ceilings_of(slide.slide)
    monkeypatch.setattr(kept, "ceiling", lambda *_: pytest.fail("computed again"))

    assert same(ceilings_of(slide.slide), first)
    assert len(files(slide)) == 1
    assert files(slide)[0].parent == slide.folder / "labels"
    assert not first.beyond_depth[2]  # CONSTANT
    assert first.value[0] > 0.9  # BRIGHT


def test_other_units_and_other_genes_have_files_of_their_own(slide: Planted) -> None:
    whole = ceilings_of(slide.slide)

    part = ceilings_of(slide.slide.take(np.arange(100)))

    assert len(files(slide)) == 2
    assert not same(whole, part)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_broken_file_is_made_again(slide: Planted, content: bytes | None) -> None:
    first = ceilings_of(slide.slide)
    (path,) = files(slide)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)

    assert same(ceilings_of(slide.slide), first)
    assert path.read_bytes() == whole
    assert files(slide) == [path]


def test_a_folder_that_takes_no_file_costs_only_time(slide: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_folder", lambda _: slide.folder / "gone")

    first = ceilings_of(slide.slide)

    assert np.isfinite(first.value[0])
    assert not files(slide)


def test_a_hidden_slide_has_no_ceilings(slide: Planted) -> None:
    with pytest.raises(DataError, match="hidden"):
        ceilings_of(slide.slide.hidden())


def test_the_target_that_is_asked_for_is_the_one_that_is_thinned() -> None:
    rng = np.random.default_rng(12)
    share = shares(20, 0, rng)
    library = rng.poisson(300 * rng.lognormal(-0.08, 0.8, SIDE**2)) + 1
    counts = measure(share, library, rng)

    rates = ceiling(counts, library, LOG, stream("a"))
    raw = ceiling(counts, library, lambda c, _: np.log1p(c).astype(np.float32), stream("a"))

    assert (raw.value - rates.value).mean() > 0.05  # depth is in raw counts
