"""Splits within slides: parts that share no pixel, a panel that is blind to them, and who may run there."""

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from helpers import MPP, make_slide, type_command

from hdstbench.arrays import IntArray
from hdstbench.data.card import Dataset, load_dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import DataError
from hdstbench.protocol.audit import audit_split
from hdstbench.protocol.inner import split_part
from hdstbench.protocol.slide import sampled
from hdstbench.protocol.splits import FoldTable, Split, load_split
from hdstbench.protocol.task import Fold, Task, open_fold
from hdstbench.sweep.options import Options
from hdstbench.sweep.setting import set_models, settings_for

WITHIN = load_split(load_dataset("demo"), "within")


def task(split: Split) -> Task:
    return Task(dataset="x", resolution="16um", split=split.name, split_hash=split.hash, panel="p")


@pytest.fixture(scope="module")
def folders(cohort: Dataset) -> dict[str, Path]:
    res = cohort.card.resolution("16um")
    return {s.id: prepare_slide(cohort, s, res) for s in cohort.card.samples}


def rows(fold: Fold) -> dict[str, set[int]]:
    """Units that a fold trains or validates on, by slide."""
    out: dict[str, set[int]] = {}
    for view in (*fold.train, *fold.val):
        out.setdefault(view.id, set()).update(view.rows("unit").tolist())
    return out


def test_every_slide_is_on_both_sides_of_every_part() -> None:
    assert len(WITHIN.folds) == WITHIN.parts == 4
    assert WITHIN.leaky
    for number in range(4):
        assert WITHIN.folds[number].test == WITHIN.train_of(number) == ("SIM1", "SIM2", "SIM3")


def test_splits_without_parts_keep_their_hash() -> None:
    split = load_split(load_dataset("demo"), "patient")
    content = {name: value for name, value in asdict(split).items() if name != "parts"}

    before = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    assert split.hash == before
    assert replace(WITHIN, parts=3).hash != WITHIN.hash


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_a_part_shares_no_pixel_with_what_trains(tmp_path: Path, turn: float) -> None:
    slide = make_slide(tmp_path, "a", side_um=1280, turn=turn).slide

    train, test = split_part(slide, 4, 1)

    assert 0.2 < len(test) / len(slide) < 0.3
    assert len(train) > 0.3 * len(slide)
    for level in slide.levels:
        reach = (slide.patch_px[level] + slide.patch_px["unit"]) * MPP / 2
        gap = np.abs(train.xy_of(level)[:, None] - test.xy_of("unit")[None]).max(axis=2).min()
        assert gap >= reach - 1e-6
        assert level == "unit" or not set(train.rows(level)) & set(test.rows(level))


def test_parts_are_whole_blocks_and_together_all_units(tmp_path: Path) -> None:
    slide = make_slide(tmp_path, "a", side_um=768, turn=0.2).slide

    parts = [split_part(slide, 3, number)[1] for number in range(3)]

    np.testing.assert_array_equal(
        np.sort(np.concatenate([p.rows("unit") for p in parts])), np.arange(len(slide))
    )
    blocks = [set(part.block_of.tolist()) for part in parts]
    assert not blocks[0] & blocks[1] | blocks[1] & blocks[2] | blocks[0] & blocks[2]


def test_a_fold_tests_a_part_and_trains_and_validates_on_the_rest(folders: dict[str, Path]) -> None:
    folds = [open_fold(task(WITHIN), WITHIN, number, folders) for number in range(4)]

    for fold in folds:
        trained = rows(fold)
        for test in fold.test:
            assert not trained[test.slide.id] & set(test.headline.tolist())
            others = len(sampled(folders[test.slide.id])) - len(test.headline)
            assert test.left_out["in other parts"] == others
            assert len(test.slide) >= others + len(test.headline)
    for name, folder in folders.items():
        tested = [t.headline for fold in folds for t in fold.test if t.slide.id == name]
        np.testing.assert_array_equal(np.sort(np.concatenate(tested)), sampled(folder))


