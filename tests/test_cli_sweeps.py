"""Sweeps typed as a user would: a sweep file, presets, rows with other options, the finest bins."""

from pathlib import Path

import pandas as pd
import pytest
from helpers import type_command


def test_a_sweep_file_in_the_folder_is_used_and_named(
    cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "hdstbench.toml").write_text(
        'models = ["mean"]\nrecipe = "tiny"\nres = ["16um"]\nfolds = [0]\n'
    )

    done = type_command("run", "-d", "demo", cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)

    assert done.returncode == 0, done.stderr
    assert "options from hdstbench.toml" in done.stdout
    assert "Recipe: `tiny`" in (tmp_path / "runs/default/demo-16um.md").read_text()


@pytest.mark.parametrize(
    ("words", "stem", "row", "flags"),
    [
        (
            "--preset magnet-ablation-blocks -m magnet-without-both,mean",
            "demo-16um-magnet-ablation-blocks",
            "magnet-without-both",
            {"other-options"},
        ),
        (
            "--preset magnet-table-1 -m magnet-random,mean",
            "demo-16um-magnet-paper-magnet-table-1",
            "magnet-random",
            {"other-options", "batch-mates"},
        ),
    ],
)
def test_a_preset_runs_to_a_table_of_its_own(
    cohort_folder: Path, tmp_path: Path, own_cache: Path, words: str, stem: str, row: str, flags: set[str]
) -> None:
    typed = f"run {words} -d demo -r 16um --recipe tiny --folds 0"

    done = type_command(*typed.split(), cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)

    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / f"runs/default/{stem}.csv").set_index("model")
    assert {row, "mean"} <= set(table.index)
    assert flags <= set(table.loc[row, "flags"].split())
    text = (tmp_path / f"runs/default/{stem}.md").read_text()
    assert f"- {row}: `" in text
    assert f"```\nhdstbench {typed}\n```" in text


def test_magnet_runs_at_2_um_too(tmp_path: Path, own_cache: Path) -> None:
    simulate = "data simulate --slides 2 --size-mm 0.3 -o demo"
    run = "run -m magnet,shuffled-ridge -d demo/dataset.toml -r 2um --recipe tiny --folds 0"

    for words in (simulate, run):
        done = type_command(*words.split(), cwd=tmp_path, cache=own_cache)
        assert done.returncode == 0, done.stdout + done.stderr

    table = pd.read_csv(tmp_path / "runs/default/simulated-2um.csv").set_index("model")
    assert table["failed"].isna().all()
    assert table.loc["magnet", "pcc_gene"] == table.loc["magnet", "pcc_gene"]  # a number
