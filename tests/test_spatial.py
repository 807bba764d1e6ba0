"""Agreement of maps, strata and classes of genes, against esda, scikit-image and by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from esda.moran import Moran
from hypothesis import given, settings
from hypothesis import strategies as st
from libpysal.weights import W
from skimage.metrics import structural_similarity

from hdstbench.data.card import Dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.metrics.partial import partial_per_gene
from hdstbench.metrics.spatial import SIDE, morans_i, neighbours, ssim_per_gene, variance_ratio
from hdstbench.protocol.task import Fold, open_fold
from hdstbench.sweep import agreement, oracle
from hdstbench.sweep.agreement import spatial_scores, windows_of
from hdstbench.sweep.options import Options
from hdstbench.sweep.parts import class_scores, strata_scores
from hdstbench.sweep.plan import plan_job
from hdstbench.sweep.score import score_fold

SEEDS = st.integers(0, 2**32 - 1)


def _grid(side: int) -> np.ndarray:
    return np.argwhere(np.ones((side, side), bool))


@given(seed=SEEDS, side=st.integers(3, 9), kept=st.floats(0.4, 1.0))
@settings(max_examples=25, deadline=None)
def test_morans_i_is_that_of_esda(seed: int, side: int, kept: float) -> None:
    rng = np.random.default_rng(seed)
    grid = _grid(side)
    grid = grid[rng.permutation(len(grid))[: max(4, int(kept * len(grid)))]]
    values, pairs = rng.normal(size=(len(grid), 3)), neighbours(grid)
    near = {i: [] for i in range(len(grid))}  # type: dict[int, list[int]]
    for a, b in pairs.tolist():
        near[a].append(b)
        near[b].append(a)

    found = morans_i(values, pairs)

    if not len(pairs):
        assert np.isnan(found).all()
        return
    weights = W(near, silence_warnings=True)
    wanted = [Moran(values[:, g], weights, transformation="b", permutations=0).I for g in range(3)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_touching_units_are_those_that_share_a_side() -> None:
    assert sorted(map(tuple, neighbours(np.array([[0, 0], [0, 1], [1, 1], [3, 3]])).tolist())) == [
        (0, 1),
        (1, 2),
    ]


def test_a_constant_gene_has_no_morans_i() -> None:
    values = np.full((9, 1), 3.1, np.float32)

    assert np.isnan(morans_i(values, neighbours(_grid(3)))).all()


@given(seed=SEEDS, side=st.integers(SIDE, 20))
@settings(max_examples=25, deadline=None)
def test_ssim_is_that_of_scikit_image(seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    p, m = rng.gamma(1.0, size=(2, side * side, 2)) + 0.01
    margin = SIDE // 2

    found = ssim_per_gene(p, m, _grid(side))

    for gene in range(2):
        maps = (values[:, gene].reshape(side, side) for values in (p, m))
        _, full = structural_similarity(*maps, win_size=SIDE, data_range=np.ptp(m[:, gene]), full=True)
        inner = full[margin : side - margin, margin : side - margin]
        assert found[gene] == pytest.approx(inner.mean(), rel=1e-9)


def test_windows_where_nothing_was_measured_are_left_out_of_ssim() -> None:
    rng = np.random.default_rng(0)
    m = np.zeros((20, 20))
    m[:7, :7] = rng.gamma(1.0, size=(7, 7)) + 0.1
    p = rng.normal(size=(20, 20))
    grid = _grid(20)

    far = p.copy()
    far[14:, 14:] += 100.0  # in windows that hold no measured unit

    one, other = (ssim_per_gene(x.reshape(-1, 1), m.reshape(-1, 1), grid) for x in (p, far))
    assert one == pytest.approx(other)


def test_ssim_needs_windows_full_of_units() -> None:
    grid = _grid(9)
    values = np.random.default_rng(0).normal(size=(81, 1))
    holes = ~((grid == 4).all(axis=1))

    assert np.isnan(ssim_per_gene(values[holes], values[holes], grid[holes])).all()
    assert ssim_per_gene(values, values, grid) == pytest.approx(1.0)


@given(seed=SEEDS, scale=st.floats(0.0, 3.0))
@settings(max_examples=20, deadline=None)
def test_the_variance_ratio_of_a_shrunken_map_is_the_square_of_its_scale(seed: int, scale: float) -> None:
    m = np.random.default_rng(seed).normal(size=(30, 2))

    assert variance_ratio(scale * m + 5, m) == pytest.approx(scale**2, rel=1e-6, abs=1e-9)


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_partial_correlation_is_the_formula_of_three_correlations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=60)
    p, m = (rng.normal(size=(60, 1)) + rng.normal() * z[:, None] for _ in range(2))
    pm, pz, mz = (float(np.corrcoef(a, b)[0, 1]) for a, b in ((p.T, m.T), (p.T, z), (m.T, z)))

    wanted = (pm - pz * mz) / np.sqrt((1 - pz**2) * (1 - mz**2))

    assert partial_per_gene(p, m, z)[0] == pytest.approx(wanted, rel=1e-8)


def test_nothing_is_left_of_a_prediction_that_is_depth_alone() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=40)

    assert np.isnan(partial_per_gene(3 * z[:, None] + 2, rng.normal(size=(40, 1)), z)).all()


def test_classes_are_thirds_by_training_mean() -> None:
    r = np.array([0.1, 0.2, 0.3, 0.4, np.nan, 0.6, 0.9])
    mean = np.array([6.0, 1.0, 3.0, 5.0, 9.0, 2.0, 4.0])

    assert class_scores(r, np.array([0, 1, 2, 3, 5, 6]), mean) == pytest.approx(
        {"high": 0.25, "middle": 0.6, "low": 0.4}
    )


@pytest.fixture(scope="module")
def fold(cohort: Dataset) -> Fold:
    job = plan_job(cohort, "8um", Options())
    folders = {s.id: prepare_slide(cohort, s, job.resolution) for s in cohort.card.samples}
    return open_fold(job.task, job.split, 0, folders)


def test_the_truth_agrees_with_itself(fold: Fold) -> None:
    test = fold.test[0]
    truth = test.slide.need_labels().target()

    found = spatial_scores(test, truth, np.arange(20))

    assert found.windows == len(windows_of(test))
    assert found.units == sum(map(len, windows_of(test)))
    assert (found.moran_gap, found.ssim, found.variance_ratio) == pytest.approx((0.0, 1.0, 1.0))
    assert found.spots > 60
    assert found.flat == 0
    assert found.pcc_spot_library == pytest.approx(1.0, abs=2e-3)  # but for bins left out of the windows
    assert found.pcc_spot is not None
    assert 0.5 < found.pcc_spot < found.pcc_spot_library


def test_a_smooth_map_has_too_little_variance_and_too_much_autocorrelation(fold: Fold) -> None:
    test = fold.test[0]
    expected = oracle.ask("attainable", fold)[test.slide.id]

    found = spatial_scores(test, expected, np.arange(20))

    assert found.moran_gap is not None
    assert found.moran_gap > 0.1
    assert found.variance_ratio is not None
    assert found.variance_ratio < 0.8


def test_a_constant_prediction_is_counted_and_has_no_morans_i(fold: Fold) -> None:
    test = fold.test[0]
    truth = test.slide.need_labels().target()

    found = spatial_scores(test, np.zeros_like(truth), np.arange(20))

    assert found.moran_gap is None
    assert found.flat == 20 * len(windows_of(test))
    assert found.variance_ratio == 0.0


def test_a_slide_without_windows_is_one(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    test = fold.test[0]
    monkeypatch.setattr(agreement, "load_arrays", lambda _: {"window": np.full(len(test.slide), -1)})

    assert [units.tolist() for units in windows_of(test)] == [test.headline.tolist()]


def test_scores_tell_what_was_attainable(fold: Fold) -> None:
    predictions = oracle.ask("attainable", fold)

    scores = score_fold(fold, predictions)

    for one in scores.slides:
        c = one.ceiling
        assert c is not None
        assert c.genes + c.unmeasurable == one.genes
        assert c.low is not None
        assert c.value is not None
        assert c.high is not None
        assert c.pcc is not None
        assert c.low < c.value
        assert c.low < c.high
        assert c.pcc < 1.1 * c.value
        assert set(one.classes) == {"high", "middle", "low"}
        assert not one.strata
        assert one.pcc_gene_depth is not None
        assert one.pcc_gene_depth < one.pcc_gene + 0.05
    assert {"ceiling", "ceiling_low", "ceiling_high", "ceiling_sd", "measurable"} <= set(scores.per_gene)


def test_strata_are_scored_apart(cohort: Dataset, fold: Fold, tmp_path: Path) -> None:
    view = fold.test[0].slide.take(fold.test[0].headline)
    labels = view.need_labels()
    names = np.where(np.arange(len(fold.test[0].slide)) % 2, "tumour", "stroma")
    names[:10] = ""
    (tmp_path / "strata.npz").parent.mkdir(exist_ok=True)
    for file in labels._folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    np.savez(tmp_path / "strata.npz", name=names)
    moved = replace(view, labels=replace(labels, _folder=tmp_path))

    found = strata_scores(moved, labels.target(), np.arange(10), 20)

    assert found == pytest.approx({"stroma": 1.0, "tumour": 1.0})


@pytest.mark.parametrize("at_once", [1, 300, 10**6])
def test_ssim_is_the_same_however_many_maps_are_looked_at_together(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, grid = np.random.default_rng(0), _grid(12)
    m = rng.poisson(0.5, (len(grid), 5)).astype(np.float32)
    m[:, 2] = 0.0
    p = m + rng.normal(size=m.shape).astype(np.float32)
    alone = np.concatenate([ssim_per_gene(p[:, [g]], m[:, [g]], grid) for g in range(5)])

    monkeypatch.setattr("hdstbench.metrics.spatial.AT_ONCE", at_once)

    np.testing.assert_array_equal(ssim_per_gene(p, m, grid), alone)
    assert np.isnan(ssim_per_gene(p[:, [2]], m[:, [2]], grid)).all()