def test_nothing_but_places_of_tested_units_and_of_the_gap_is_looked_at(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Other counts there, in other units and in the tissue's sums: the fold trains on the same."""
    fold = open_fold(task(WITHIN), WITHIN, 1, folders)
    changed = {}
    for test in fold.test:
        name = test.slide.id
        changed[name] = tmp_path / name
        shutil.copytree(folders[name], changed[name])
        train, _ = split_part(test.slide.take(sampled(folders[name])), WITHIN.parts, 1)
        _scramble(changed[name], train.rows("unit"))

    other = open_fold(task(WITHIN), WITHIN, 1, changed)

    assert other.panel.hash == fold.panel.hash
    np.testing.assert_array_equal(other.train_mean, fold.train_mean)
    for ours, theirs in zip((*fold.train, *fold.val), (*other.train, *other.val), strict=True):
        np.testing.assert_array_equal(ours.need_labels().target(), theirs.need_labels().target())
    before, after = (f.test[0].slide.take(f.test[0].headline).need_labels().target() for f in (fold, other))
    assert (before != after).any()


def _scramble(folder: Path, keep: IntArray) -> None:
    """Give all units but some the counts of other genes."""
    with np.load(folder / "labels" / "unit.npz") as file:
        unit = {name: file[name] for name in file.files}
    with np.load(folder / "labels" / "slide.npz") as file:
        slide = {name: file[name] for name in file.files}
    genes, rng = len(slide["gene_ids"]), np.random.default_rng(0)
    row = np.repeat(np.arange(len(unit["library"])), np.diff(unit["indptr"]))
    lost = ~np.isin(row, keep)
    unit["indices"][lost] = rng.integers(0, genes, lost.sum())
    slide["pseudobulk"] = rng.permutation(slide["pseudobulk"])
    np.savez(folder / "labels" / "unit.npz", **unit)
    np.savez(folder / "labels" / "slide.npz", **slide)


def test_slides_of_few_blocks_cannot_be_divided(folders: dict[str, Path]) -> None:
    split = replace(WITHIN, parts=400, folds=WITHIN.folds * 100)

    with pytest.raises(DataError, match="too few blocks for 400 parts; take fewer parts"):
        open_fold(task(split), split, 3, folders)


@pytest.mark.parametrize(("leaky", "severity"), [(False, "error"), (True, "warning")])
def test_the_audit_names_the_leak(leaky: bool, severity: str) -> None:
    split = replace(WITHIN, leaky=leaky, folds=WITHIN.folds[:1], slides=("SIM1",))
    split = replace(split, folds=(FoldTable(test=("SIM1",), train=("SIM1",)),))

    findings = audit_split(split, {"SIM1": "P1"})

    assert [(f.id, f.severity) for f in findings] == [("slide-leak", severity)]
    assert "fold 0: slide SIM1 is in training and in test" in findings[0].message


def test_a_model_that_knows_places_alone_runs_within_slides_alone() -> None:
    patient = load_split(load_dataset("demo"), "patient")
    settings = set_models(["mean", "coords"], "tiny", Options())

    within = settings_for(WITHIN, settings, ("all",))
    across = settings_for(patient, settings, ("all",))

    assert ([s.name for s in within[0]], within[1]) == (["mean", "coords"], [])
    assert ([s.name for s in across[0]], across[1]) == (["mean"], ["coords"])
    with pytest.raises(DataError, match=r"^coords can predict only slides that are in training too; .*$"):
        settings_for(patient, settings, ("all", "coords"))


def test_a_split_within_slides_runs_from_the_command_line(
    cohort_folder: Path, own_cache: Path, tmp_path: Path
) -> None:
    words = "run -m mean,coords,ridge -d demo -r 16um --split within --recipe tiny --folds 1,2"

    done = type_command(*words.split(), cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)

    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "runs/default/demo-16um-within.md").read_text()
    assert "within slides, leaky by design" in text
    assert "- `slide-leak`: parts of one slide are in training and in test." in text
    for name in ("SIM1 (fold 1)", "SIM1 (fold 2)", "SIM3 (fold 2)"):
        assert f"| {name} |" in text
    rows = json.loads((tmp_path / "runs/default/demo-16um-within.json").read_text())["rows"]
    assert {row["model"] for row in rows if row["pcc"]["low"] is not None} >= {"coords", "ridge", "depth"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            "run -m coords -d demo -r 16um",
            2,
            "error: coords can predict only slides that are in training too",
        ),
        (
            "run -m all -d demo -r 16um --dry-run",
            0,
            "demo-16um: without coords, as split patient trains on no",
        ),
        ("run -m all -d demo -r 16um --split within --dry-run", 0, "coords"),
    ],
)
def test_who_cannot_run_on_a_split_is_told(words: str, code: int, message: str, tmp_path: Path) -> None:
    done = type_command(*words.split(), cwd=tmp_path, cache=tmp_path / "cache")

    assert done.returncode == code
    assert message in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == (1 if code else 0)
