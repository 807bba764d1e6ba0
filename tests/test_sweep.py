"""Keys, scores, failures as rows, and workers that die."""

import os
import shutil
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import type_command
from scipy import stats as scipy_stats

from hdstbench.data.card import Dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import DataError, MissingError
from hdstbench.metrics.moments import correlation_of
from hdstbench.plugins.registry import UnknownModelError, load_model, model_names
from hdstbench.protocol.task import open_fold
from hdstbench.records import load_moments, load_record, load_scores, save_json
from hdstbench.report.board import Plan, load_board
from hdstbench.sweep.cell import Cell, is_done, load_prediction, run_cell
from hdstbench.sweep.options import Options, resolve
from hdstbench.sweep.oracle import expected_target
from hdstbench.sweep.plan import plan_cells, plan_job
from hdstbench.sweep.score import scored_genes
from hdstbench.sweep.setting import set_models
from hdstbench.sweep.worker import THREADS, start_worker


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


def test_every_model_fold_and_seed_is_a_cell_and_the_oracle_comes_first(
    cohort: Dataset, folders: dict[str, Path]
) -> None:
    cells = plan(cohort, folders, models=("mean", "ridge"), seeds=(0, 1), folds=(0, 2))

    named = [(c.record.model, c.record.fold, c.record.seed) for c in cells]
    assert named == [
        (m, f, s)
        for f in (0, 2)
        for m, s in [("attainable", 0), ("mean", 0), ("mean", 1), ("ridge", 0), ("ridge", 1)]
    ]
    assert len(keys(cells)) == 8


