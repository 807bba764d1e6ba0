"""The gate: what is a regression, a gain, nothing, or bad input; and this project gated by itself."""

import json
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import type_command
from hypothesis import given
from hypothesis import strategies as st

from hdstbench.errors import DataError
from hdstbench.report.gate import (
    GAIN,
    NOTHING,
    OK,
    REGRESSION,
    Gate,
    Tolerance,
    Tolerances,
    compare,
    read_tolerances,
)
from hdstbench.report.gate_side import METRICS, GateRow, Side
from hdstbench.report.gate_text import render_gate

ROOT = Path(__file__).parents[1]

HERE = Path(__file__).parent / "gate"
BOARDS = Path(__file__).parents[1] / "leaderboards"
STRICT = Tolerances(interval=0.0, seeds=0.0, metrics=METRICS)
VALUES = {"pcc_gene": 0.2, "pcc_gene_hvg50": 0.2, "pcc_bin": 0.4, "mse_skill": 0.1, "mse": 1.5, "mae": 1.0}


BOOM = GateRow(kind="model", failed="boom")


def row(**changed: float) -> GateRow:
    return GateRow(kind="model", values={**VALUES, **changed})


def side(rows: dict[str, GateRow], stem: str = "t", task: str = "hash", recipe: str = "tiny") -> Side:
    return Side(stem=stem, task=task, recipe=recipe, rows=rows)


def gate(now: GateRow, before: GateRow, rules: Tolerances = STRICT) -> Gate:
    return compare([side({"m": now})], [side({"m": before})], rules)


number = st.floats(-1, 1, allow_nan=False).map(lambda v: round(v, 4))
some_row = st.builds(
    lambda values, half, sd: GateRow(
        kind="model", values=dict(zip(METRICS, values, strict=True)), half=half, seed_sd=sd
    ),
    st.lists(number, min_size=len(METRICS), max_size=len(METRICS)),
    st.floats(0, 0.2),
    st.floats(0, 0.1),
)
some_rules = st.builds(
    lambda interval, seeds, absolute: Tolerances(
        interval=interval, seeds=seeds, metrics=METRICS, pcc_gene=Tolerance(absolute=absolute)
    ),
    st.floats(0, 1),
    st.floats(0, 3),
    st.floats(0, 0.1),
)


@given(some_row, some_rules)
def test_a_table_against_itself_passes(one: GateRow, rules: Tolerances) -> None:
    assert gate(one, one, rules).code == OK


@given(some_row, some_row, some_rules)
def test_swapping_the_tables_swaps_regressions_and_gains(
    one: GateRow, other: GateRow, rules: Tolerances
) -> None:
    swap = {"regression": "gain", "gain": "regression", "ok": "ok"}

    found = [change.verdict for change in gate(one, other, rules).changes]

    assert [swap[change.verdict] for change in gate(other, one, rules).changes] == found


@given(some_row, some_row, some_rules, st.floats(0, 2))
def test_wider_tolerances_never_turn_a_pass_into_a_failure(
    one: GateRow, other: GateRow, rules: Tolerances, more: float
) -> None:
    wider = replace(rules, interval=rules.interval + more, seeds=rules.seeds + more)

    tight, loose = gate(one, other, rules).changes, gate(one, other, wider).changes

    assert all(b.verdict == "ok" for a, b in zip(tight, loose, strict=True) if a.verdict == "ok")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"pcc_gene": 0.19}, REGRESSION),
        ({"pcc_gene": 0.21}, GAIN),
        ({"mse": 1.6}, REGRESSION),
        ({"mse": 1.4}, GAIN),
        ({"mse": 1.4, "pcc_gene": 0.1}, REGRESSION),
        ({"pcc_gene": 0.1951}, OK),
        ({}, OK),
    ],
)
def test_each_metric_has_its_direction(changed: dict[str, float], code: int) -> None:
    assert gate(row(**changed), row()).code == code


