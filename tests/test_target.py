"""Targets: each formula against another way to compute it, what is fitted from training slides, smoothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
from helpers import Planted
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, sparse
from test_within import WITHIN, _scramble, task

from hdstbench.data.card import Dataset, load_dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.inner import split_part
from hdstbench.protocol.slide import all_counts, open_slide, sampled
from hdstbench.protocol.smoothing import smoothed
from hdstbench.protocol.target import MEDIAN, SMOOTH, TARGETS, TRAINING_MEDIAN, Target, find_target
from hdstbench.protocol.task import Fold, open_fold
from hdstbench.protocol.transforms import Fit
from hdstbench.report.figures import limits_of
from hdstbench.sweep.ceilings import ceilings_of
from hdstbench.sweep.options import Options
from hdstbench.sweep.oracle import expected_target, oracle_names
from hdstbench.sweep.plan import Job, plan_cells, plan_job
from hdstbench.sweep.score import score_fold, scored_genes

FIT = Fit(genes=50, columns=(0, 1, 3), low=(0.0, 1.0, 0.0, 2.0), high=(9.0, 4.0, 0.0, 30.0))
NEW = (TRAINING_MEDIAN, "triplex-release", "stnet-log", "hest-log1p", "egn-minmax")


def ready(name: str) -> Target:
    """A target that knows all it needs, of four genes."""
    return find_target(name).fitted(FIT, np.array([0, 10, 40, 70])).of_slide(np.array([0, 30, 90]))


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2, (6, 4))
    counts[0] = 0
    library = counts.sum(axis=1) + rng.integers(0, 900, 6)
    library[0] = 0
    return counts, library


def by_hand(name: str, counts: np.ndarray, library: np.ndarray) -> np.ndarray:
    """Each value on its own, as the papers' code has it."""
    out = np.zeros(counts.shape)
    for (i, j), c in np.ndenumerate(counts):
        total = counts[i, 0] + counts[i, 1] + counts[i, 3]
        low, high = np.log10(1 + FIT.low[j]), np.log10(1 + FIT.high[j])
        out[i, j] = {
            "log1p-cp10k": np.log(1 + c / library[i] * 1e4) if c else 0,
            MEDIAN: np.log(1 + c / library[i] * 60) if c else 0,
            TRAINING_MEDIAN: np.log(1 + c / library[i] * 40) if c else 0,
            "triplex-release": np.log10(1 + c / total * 1e4) if total else np.log10(1 + c * 1e4),
            "stnet-log": np.log((1 + c) / (50 + library[i])),
            "hest-log1p": np.log(1 + c),
            "egn-minmax": (np.log10(1 + c) - low) / (high - low + 1e-8),
        }[name]
    return out