@pytest.mark.parametrize(
    "change",
    [{"seeds": (1,)}, {"recipe": "quick"}, {"precision": "bf16"}, {"bins": "all"}, {"models": ("ridge",)}],
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
    assert before & keys(plan(cohort, {**folders, "SIM4": folders["SIM3"]})) == set()
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
    assert ridge.flags == ("other-encoder",)
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
    moments, scored = load_moments(ridge_cell.folder)[scores.slide]

    r = correlation_of(np.ones((1, len(moments.n))), moments)[0][scored]

    assert r.mean() == pytest.approx(scores.pcc_gene, abs=1e-6)
    assert moments.n.sum() == scores.units


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


def test_rare_and_constant_genes_leave_the_panel() -> None:
    measured = np.zeros((100, 4))
    measured[:20, 0], measured[:19, 1], measured[:, 2], measured[:, 3] = 1, 1, 3, np.arange(100)

    np.testing.assert_array_equal(scored_genes(measured), [True, False, False, True])


def test_the_oracle_is_the_mean_of_the_target_over_poisson_counts(
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


PLUGINS = """
    import os, sys, time
    from dataclasses import dataclass
    import numpy as np
    from hdstbench.plugins.plugin import ModelPlugin

    @dataclass(frozen=True)
    class Config:
        what: str

    class Bad:
        def __init__(self, config):
            self.what = config.what

        def fit(self, train, val, context):
            print("a line for the log")
            if self.what == "raise":
                raise RuntimeError("no luck\\ntoday")
            if self.what == "memory":
                raise MemoryError("too much")
            if self.what == "die":
                os._exit(7)
            if self.what == "exit":
                sys.exit(3)
            if self.what == "hang":
                time.sleep(600)

        def predict(self, slide):
            shape = (len(slide), len(slide.genes) + (self.what == "shape"))
            return np.full(shape, np.nan if self.what == "nan" else 1.0, np.float32)

    def plugin(what):
        return ModelPlugin(name=f"bad-{what}", kind="model", context="unit", recipes={"tiny": Config(what)},
                           build=Bad, paper="none", licence="none", notes="for a test")

    RAISE, MEMORY, DIE, EXIT, HANG, SHAPE, NAN, FINE = map(
        plugin, ["raise", "memory", "die", "exit", "hang", "shape", "nan", "fine"])
"""
BAD = ("raise", "memory", "die", "exit", "hang", "shape", "nan", "fine")


@pytest.fixture(scope="module")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed package that brings models with every kind of trouble, and one that works."""
    root = tmp_path_factory.mktemp("site")
    (root / "bad_models.py").write_text(textwrap.dedent(PLUGINS))
    info = root / "bad_models-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-models\nVersion: 1.2\n")
    points = [f"bad-{what} = bad_models:{what.upper()}" for what in BAD]
    points += ["bad-import = nowhere_at_all:PLUGIN", "bad-kind = bad_models:Config"]
    (info / "entry_points.txt").write_text("[hdstbench.models]\n" + "\n".join(points) + "\n")
    return root


def test_failures_are_rows_and_the_sweep_goes_on(
    cohort_folder: Path, third_party: Path, tmp_path: Path, own_cache: Path
) -> None:
    models = ",".join(f"bad-{what}" for what in BAD)
    done = type_command(
        "run",
        "-m",
        f"{models},mean",
        "-d",
        str(cohort_folder / "dataset.toml"),
        "-r",
        "16um",
        "--recipe",
        "tiny",
        "--folds",
        "0",
        "--timeout",
        "15",
        "-o",
        "out",
        cwd=tmp_path,
        cache=own_cache,
        env={"PYTHONPATH": str(third_party)},
    )
    table = (tmp_path / "out" / "simulated-16um.md").read_text()

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for line in (
        "bad-raise: fold 0: RuntimeError: no luck today",
        "bad-memory: fold 0: MemoryError: too much",
        "bad-die: fold 0: the worker died (exit code 7)",
        "bad-exit: fold 0: SystemExit: 3",
        "bad-hang: fold 0: took longer than the time limit",
        "bad-shape: fold 0: ValueError: predict returned shape",
        "bad-nan: fold 0: ValueError: predict returned values that are not finite",
    ):
        assert line in table
    assert "| bad-fine | 0.000 |" in table
    assert "| *mean* (control) | 0.000 |" in table
    statuses = {
        p.parent.parent.name: load_record(p.parent).status for p in (tmp_path / "out").rglob("record.json")
    }
    assert statuses["bad-memory"] == "oom"
    assert statuses["bad-hang"] == "timeout"
    assert {statuses[f"bad-{w}"] for w in ("raise", "die", "exit", "shape", "nan")} == {"failed"}
    log = next((tmp_path / "out" / "simulated" / "16um" / "bad-raise").rglob("log.txt")).read_text()
    assert "a line for the log" in log
    assert "Traceback" in log
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_failed_cells_are_tried_again_and_fail_fast_stops(
    cohort_folder: Path, third_party: Path, tmp_path: Path, own_cache: Path
) -> None:
    words = (
        "run",
        "-m",
        "bad-raise,mean",
        "-d",
        str(cohort_folder / "dataset.toml"),
        "-r",
        "16um",
        "--recipe",
        "tiny",
        "--workers",
        "1",
        "-o",
        "out",
    )
    env = {"PYTHONPATH": str(third_party)}

    first = type_command(*words, "--fail-fast", cwd=tmp_path, cache=own_cache, env=env)
    second = type_command(*words, cwd=tmp_path, cache=own_cache, env=env)

    assert first.returncode == 1
    assert "/12] simulated 16um mean" not in first.stdout
    assert "11 cells were not run" not in first.stdout
    assert second.returncode == 1
    assert second.stdout.count("failed: RuntimeError") == 4


def test_an_installed_package_is_listed_and_a_broken_one_is_named(
    third_party: Path, tmp_path: Path, own_cache: Path
) -> None:
    env = {"PYTHONPATH": str(third_party)}

    listed = type_command("ls", cwd=tmp_path, cache=own_cache, env=env)
    broken = type_command("ls", "model", "bad-import", cwd=tmp_path, cache=own_cache, env=env)
    wrong = type_command("ls", "model", "bad-kind", cwd=tmp_path, cache=own_cache, env=env)

    assert "bad-fine          bad-models 1.2" in listed.stdout
    assert broken.returncode == wrong.returncode == 2
    assert "model 'bad-import' of bad-models 1.2 cannot be imported" in broken.stderr
    assert "bad_models:Config is not the ModelPlugin 'bad-kind'" in wrong.stderr


def test_two_packages_with_one_name_are_an_error(third_party: Path, tmp_path: Path, own_cache: Path) -> None:
    info = tmp_path / "other-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hdstbench.models]\nbad-fine = other:PLUGIN\n")
    path = os.pathsep.join([str(third_party), str(tmp_path)])

    done = type_command("ls", cwd=tmp_path, cache=own_cache, env={"PYTHONPATH": path})

    assert done.returncode == 2
    assert "model 'bad-fine' is brought by bad_models:FINE and by other:PLUGIN; uninstall one" in done.stderr


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
    assert row.failed == ("1 cells were not run",)


def test_a_prepared_sweep_needs_none_of_the_readers_libraries(
    cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    """On a bare GPU node neither anndata, OpenSlide nor imagecodecs has to be there."""
    words = [
        "run",
        "-m",
        "mean,ridge",
        "-d",
        str(cohort_folder / "dataset.toml"),
        "-r",
        "16um",
        "--recipe",
        "tiny",
    ]
    type_command(*words, "--folds", "0", "-o", "first", cwd=tmp_path, cache=own_cache)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('anndata', 'openslide', 'imagecodecs'):\n    sys.modules[name] = None\n"
    )

    done = type_command(
        *words, "-o", "second", cwd=tmp_path, cache=own_cache, env={"PYTHONPATH": str(tmp_path)}
    )

    assert done.returncode == 0, done.stderr


def test_workers_get_one_thread_each() -> None:
    before = {name: os.environ.get(name) for name in THREADS}
    worker = start_worker()
    worker.stop()

    assert not worker.process.is_alive()
    assert {name: os.environ.get(name) for name in THREADS} == before
    assert sys.platform != "win32"