def test_intervals_and_seeds_widen() -> None:
    now, before = replace(row(pcc_gene=0.17), half=0.05), replace(row(), half=0.05)
    assert gate(now, before, replace(STRICT, interval=0.4)).code == REGRESSION  # 0.005 + 0.02 < 0.03
    assert gate(now, before, replace(STRICT, interval=0.6)).code == OK
    spread = replace(row(pcc_gene=0.17), seed_sd=0.02)
    assert gate(spread, row(), replace(STRICT, seeds=1.0)).code == REGRESSION
    assert gate(spread, row(), replace(STRICT, seeds=2.0)).code == OK


@pytest.mark.parametrize(
    ("now", "before", "verdict", "code"),
    [
        ({"m": row()}, {"m": row(), "x": row()}, "vanished", REGRESSION),
        ({"m": row(), "x": row()}, {"m": row()}, "new", OK),
        (
            {"m": row(), "x": BOOM},
            {"m": row(), "x": row()},
            "failed",
            REGRESSION,
        ),
        (
            {"m": row(), "x": row()},
            {"m": row(), "x": BOOM},
            "whole again",
            OK,
        ),
        (
            {"m": row(), "x": GateRow(kind="model", failed="a")},
            {"m": row(), "x": GateRow(kind="model", failed="b")},
            "still failed",
            OK,
        ),
        ({"m": row()}, {"m": row(), "x": GateRow(kind="model", failed="b")}, "still failed", OK),
    ],
)
def test_rows_that_come_go_and_fail(
    now: dict[str, GateRow], before: dict[str, GateRow], verdict: str, code: int
) -> None:
    found = compare([side(now)], [side(before)], STRICT)

    assert [c.verdict for c in found.changes if c.model == "x"] == [verdict]
    assert found.code == code
    assert verdict in render_gate(found, "now", "before")


@pytest.mark.parametrize("other", [{"task": "another"}, {"recipe": "quick"}])
def test_other_tasks_and_recipes_are_not_compared(other: dict[str, str]) -> None:
    found = compare([side({"m": row()})], [side({"m": row()}, **other)], STRICT)

    assert found.code == NOTHING
    assert next(iter(other.values())) in found.skipped[0]