@pytest.mark.parametrize("name", list(TARGETS))
@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30)
@np.errstate(divide="ignore")  # of what a hand-written line computes and does not take
def test_every_target_is_its_formula_dense_and_sparse(name: str, seed: int) -> None:
    counts, library = draw(seed)

    dense = ready(name).from_counts(counts, library)
    thin = ready(name).from_counts(sparse.csr_array(counts), library)

    np.testing.assert_allclose(dense, by_hand(name, counts, library), rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(dense, thin)
    assert dense.dtype == np.float32


@pytest.mark.parametrize(("name", "total"), [("log1p-cp10k", 1e4), (MEDIAN, None)])
def test_library_scaled_targets_are_scanpys(name: str, total: float | None) -> None:
    scanpy = pytest.importorskip("scanpy")
    counts, _ = draw(3)
    library = counts.sum(axis=1)
    table = anndata.AnnData(counts.astype(np.float64))
    scanpy.pp.normalize_total(table, target_sum=total)
    scanpy.pp.log1p(table)

    found = find_target(name).of_slide(library).from_counts(counts, library)

    np.testing.assert_allclose(found, table.X, rtol=1e-6)


@pytest.mark.parametrize("name", list(TARGETS))
@given(seed=st.integers(0, 999), gene=st.integers(0, 3))
@settings(deadline=None, max_examples=30)
def test_one_more_count_of_a_gene_never_lowers_its_value(name: str, seed: int, gene: int) -> None:
    """Of the unit's own gene, at the same library size; other genes may fall where a panel is summed."""
    counts, library = draw(seed)
    more = counts.copy()
    more[:, gene] += 1

    before, after = (ready(name).from_counts(c, library + 1)[:, gene] for c in (counts, more))

    assert (after >= before - 1e-6).all()


@pytest.mark.parametrize("name", ["log1p-cp10k", MEDIAN, TRAINING_MEDIAN, "triplex-release", "hest-log1p"])
def test_zeros_stay_zeros_so_sparse_counts_stay_sparse(name: str) -> None:
    counts, library = draw(5)

    found = ready(name).from_sparse(sparse.csr_array(counts), library)

    assert found.nnz == np.count_nonzero(counts)
    np.testing.assert_allclose(found.toarray(), ready(name).from_counts(counts, library), rtol=1e-6)


@pytest.mark.parametrize("name", ["stnet-log", "egn-minmax", f"log1p-cp10k{SMOOTH}"])
def test_a_target_that_moves_zeros_says_so(name: str) -> None:
    counts, library = draw(5)

    with pytest.raises(DataError, match="does not keep zeros; use from_counts"):
        ready(name).from_sparse(sparse.csr_array(counts), library)


@pytest.mark.parametrize("name", [TRAINING_MEDIAN, "triplex-release", "stnet-log", "egn-minmax"])
def test_a_target_that_was_not_fitted_says_so(name: str) -> None:
    with pytest.raises(DataError, match=f"target {name} is .* the training slides of a fold, and none"):
        find_target(name).from_counts(*draw(0))


def test_a_smoothed_target_is_no_function_of_a_units_counts() -> None:
    with pytest.raises(DataError, match=r"is a mean over neighbours; use from_counts of target\.plain"):
        find_target(f"hest-log1p{SMOOTH}").from_counts(*draw(0))


@pytest.mark.parametrize("name", ["sqrt", "log1p-cp10k+smooth5x5", SMOOTH, ""])
def test_unknown_targets_are_refused(name: str) -> None:
    with pytest.raises(MissingError, match=r"no target '.*'; there are log1p-cp10k, median-log1p, "):
        find_target(name)


# A slide's smoothed labels


def test_smoothing_is_the_mean_over_the_three_by_three_places_there_are() -> None:
    shape, rng = (7, 9, 2), np.random.default_rng(0)
    values = rng.normal(size=shape)
    there = rng.random(shape[:2]) < 0.7
    rows = rng.permutation(there.sum())[:20]

    found = smoothed(np.argwhere(there) - 3, rows, lambda units: values[there][units])

    box = np.ones((3, 3))
    count = ndimage.convolve(there.astype(float), box, mode="constant")
    sums = [ndimage.convolve(values[..., g] * there, box, mode="constant") for g in range(2)]
    wanted = (np.stack(sums, axis=-1) / np.maximum(count, 1)[..., None])[there][rows]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_on_a_full_grid_it_is_a_uniform_filter() -> None:
    values = np.random.default_rng(1).normal(size=(8, 8))
    grid = np.argwhere(np.ones((8, 8)))

    found = smoothed(grid, np.arange(64), lambda units: values.reshape(-1, 1)[units]).reshape(8, 8)

    wanted = ndimage.uniform_filter(values, 3)
    np.testing.assert_allclose(found[1:-1, 1:-1], wanted[1:-1, 1:-1], rtol=1e-5, atol=1e-6)


def test_labels_of_a_view_are_smoothed_over_the_whole_slide(planted: list[Planted]) -> None:
    plain = planted[0].slide
    slide = open_slide(planted[0].folder, plain.genes, find_target(f"log1p-cp10k{SMOOTH}"))
    at = {tuple(place): i for i, place in enumerate(plain.grid.tolist())}

    found = slide.take(np.arange(40, 60)).need_labels().target()

    own = plain.need_labels().target()
    for row, (r, c) in zip(found, plain.grid[40:60].tolist(), strict=True):
        near = [at[r + i, c + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if (r + i, c + j) in at]
        np.testing.assert_allclose(row, own[near].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(slide.need_labels().target()[40:60], found)
    np.testing.assert_array_equal(
        slide.need_labels().coarse("spot")[0], plain.need_labels().coarse("spot")[0]
    )


# Folds


@pytest.fixture(scope="module")
def folders(cohort: Dataset) -> dict[str, Path]:
    res = cohort.card.resolution("16um")
    return {s.id: prepare_slide(cohort, s, res) for s in cohort.card.samples}


def plan(cohort: Dataset, target: str) -> Job:
    return plan_job(cohort, "16um", Options(recipe="tiny", target=target))


def open_first(cohort: Dataset, folders: dict[str, Path], target: str) -> Fold:
    job = plan(cohort, target)
    return open_fold(job.task, job.split, 0, folders)


def training_units(fold: Fold, folders: dict[str, Path]) -> tuple[np.ndarray, np.ndarray]:
    """Raw counts of the fold's genes and library sizes of all training units, read from the files."""
    counts, library = [], []
    for name in sorted({slide.id for slide in fold.train}):
        ids, matrix, sizes, _ = all_counts(folders[name])
        rows = sampled(folders[name])
        counts.append(matrix.toarray()[rows][:, [ids.index(gene) for gene in fold.panel.genes]])
        library.append(sizes[rows])
    return np.concatenate(counts), np.concatenate(library)


def test_a_fold_fits_its_target_to_its_training_units(cohort: Dataset, folders: dict[str, Path]) -> None:
    median, egn = (open_first(cohort, folders, name) for name in (TRAINING_MEDIAN, "egn-minmax"))
    counts, library = training_units(egn, folders)

    fit = egn.train[0].target.fit

    assert {s.target.scale for s in median.train} == {float(np.median(library[library > 0]))}
    assert median.test[0].slide.hidden().target == median.train[0].target
    assert fit is not None
    np.testing.assert_array_equal((fit.low, fit.high), (counts.min(axis=0), counts.max(axis=0)))
    assert fit.genes == len(all_counts(folders["SIM2"])[0])
    assert fit.columns == tuple(egn.panel.mean250)
    varies = np.ptp(counts, axis=0) > 0
    spans = np.concatenate([s.need_labels().target() for s in (*egn.train, *egn.val)])[:, varies]
    assert spans.min() >= 0
    assert spans.max() <= 1


@pytest.mark.parametrize("name", [*NEW, f"log1p-cp10k{SMOOTH}"])
def test_counts_of_the_test_slide_change_nothing_that_trains(
    cohort: Dataset, folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    job = plan(cohort, name)
    fold = open_fold(job.task, job.split, 0, folders)
    tested = fold.test[0].slide.id
    shutil.copytree(folders[tested], tmp_path / tested)
    _scramble(tmp_path / tested, np.arange(0))

    other = open_fold(job.task, job.split, 0, {**folders, tested: tmp_path / tested})

    assert other.train[0].target == fold.train[0].target == fold.test[0].slide.hidden().target
    assert other.panel.hash == fold.panel.hash
    np.testing.assert_array_equal(other.train_mean, fold.train_mean)
    for ours, theirs in zip(fold.train, other.train, strict=True):
        np.testing.assert_array_equal(ours.need_labels().target(), theirs.need_labels().target())
    before, after = (f.test[0].slide.need_labels().target() for f in (fold, other))
    assert (before != after).any()


@pytest.mark.parametrize("name", [TRAINING_MEDIAN, "egn-minmax"])
def test_a_part_that_is_tested_has_no_say_in_the_target_of_the_rest(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    asked = replace(task(WITHIN), target=name)
    fold, changed = open_fold(asked, WITHIN, 1, folders), {}
    for test in fold.test:
        changed[test.slide.id] = tmp_path / test.slide.id
        shutil.copytree(folders[test.slide.id], changed[test.slide.id])
        train, _ = split_part(test.slide.take(sampled(folders[test.slide.id])), WITHIN.parts, 1)
        _scramble(changed[test.slide.id], train.rows("unit"))

    other = open_fold(asked, WITHIN, 1, changed)

    assert other.train[0].target == fold.train[0].target
    assert fold.train[0].target.fit or fold.train[0].target.scale > 1


@pytest.mark.parametrize("name", NEW)
def test_a_hidden_slide_takes_expected_counts_to_the_task(
    cohort: Dataset, folders: dict[str, Path], name: str
) -> None:
    fold = open_first(cohort, folders, name)
    labels = fold.test[0].slide.need_labels()

    found = fold.test[0].slide.hidden().target.from_counts(labels.counts(), labels.library)

    np.testing.assert_array_equal(found, labels.target())


def test_genes_do_not_depend_on_the_target(cohort: Dataset, folders: dict[str, Path]) -> None:
    found = {open_first(cohort, folders, name).panel.hash for name in ("", *NEW)}

    assert len(found) == 1


def test_markers_do_not_change_the_panels_triplex_targets(cohort: Dataset, folders: dict[str, Path]) -> None:
    job = plan(cohort, "triplex-release")
    task = replace(job.task, markers=("TYPE0051",))

    plain, more = (open_fold(t, job.split, 0, folders).test[0].slide for t in (job.task, task))

    genes = len(plain.genes)
    np.testing.assert_array_equal(
        more.need_labels().target()[:, :genes], plain.need_labels().target()[:, :genes]
    )


@pytest.mark.parametrize("name", NEW)
def test_what_is_attainable_is_the_mean_over_poisson_counts_under_every_target(
    cohort: Dataset, folders: dict[str, Path], name: str
) -> None:
    """Given what each unit is scaled by, which for TRIPLEX is its panel's sum."""
    fold = open_first(cohort, folders, name)
    view = fold.test[0].slide.take(fold.test[0].headline[:20])
    labels, genes = view.need_labels(), len(view.genes)
    rng = np.random.default_rng(0)
    share, library = rng.uniform(0, 0.02, (20, genes)), labels.library.astype(np.float64)

    found = expected_target(view, share, library)

    curve = view.target.curve(labels.counts(), library)
    mean = np.zeros((20, genes))
    for _ in range(1_000):
        mean += curve(rng.poisson(library[:, None] * share)) / 1_000
    np.testing.assert_allclose(found, mean, atol=0.25)
    assert abs((found - mean).mean()) < 0.01


def test_rare_genes_are_told_by_raw_counts(cohort: Dataset, folders: dict[str, Path]) -> None:
    """Under a target without zeros, as under one with them."""
    views = [open_first(cohort, folders, name).test[0] for name in ("", "stnet-log")]

    plain, moved = (
        scored_genes(labels.target(), labels.counts())
        for labels in (v.slide.take(v.headline).need_labels() for v in views)
    )

    np.testing.assert_array_equal(plain, moved)
    counts = sparse.csr_array(np.repeat([[0, 1], [1, 1]], (81, 19), axis=0))
    assert scored_genes(np.arange(200.0).reshape(100, 2), counts).tolist() == [False, True]


@pytest.mark.parametrize("name", [*NEW, f"log1p-cp10k{SMOOTH}"])
def test_the_training_mean_has_no_skill_to_speak_of(
    cohort: Dataset, folders: dict[str, Path], name: str
) -> None:
    fold = open_first(cohort, folders, name)
    test = fold.test[0].slide

    scores = score_fold(fold, {test.id: np.tile(fold.train_mean.astype(np.float32), (len(test), 1))})

    assert scores.slides[0].mse_skill == pytest.approx(0, abs=1e-5)
    assert scores.slides[0].constant == scores.slides[0].genes


# Names, tables, commands


def test_the_default_task_is_what_it_was_and_each_target_is_one_of_its_own(cohort: Dataset) -> None:
    jobs = {name: plan(cohort, name) for name in ("", "log1p-cp10k", *NEW, f"hest-log1p{SMOOTH}")}

    assert jobs[""].task == jobs["log1p-cp10k"].task
    assert jobs[""].stem == "simulated-16um"
    assert jobs["hest-log1p+smooth3x3"].stem == "simulated-16um-hest-log1p+smooth3x3"
    assert len({job.task.hash for job in jobs.values()}) == len({job.stem for job in jobs.values()}) == 7


def test_a_median_is_that_of_training_slides_but_under_the_papers_protocol(cohort: Dataset) -> None:
    paper = Options(recipe="tiny", protocol="magnet-paper")

    assert plan(cohort, MEDIAN).task.target == TRAINING_MEDIAN
    assert plan_job(cohort, "16um", paper).task.target == MEDIAN
    assert (
        plan_job(cohort, "16um", replace(paper, target=MEDIAN)).task == plan_job(cohort, "16um", paper).task
    )


def test_neighbours_are_not_averaged_over_parts_of_a_slide() -> None:
    options = Options(recipe="tiny", target=f"log1p-cp10k{SMOOTH}", split="within")

    with pytest.raises(DataError, match="averages neighbours, which split within parts"):
        plan_job(load_dataset("demo"), "16um", options)


def test_smoothed_labels_have_no_ceiling(cohort: Dataset, folders: dict[str, Path]) -> None:
    name = f"log1p-cp10k{SMOOTH}"
    job, test = plan(cohort, name), open_first(cohort, folders, name).test[0]

    found = ceilings_of(test.slide.take(test.headline))
    cells = plan_cells(job, [], folders, Options(recipe="tiny", target=name), "cpu")

    assert np.isnan(found.value).all()
    assert {cell.record.model for cell in cells} == set(oracle_names(simulated=False))


def test_maps_of_negative_values_have_a_colour_scale() -> None:
    """As of `stnet-log`; the scale of what is not negative begins at 0, as ever."""
    found = [limits_of(np.array(v)) for v in ([-9.0, -8.0, -7.0], [-3.0, -3.0], [0.0, 0.0], [1.0, 3.0])]

    np.testing.assert_allclose(found, [(-9, -7.04), (-3, -2), (0, 1), (0, 2.96)])
