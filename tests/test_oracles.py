"""Oracles against numbers by hand, the table they stand in, and the mark of models below the better ridge."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hdstbench.data.card import Dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.metrics.moments import block_moments
from hdstbench.protocol.task import Fold, open_fold
from hdstbench.records import (
    SCORES,
    GeneSums,
    Record,
    SlideScores,
    load_record,
    load_scores,
    save_json,
    save_moments,
)
from hdstbench.report.board import Board, Plan, load_board
from hdstbench.report.markdown import MARK, render, write_board
from hdstbench.sweep.cell import Cell, load_prediction, run_cell
from hdstbench.sweep.options import Options
from hdstbench.sweep.oracle import ask, depth, oracle_names
from hdstbench.sweep.plan import plan_cells, plan_job
from hdstbench.sweep.score import score_fold
from hdstbench.sweep.setting import set_models


@pytest.fixture(scope="module")
def cells(cohort: Dataset) -> list[Cell]:
    """Cells of fold 0: the oracles and `mean`."""
    res = cohort.card.resolution("16um")
    folders = {s.id: prepare_slide(cohort, s, res) for s in cohort.card.samples}
    options = Options(models=("mean",), recipe="tiny", folds=(0,))
    settings = set_models(options.models, "tiny", options)
    return plan_cells(plan_job(cohort, "16um", options), settings, folders, options, "cpu")


@pytest.fixture(scope="module")
def fold(cells: list[Cell]) -> Fold:
    return open_fold(cells[0].task, cells[0].split, 0, cells[0].folders)


def test_what_is_attainable_is_asked_on_simulated_slides_alone() -> None:
    assert oracle_names(simulated=True) == ("attainable", "slide-mean", "depth")
    assert oracle_names(simulated=False) == ("slide-mean", "depth")


def test_the_slide_mean_is_that_of_the_tested_units(fold: Fold) -> None:
    (test,) = fold.test
    measured = test.slide.need_labels().target()[test.headline]

    predicted = ask("slide-mean", fold)[test.slide.id]

    np.testing.assert_allclose(
        predicted[test.headline], np.tile(measured.mean(axis=0), (len(measured), 1)), rtol=1e-5
    )
    outside = np.setdiff1d(np.arange(len(test.slide)), test.headline)
    assert not predicted[outside].any()


def test_the_slide_mean_has_no_pattern_and_an_error_of_the_variance(fold: Fold) -> None:
    (test,) = fold.test
    (scores,) = score_fold(fold, ask("slide-mean", fold)).slides
    measured = test.slide.need_labels().target()[test.headline][:, fold.panel.mean250]
    used = measured[:, (np.ptp(measured, axis=0) > 0) & ((measured != 0).sum(axis=0) >= 20)].astype(float)

    assert (scores.pcc_gene, scores.constant) == (0.0, scores.genes)
    assert scores.mse == pytest.approx(used.var(axis=0).mean(), rel=1e-5)
    assert scores.mse_skill > 0


def test_depth_is_the_line_that_fits_best(fold: Fold) -> None:
    (test,) = fold.test
    view = test.slide.take(test.headline)
    measured, library = view.need_labels().target(), view.need_labels().library

    predicted = ask("depth", fold)[view.id][test.headline]

    for gene in range(0, len(view.genes), 7):
        line = np.polyfit(np.log(library + 1), measured[:, gene].astype(float), 1)
        np.testing.assert_allclose(predicted[:, gene], np.polyval(line, np.log(library + 1)), atol=1e-4)


def test_depth_of_units_of_one_size_is_their_mean(fold: Fold) -> None:
    slide = fold.test[0].slide
    sizes, count = np.unique(slide.need_labels().library, return_counts=True)
    same = slide.take(np.flatnonzero(slide.need_labels().library == sizes[count.argmax()]))
    assert len(same) > 1

    predicted = depth(same)

    np.testing.assert_allclose(
        predicted, np.tile(same.need_labels().target().mean(axis=0), (len(same), 1)), atol=1e-4
    )


@pytest.fixture(scope="module")
def board_of_oracles(cells: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> tuple[Board, Path]:
    folder = tmp_path_factory.mktemp("oracles")
    for cell in cells:
        run_cell(replace(cell, folder=folder / cell.record.model / "fold0"), lambda _: None)
    names = tuple(f"{cell.record.model}/fold0" for cell in cells)
    return load_board(save_plan(folder, names)), folder


def save_plan(folder: Path, cells: tuple[str, ...]) -> Path:
    path = folder / "x.plan.json"
    plan = Plan(stem="x", title="t", split_title="s", simulated=False, command="c", recipe="r", cells=cells)
    save_json(path, plan)
    return path


def test_an_oracle_is_a_cell_that_leaves_a_record(board_of_oracles: tuple[Board, Path], fold: Fold) -> None:
    folder = board_of_oracles[1] / "depth" / "fold0"

    record = load_record(folder)

    assert (record.kind, record.status, record.validation) == ("oracle", "ok", None)
    assert not (folder / "config.toml").exists()
    (test,) = fold.test
    np.testing.assert_array_equal(load_prediction(folder, test.slide.id), ask("depth", fold)[test.slide.id])
    assert load_scores(folder)[0].pcc_gene > 0


def test_oracles_stand_in_a_table_of_their_own(board_of_oracles: tuple[Board, Path], tmp_path: Path) -> None:
    board, _ = board_of_oracles

    table = write_board(board, tmp_path)

    scores, oracles = table.read_text().split("Oracles, computed from the truth; no model sees it:")
    for name in ("attainable", "slide-mean", "depth"):
        assert f"| {name} |" not in scores
        assert f"| {name} |" in oracles
    assert "*mean* (control)" in scores
    frame = pd.read_csv(tmp_path / "x.csv").set_index("model")
    assert frame["kind"].to_dict() == dict.fromkeys(("attainable", "slide-mean", "depth"), "oracle") | {
        "mean": "control"
    }
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert sum(row["kind"] == "oracle" for row in rows) == 3


def stored(
    folder: Path,
    model: str,
    *,
    kind: str = "control",
    noise: float,
    validation: float | None,
    blocks: int = 30,
) -> None:
    """A cell whose predictions are the truth and this much noise."""
    rng = np.random.default_rng(7)
    measured = rng.normal(size=(900, 40))
    predicted = measured + noise * np.random.default_rng(len(model)).normal(size=measured.shape)
    block = np.arange(900) % blocks
    r = [np.corrcoef(p, m)[0, 1] for p, m in zip(predicted.T, measured.T, strict=True)]
    place = folder / model / "fold0"
    place.mkdir(parents=True)
    every = np.ones(40, bool)
    sums = GeneSums(
        moments=block_moments(predicted, measured, block), scored=every, mean250=every, hvg50=every
    )
    save_moments(place / "moments.npz", {"S": sums})
    scores = SlideScores(
        slide="S",
        patient="P",
        units=900,
        genes=40,
        genes_left_out=0,
        constant=0,
        pcc_gene=float(np.mean(r)),
        pcc_gene_hvg50=0.0,
        pcc_bin=0.0,
        mse=1.0,
        mae=1.0,
        mse_skill=0.0,
        range_um=0.0,
        patch_um=1.0,
        blocks=blocks,
        block_um=9.0,
    )
    save_json(place / "scores.json", {"version": SCORES, "panel": "", "slides": [scores]})
    told = {"key": model, "model": model, "kind": kind, "recipe": "r", "fold": 0, "seed": 0}
    record = Record(**told, task={}, status="ok", validation=validation)  # type: ignore[arg-type]
    save_json(place / "record.json", record)


def board_of(folder: Path) -> Board:
    return load_board(
        save_plan(folder, tuple(sorted(f"{p.parent.name}/fold0" for p in folder.glob("*/fold0"))))
    )


def marked(board: Board) -> set[str]:
    return {row.model for row in board.rows if board.marked(row)}


def ridges(folder: Path, *, one: float | None = 0.5, other: float | None = 0.4) -> None:
    stored(folder, "ridge", noise=1.0, validation=one)
    stored(folder, "ridge-levels", noise=2.0, validation=other)


def test_a_model_that_is_not_above_the_better_ridge_is_marked_and_stays(tmp_path: Path) -> None:
    ridges(tmp_path)
    stored(tmp_path, "worse", kind="model", noise=3.0, validation=None)
    stored(tmp_path, "same", kind="variant", noise=2.0, validation=None)
    stored(tmp_path, "better", kind="model", noise=1.5, validation=None)
    stored(tmp_path, "mean", noise=9.0, validation=None)

    board = board_of(tmp_path)

    assert marked(board) == {"worse", "same"}
    text = render(board)
    for line in (f"| worse {MARK} |", f"| same {MARK} |", "| better |", "| *mean* (control) |"):
        assert line in text
    assert "which is `ridge-levels` (of two, by squared error on inner validation)" in text
    assert "Marked: 2 of 3 models." in text
    write_board(board, tmp_path)
    assert json.loads((tmp_path / "x.json").read_text())["better_ridge"] == "ridge-levels"
    frame = pd.read_csv(tmp_path / "x.csv").set_index("model")
    assert set(frame.index[frame["not_above_better_ridge"]]) == {"worse", "same"}
    row = next(row for row in board.rows if row.model == "better")
    assert row.over_ridge is not None
    assert row.over_ridge.low is not None
    assert 0 < row.over_ridge.low < row.over_ridge.value


def test_the_better_ridge_is_not_chosen_by_what_it_scores(tmp_path: Path) -> None:
    """The one of the two that scores less is the better one if inner validation says so."""
    (tmp_path / "a").mkdir()
    ridges(tmp_path / "a", one=0.5, other=0.4)
    ridges(tmp_path / "b", one=0.4, other=0.5)

    first, second = board_of(tmp_path / "a"), board_of(tmp_path / "b")

    assert (first.ridge.name, second.ridge.name) == ("ridge-levels", "ridge")
    assert first.rows[0].model == "ridge"
    assert first.rows[0].over_ridge is not None
    assert first.rows[0].over_ridge.value > 0


@pytest.mark.parametrize(("one", "other"), [(None, 0.4), (0.5, None), (None, None)])
def test_without_an_error_of_each_it_is_ridge(tmp_path: Path, one: float | None, other: float | None) -> None:
    ridges(tmp_path, one=one, other=other)
    stored(tmp_path, "m", kind="model", noise=1.5, validation=None)

    board = board_of(tmp_path)

    assert (board.ridge.name, board.ridge.chosen) == ("ridge", False)
    assert marked(board) == {"m"}
    assert "the better ridge, which is `ridge`: the 95 %" in render(board)


def test_a_model_without_an_interval_is_marked(tmp_path: Path) -> None:
    stored(tmp_path, "ridge", noise=3.0, validation=0.4, blocks=1)
    stored(tmp_path, "m", kind="model", noise=0.1, validation=None, blocks=1)

    assert marked(board_of(tmp_path)) == {"m"}


def test_without_a_ridge_nothing_is_marked(tmp_path: Path) -> None:
    stored(tmp_path, "m", kind="model", noise=1.0, validation=None)

    board = board_of(tmp_path)

    assert marked(board) == set()
    assert MARK not in render(board)


def test_records_from_before_read_as_they_are(tmp_path: Path) -> None:
    ridges(tmp_path)
    path = tmp_path / "ridge" / "fold0" / "record.json"
    record = json.loads(path.read_text())
    assert record.pop("validation") == 0.5
    path.write_text(json.dumps(record))

    assert load_record(path.parent).validation is None
    assert board_of(tmp_path).ridge.name == "ridge"