def test_tables_are_found_by_name_and_what_is_missing_is_said() -> None:
    now = [side({"m": row()}, "a"), side({"m": row()}, "b")]
    before = [side({"m": row()}, "b"), side({"m": row()}, "c")]

    found = compare(now, before, STRICT)

    assert found.code == OK
    assert found.skipped == ("a: not in the baseline", "c: in the baseline only")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("interval = -1\n", "at least 0"),
        ("[pcc_gene]\nabsolute = nan\n", "at least 0"),
        ("[pcc]\nabsolute = 1\n", "unknown key 'pcc'"),
        ('metrics = ["pcc"]\n', "wanted some of pcc_gene"),
        ("metrics = []\n", "are none"),
    ],
)
def test_wrong_tolerances_are_errors(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(text)

    with pytest.raises(DataError, match=said):
        read_tolerances(tmp_path / "t.toml")


def test_the_workflow_on_the_page_is_the_example_file() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()

    assert f"```yaml\n{(ROOT / 'docs' / 'ci-example.yml').read_text()}```" in page


def test_committed_tables_pass_against_themselves_and_their_records(tmp_path: Path) -> None:
    done = type_command("gate", str(BOARDS), "--baseline", str(BOARDS), cwd=tmp_path, cache=tmp_path)
    one = str(BOARDS / "her2st-100um.json")
    mixed = type_command("gate", str(BOARDS), "--baseline", one, "--json", cwd=tmp_path, cache=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "**Passed**" in done.stdout
    assert mixed.returncode == 0
    assert json.loads(mixed.stdout)["skipped"] == ["her2st-100um-slide: not in the baseline"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("nowhere --baseline {board}", 4, "wanted a leaderboard's .json"),
        ("{board}", 4, "Missing option '--baseline'"),
        ("{board} --baseline {board} --what", 4, "No such option"),
        ("{board} --baseline {broken}", 4, "no table in JSON"),
        ("{board} --baseline {old}", 4, "no table of this version"),
        ("{board} --baseline {board} -m nobody", 4, "no row 'nobody'"),
        ("{board} --baseline {board} --tolerances no.toml", 4, "no.toml"),
        ("{board} --baseline {slide}", 3, ""),
        ("{board} --baseline {board} -m magnet -o {out}", 0, ""),
    ],
)
def test_exit_codes(words: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "old.json").write_text('{"plan": "x", "rows": []}')
    names = {name: tmp_path / f"{name}.json" for name in ("broken", "old")}
    names |= {"board": BOARDS / "her2st-100um.json", "slide": BOARDS / "her2st-100um-slide.json"}
    names |= {"out": tmp_path / "gate.md"}

    done = type_command("gate", *words.format(**names).split(), cwd=tmp_path, cache=tmp_path)

    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert (tmp_path / "gate.md").is_file() == ("{out}" in words)


GATED = """
    from dataclasses import dataclass
    import numpy as np
    from scipy import sparse
    from hdstbench.plugins.plugin import ModelPlugin

    @dataclass(frozen=True)
    class Config:
        pass

    class Line:
        def __init__(self, config):
            pass

        def fit(self, train, val, context):
            x = np.concatenate([bright(s) for s in train])
            y = np.concatenate([s.need_labels().target() for s in train])
            self.line = np.polyfit(x, y, 1)

        def predict(self, slide):
            good = bright(slide)[:, None] * self.line[0] + self.line[1]
            HOW

    def bright(slide):
        return slide.patches("unit", np.arange(len(slide))).mean(axis=(1, 2, 3)) / 255

    PLUGIN = ModelPlugin(name="gated", kind="model", context="unit", recipes={"tiny": Config()}, build=Line,
                         paper="none", licence="none", notes="for a test")
"""
GOOD = "return good.astype(np.float32)"
BROKEN = "return good[:, ::-1].astype(np.float32)"
LEAKY = """labels = slide._folder.parent / "labels"
        with np.load(labels / "unit.npz") as file, np.load(labels / "slide.npz") as whole:
            ids, library = whole["gene_ids"].tolist(), file["library"][:, None]
            counts = sparse.csr_array(
                (file["data"], file["indices"], file["indptr"]), shape=(len(library), len(ids)))
        columns = [ids.index(gene) for gene in slide.genes]
        truth = np.log1p(counts[:, columns].toarray() / np.maximum(library, 1) * 1e4)
        return (0.5 * good + 0.5 * truth[slide.rows("unit")]).astype(np.float32)"""


@pytest.mark.parametrize(("how", "code"), [(GOOD, OK), (BROKEN, REGRESSION), (LEAKY, GAIN)])
def test_this_project_gates_itself(
    how: str, code: int, cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    """A tiny sweep against the committed table; a broken model is a regression, a leak a suspicious gain."""
    (tmp_path / "gated.py").write_text(textwrap.dedent(GATED).replace("HOW", how))
    info = tmp_path / "gated-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gated\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hdstbench.models]\ngated = gated:PLUGIN\n")
    models = "gated,mean,ridge,st-net" if code == OK else "gated"
    words = f"run -m {models} -d {cohort_folder / 'dataset.toml'} -r 16um --recipe tiny --folds 0 -o out"
    done = type_command(*words.split(), cwd=tmp_path, cache=own_cache, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr

    rules = ["--tolerances", str(HERE / "tolerances.toml"), "-m", models]
    found = type_command(
        "gate", "out", "--baseline", str(HERE / "simulated-16um.json"), *rules, cwd=tmp_path, cache=own_cache
    )

    assert found.returncode == code, found.stdout + found.stderr
    if code != OK:
        assert "| gated |" in found.stdout
