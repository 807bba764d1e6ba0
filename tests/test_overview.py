"""Marks of best and second best, and the page above all tables."""

from dataclasses import replace
from pathlib import Path

import pytest

from hdstbench.report.board import Board, Plan, Row
from hdstbench.report.cells import BetterRidge
from hdstbench.report.markdown import render, render_cost
from hdstbench.report.marks import with_marks
from hdstbench.report.overview import counts, render_overview, render_reported
from hdstbench.report.reported import reported_rows
from hdstbench.stats.bootstrap import Interval
from hdstbench.stats.ranks import Standing

HEAD = ("model", "pcc_gene ↑", "MSE ↓", "encoder")


def row(name: str, pcc: float | None, mse: float = 1.0, *, kind: str = "model", place: int = 0) -> Row:
    scores = {"pcc_gene": pcc or 0.0, "mse": mse, "mae": 1.0, "mse_skill": 0.1, "pcc_bin": 0.3}
    return Row(
        model=name,
        kind=kind,
        encoder="",
        flags=(),
        pcc=None if pcc is None else Interval(pcc, pcc - 0.1, pcc + 0.1),
        over_shuffled=None,
        over_ridge=None,
        scores={} if pcc is None else {**scores, "pcc_gene_hvg50": 0.1},
        by_patient={},
        constant=0,
        seed_sd=float("nan"),
        failed=() if pcc is not None else ("fold 0: boom",),
        cost={"fit_s": 1.0, "predict_s": 0.5, "host_mb": 100.0, "device_mb": 0.0, "parameters": 7},
        ran="cpu, 2026-11-27",
        standing=Standing(place, place, "a") if place else None,
    )


def board(stem: str, *rows: Row, **plan: object) -> Board:
    known = Plan(
        stem=stem, title="T", split_title="S", simulated=False, command="c", recipe="quick", cells=()
    )
    return Board(
        plan=replace(known, **plan),  # type: ignore[arg-type]
        rows=rows,
        slides=(),
        narrow=frozenset(),
        ridge=BetterRidge("", chosen=False),
    )


def test_the_best_is_bold_and_the_second_underlined_each_in_its_direction() -> None:
    rows = [row("a", 0.3, 2.0), row("b", 0.5, 1.0), row("c", 0.1, 3.0), row("r", 0.9, 0.1, kind="control")]
    lines = [(r.model, f"{r.scores['pcc_gene']:.3f}", f"{r.scores['mse']:.3f}", "e") for r in rows]

    found = with_marks(HEAD, rows, lines)

    assert [line[1] for line in found] == ["<u>0.300</u>", "**0.500**", "0.100", "0.900"]
    assert [line[2] for line in found] == ["<u>2.000</u>", "**1.000**", "3.000", "0.100"]
    assert [line[3] for line in found] == ["e"] * 4


def test_equal_values_are_marked_alike_and_one_model_not_at_all() -> None:
    rows = [row("a", 0.5), row("b", 0.5), row("c", 0.4)]
    lines = [(r.model, f"{r.scores['pcc_gene']:.3f}", "1", "") for r in rows]

    assert [line[1] for line in with_marks(HEAD, rows, lines)] == ["**0.500**", "**0.500**", "<u>0.400</u>"]
    assert with_marks(HEAD, rows[:1], lines[:1]) == lines[:1]


def test_a_failed_model_is_not_marked() -> None:
    rows = [row("a", 0.5), row("b", None), row("c", 0.4)]
    lines = [("a", "0.5", "1", ""), ("b", "failed", "–", ""), ("c", "0.4", "1", "")]

    assert with_marks(HEAD, rows, lines)[1] == lines[1]


def test_the_table_itself_has_the_marks() -> None:
    text = render(board("x", row("a", 0.5), row("b", 0.4), row("c", 0.3)))

    assert "| a | **0.500** |" in text
    assert "| b | <u>0.400</u> |" in text


def test_costs_have_a_day_and_a_device() -> None:
    text = render_cost(board("x", row("a", 0.5)))

    assert "| a | 1.0 | 0.5 | 100 | – | 7 | cpu, 2026-11-27 |" in text


def test_the_overview_sorts_by_mean_place_over_tables_that_count() -> None:
    real = board("real", row("a", 0.3, place=2), row("b", 0.4, place=1), row("k", 0.2, kind="control"))
    other = board("other", row("b", None), row("a", 0.4, place=1))
    simulated = board("sim", row("a", 0.1, place=2), row("b", 0.9, place=1), simulated=True)

    text = render_overview([real, other, simulated]).split("## Overview")[1]

    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][2:]
    assert names == ["a", "b", "*k* (control)"]  # b failed on a table that counts
    assert "failed" in text
    assert "| a | 1.00 |" in text  # (2 / 2 + 1 / 1) / 2, the simulated table left out


@pytest.mark.parametrize("flag", ["slide-leak", "patient-leak", "panel-sees-test", "duplicate-section"])
def test_tables_that_leak_do_not_count(flag: str) -> None:
    leaky = board("x", replace(row("a", 0.5, place=1), flags=(flag,)))

    assert not counts(leaky)
    assert counts(board("x", row("a", 0.5, place=1)))
    assert "does not count below" in render_overview([leaky])


def test_every_reported_number_is_quoted_as_printed() -> None:
    text = render_reported()

    assert len(reported_rows()) == 60
    for one in reported_rows():
        assert all(printed in text for printed in one.printed.values())
    assert all(f"## Table {number}\n" in text for number in (1, 2, 3, 4))
    assert (Path(__file__).parents[1] / "leaderboards" / "reported" / "README.md").read_text() == text
