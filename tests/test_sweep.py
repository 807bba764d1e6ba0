"""Keys, scores, failures as rows, and workers that die."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from hdstbench.data.card import Dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.data.prepared import load_manifest
from hdstbench.errors import DataError, MissingError
from hdstbench.metrics.moments import correlation_of
from hdstbench.plugins.registry import UnknownModelError, load_model, model_names
from hdstbench.protocol.task import open_fold
from hdstbench.records import SCORES, load_moments, load_record, load_scores, save_json
from hdstbench.report.board import Plan, load_board
from hdstbench.report.markdown import render
from hdstbench.sweep.cell import Cell, is_done, load_prediction, run_cell
from hdstbench.sweep.options import Options, resolve
from hdstbench.sweep.oracle import expected_target
from hdstbench.sweep.plan import plan_cells, plan_job
from hdstbench.sweep.score import scored_genes
from hdstbench.sweep.setting import set_models


@pytest.fixture(scope="module")
def folders(cohort: Dataset) -> dict[str, Path]:
    res = cohort.card.resolution("16um")
    return {s.id: prepare_slide(cohort, s, res) for s in cohort.card.samples}


def plan(cohort: Dataset, folders: dict[str, Path], **change: object) -> list[Cell]:
    options = replace(Options(models=("mean",), recipe="tiny"), **change)
    job = plan_job(cohort, "16um", options)
    settings = set_models(options.models, job.recipe, options)
    return plan_cells(job, settings, folders, options, "cpu")


def keys(cells: list[Cell]) -> set[str]:
    return {cell.record.key for cell in cells if cell.record.kind != "oracle"}


def test_every_model_fold_and_seed_is_a_cell_and_the_oracles_come_first(
    cohort: Dataset, folders: dict[str, Path]
) -> None:
    cells = plan(cohort, folders, models=("mean", "ridge"), seeds=(0, 1), folds=(0, 2))

    named = [(c.record.model, c.record.fold, c.record.seed) for c in cells]
    assert named == [
        (m, f, s)
        for f in (0, 2)
        for m, s in [
            *[("attainable", 0), ("slide-mean", 0), ("depth", 0)],
            *[("mean", 0), ("mean", 1), ("ridge", 0), ("ridge", 1)],
        ]
    ]
    assert len(keys(cells)) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": (1,)},
        {"recipe": "quick"},
        {"precision": "bf16"},
        {"compile": True},
        {"bins": "all"},
        {"models": ("ridge",)},
    ],
)
def test_what_changes_predictions_changes_the_key(
    cohort: Dataset, folders: dict[str, Path], change: dict[str, object]
) -> None:
    assert not keys(plan(cohort, folders)) & keys(plan(cohort, folders, **change))


@pytest.mark.parametrize("change", [{"workers": 2}, {"timeout": 9.0}, {"output": "elsewhere"}])
def test_what_does_not_change_predictions_keeps_the_key(
    cohort: Dataset, folders: dict[str, Path], change: dict[str, object]
) -> None:
    assert keys(plan(cohort, folders)) == keys(plan(cohort, folders, **change))


def test_other_data_other_code_and_another_engine_change_the_key(
    cohort: Dataset, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(plan(cohort, folders))
    assert before & keys(plan(cohort, {**folders, "SIM3": folders["SIM2"]})) == set()
    real = load_manifest
    monkeypatch.setattr(
        "hdstbench.protocol.task.load_manifest", lambda folder: replace(real(folder), patient="another")
    )
    assert before & keys(plan(cohort, folders)) == set()
    monkeypatch.undo()
    monkeypatch.setattr("hdstbench.sweep.setting.source_hash", lambda _: "other")
    assert before & keys(plan(cohort, folders)) == set()
    monkeypatch.undo()
    monkeypatch.setattr("hdstbench.sweep.plan.ENGINE", 999)
    assert before & keys(plan(cohort, folders)) == set()


def test_an_encoder_is_replaced_only_where_there_is_one_and_flagged(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"x")

    mean, ridge = set_models(["mean", "ridge"], "quick", Options(encoder="resnet18", weights=str(weights)))

    assert mean.encoder == ""
    assert ridge.encoder.startswith("resnet18 (sha256:")
    assert ridge.flags == ("other-encoder", "named-weights")
    assert set_models(["ridge"], "quick", Options(weights="none"))[0].flags == ("random-weights",)


def test_a_run_without_weights_stops_and_names_the_file() -> None:
    with pytest.raises(MissingError, match=r"weights of densenet121 are not there; put them at"):
        set_models(["st-net"], "official", Options())
    with pytest.raises(MissingError, match="model mean has no recipe 'best'; it has official"):
        set_models(["mean"], "best", Options())


def run(cell: Cell, output: Path) -> Cell:
    cell = replace(cell, folder=output / "demo" / "16um" / cell.record.model / cell.folder.name)
    run_cell(cell, lambda _: None)
    return cell


@pytest.fixture(scope="module")
def ridge_cell(cohort: Dataset, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Cell:
    cell = next(c for c in plan(cohort, folders, models=("ridge",)) if c.record.model == "ridge")
    return run(cell, tmp_path_factory.mktemp("runs"))


def test_a_cell_leaves_a_whole_record(ridge_cell: Cell) -> None:
    record = load_record(ridge_cell.folder)
    names = {p.name for p in ridge_cell.folder.iterdir()}

    assert record.status == "ok"
    assert record.key == ridge_cell.record.key
    assert record.seconds["fit"] > 0
    assert 0 < record.validation < 10
    assert record.peak_host_mb > 50
    assert names == {
        "record.json",
        "scores.json",
        "per_gene.parquet",
        "moments.npz",
        "predictions.npz",
        "config.toml",
        "log.txt",
    }
    assert is_done(ridge_cell)
    assert not is_done(replace(ridge_cell, record=replace(ridge_cell.record, key="other")))


def test_scores_are_those_of_scipy_on_the_stored_predictions(
    ridge_cell: Cell, folders: dict[str, Path]
) -> None:
    fold = open_fold(ridge_cell.task, ridge_cell.split, ridge_cell.record.fold, folders)
    test = fold.test[0]
    view = test.slide.take(test.headline)
    predicted = load_prediction(ridge_cell.folder, view.id)[test.headline]
    measured = view.need_labels().target()
    main = fold.panel.mean250
    usable = [g for g in main if np.ptp(measured[:, g]) > 0 and (measured[:, g] != 0).sum() >= 20]

    (scores,) = load_scores(ridge_cell.folder)

    r = [
        scipy_stats.pearsonr(predicted[:, g].astype(float), measured[:, g].astype(float)).statistic
        for g in usable
    ]
    error = predicted[:, usable].astype(float) - measured[:, usable]
    blank = fold.train_mean[usable] - measured[:, usable]
    assert scores.pcc_gene == pytest.approx(np.mean(r), abs=1e-9)
    assert scores.genes == len(usable)
    assert scores.mse == pytest.approx(np.mean(error**2))
    assert scores.mae == pytest.approx(np.mean(np.abs(error)))
    assert scores.mse_skill == pytest.approx(1 - np.sum(error**2) / np.sum(blank**2))
    table = pd.read_parquet(ridge_cell.folder / "per_gene.parquet")
    assert table[table["mean250"]]["pcc"].mean() == pytest.approx(np.mean(r), abs=1e-9)
    assert len(table) == len(fold.panel.genes)


def test_stored_moments_give_the_stored_score(ridge_cell: Cell) -> None:
    (scores,) = load_scores(ridge_cell.folder)
    sums = load_moments(ridge_cell.folder)[scores.slide]
    moments = sums.moments

    r = correlation_of(np.ones((1, len(moments.n))), moments)[0]

    assert r[sums.scored & sums.mean250].mean() == pytest.approx(scores.pcc_gene, abs=1e-6)
    assert r[sums.scored & sums.hvg50].mean() == pytest.approx(scores.pcc_gene_hvg50, abs=1e-6)
    assert moments.n.sum() == scores.units
    gap = moments.mean_p - moments.mean_m  # sums are centred by slide: the squared error needs their means
    error = (moments.pp - 2 * moments.pm + moments.mm).sum(axis=0) / scores.units + gap**2
    assert error[sums.scored & sums.mean250].mean() == pytest.approx(scores.mse, rel=1e-5)


def test_the_same_cell_gives_the_same_bytes(ridge_cell: Cell, tmp_path: Path) -> None:
    again = run(ridge_cell, tmp_path)

    for name in ("scores.json", "predictions.npz", "moments.npz", "per_gene.parquet"):
        assert (again.folder / name).read_bytes() == (ridge_cell.folder / name).read_bytes()


def test_scores_of_another_version_are_made_again_without_fitting(
    ridge_cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = replace(ridge_cell, folder=tmp_path / "cell")
    shutil.copytree(ridge_cell.folder, cell.folder)
    monkeypatch.setattr("hdstbench.sweep.cell.SCORES", 999)
    monkeypatch.setattr("hdstbench.sweep.cell.load_model", lambda _: pytest.fail("fitted again"))
    assert not is_done(cell)

    record = run_cell(cell, lambda _: None)

    assert record.status == "ok"
    assert record.seconds["fit"] == load_record(ridge_cell.folder).seconds["fit"]
    assert is_done(cell)
    assert (cell.folder / "moments.npz").read_bytes() == (ridge_cell.folder / "moments.npz").read_bytes()


def test_predictions_outlive_scores_that_fail_and_are_not_fitted_again(
    ridge_cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = replace(ridge_cell, folder=tmp_path / "cell")
    with monkeypatch.context() as broken:
        broken.setattr("hdstbench.sweep.score.score_fold", lambda *_: 1 / 0)
        record = run_cell(cell, lambda _: None)
    monkeypatch.setattr("hdstbench.sweep.cell.load_model", lambda _: pytest.fail("fitted again"))

    again = run_cell(cell, lambda _: None)

    assert record.status == "failed"
    assert "ZeroDivisionError" in record.error
    assert (again.status, again.error, again.seconds["fit"]) == ("ok", "", record.seconds["fit"])
    assert is_done(cell)


def test_rare_and_constant_genes_leave_the_panel() -> None:
    measured = np.zeros((100, 4))
    measured[:20, 0], measured[:19, 1], measured[:, 2], measured[:, 3] = 1, 1, 3, np.arange(100)

    np.testing.assert_array_equal(scored_genes(measured), [True, False, False, True])


def test_what_is_attainable_is_the_mean_of_the_target_over_poisson_counts(
    folders: dict[str, Path], cohort: Dataset
) -> None:
    cell = plan(cohort, folders)[0]
    fold = open_fold(cell.task, cell.split, 0, folders)
    view = fold.test[0].slide.take(fold.test[0].headline[:40])
    rng = np.random.default_rng(0)
    share, library = rng.uniform(0, 0.05, (40, 6)), rng.uniform(60, 4_000, 40)

    found = expected_target(view, share, library)

    draws = rng.poisson(library[:, None] * share, (4_000, 40, 6))
    mean = np.mean([view.target.from_counts(d, library) for d in draws], axis=0)
    np.testing.assert_allclose(found, mean, atol=0.09)


def test_names_are_expanded_once_and_close_ones_suggested() -> None:
    assert model_names(["mean", "all"])[0] == "mean"
    assert len(model_names(["all", "mean", "all"])) == len(set(model_names(["all"])))
    with pytest.raises(UnknownModelError, match="no model 'magnt'; did you mean magnet, mean"):
        load_model("magnt")


def test_precedence_is_defaults_file_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hdstbench.toml").write_text('recipe = "tiny"\nseeds = [1, 2]\n')
    Path("other.toml").write_text('recipe = "common"\n')

    options, used = resolve({"seeds": (5,)})

    assert (options.recipe, options.seeds, options.dataset, used) == (
        "tiny",
        (5,),
        ("demo",),
        "hdstbench.toml",
    )
    assert resolve({}, "other.toml")[0].recipe == "common"
    Path("hdstbench.toml").write_text("recipes = 1\n")
    with pytest.raises(DataError, match="unknown key 'recipes'; did you mean recipe"):
        resolve({})


@pytest.mark.parametrize("given", [{"workers": -1}, {"seeds": ()}, {"timeout": -2.0}])
def test_impossible_options_are_refused(
    given: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DataError, match="wanted at least"):
        resolve(given)


def test_a_board_with_a_missing_fold_has_no_score_for_that_model(
    cohort: Dataset, folders: dict[str, Path], tmp_path: Path
) -> None:
    cells = [c for c in plan(cohort, folders) if c.record.model == "mean"][:2]
    done = [run(cell, tmp_path) for cell in cells]
    names = tuple(str(cell.folder.relative_to(tmp_path)) for cell in done)
    path = tmp_path / "x.plan.json"
    save_json(
        path,
        Plan(stem="x", title="t", split_title="s", simulated=True, command="c", recipe="tiny", cells=names),
    )
    whole = load_board(path).rows[0]
    shutil.rmtree(done[1].folder)

    row = load_board(path).rows[0]

    assert whole.pcc is not None
    assert row.pcc is None
    assert row.failed == ("1 cell was not run",)


def test_a_model_that_was_entered_for_some_folds_has_no_score(ridge_cell: Cell, tmp_path: Path) -> None:
    names = ("mean/fold0-a", "mean/fold1-b", "theirs/fold1-c")
    for name in names:
        shutil.copytree(ridge_cell.folder, tmp_path / name)
        record = tmp_path / name / "record.json"
        record.write_text(record.read_text().replace('"model": "ridge"', f'"model": "{Path(name).parent}"'))
    path = tmp_path / "x.plan.json"
    save_json(
        path,
        Plan(stem="x", title="t", split_title="s", simulated=True, command="c", recipe="r", cells=names),
    )

    rows = {row.model: row for row in load_board(path).rows}

    assert rows["mean"].pcc is not None
    assert rows["theirs"].pcc is None
    assert rows["theirs"].failed == ("fold 0 was not entered",)


def test_a_planned_model_of_which_nothing_was_run_has_a_row(ridge_cell: Cell, tmp_path: Path) -> None:
    shutil.copytree(ridge_cell.folder, tmp_path / "ridge" / "fold0")
    path = tmp_path / "x.plan.json"
    wanted = Plan(
        stem="x",
        title="t",
        split_title="s",
        simulated=True,
        command="c",
        recipe="tiny",
        cells=("ridge/fold0", "egn/fold0-seed0", "egn/fold0-seed1"),
        kinds={"ridge": "control", "egn": "model"},
    )
    save_json(path, wanted)

    board = load_board(path)

    assert [(row.model, row.pcc is None) for row in board.rows] == [("egn", True), ("ridge", False)]
    assert "egn: none of its 2 cells was run" in render(board)


def test_scores_of_two_versions_are_not_mixed(ridge_cell: Cell, tmp_path: Path) -> None:
    for name in ("fold0", "fold1"):
        shutil.copytree(ridge_cell.folder, tmp_path / "ridge" / name)
    scores = tmp_path / "ridge" / "fold1" / "scores.json"
    scores.write_text(scores.read_text().replace(f'"version": {SCORES}', '"version": 1'))
    names = ("ridge/fold0", "ridge/fold1")
    path = tmp_path / "x.plan.json"
    save_json(
        path,
        Plan(stem="x", title="t", split_title="s", simulated=True, command="c", recipe="r", cells=names),
    )

    with pytest.raises(DataError, match=r"scores are of versions \[1, .\], which must not be mixed"):
        load_board(path)
