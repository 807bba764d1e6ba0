"""Targets from the command line: tables of their own, exports, one-line errors."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from helpers import type_command

from hdstbench.protocol.target import SMOOTH


def test_a_command_names_its_target_in_a_table_of_its_own(
    cohort_folder: Path, own_cache: Path, tmp_path: Path
) -> None:
    def run(target: str) -> None:
        words = f"run -m mean,ridge -d demo -r 16um --recipe tiny --folds 0 --target {target}"
        done = type_command(*words.split(), cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)
        assert done.returncode == 0, done.stdout + done.stderr

    for target in ("log1p-cp10k", "egn-minmax", f"log1p-cp10k{SMOOTH}"):
        run(target)

    out = tmp_path / "runs/default"
    plain, egn, smooth = (
        (out / f"demo-16um{end}.md").read_text() for end in ("", "-egn-minmax", f"-log1p-cp10k{SMOOTH}")
    )
    assert "Target:" not in plain
    assert "Target: **`egn-minmax`**, log10(1 + counts)" in egn
    assert "smoothed labels\n" in smooth.split("\n\n")[0] + "\n"
    assert "smoothed labels" not in plain + egn
    scores = [pd.read_csv(out / f"demo-16um{end}.csv").set_index("model") for end in ("", "-egn-minmax")]
    assert all(abs(table.loc["mean", "mse_skill"]) < 0.05 for table in scores)
    assert scores[0].loc["ridge", "mse"] != scores[1].loc["ridge", "mse"]


def test_an_exported_cell_has_the_targets_it_was_scored_by(
    cohort_folder: Path, own_cache: Path, tmp_path: Path
) -> None:
    for target in ("egn-minmax", f"median-log1p{SMOOTH}"):
        words = f"run -m mean -d demo -r 16um --recipe tiny --folds 0 --target {target} -o {target}"
        type_command(*words.split(), cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)
        cell = next((tmp_path / target / "demo" / "16um" / "mean").glob("fold0-*"))
        words = f"data export {cell} -o {target}.h5ad"
        done = type_command(*words.split(), cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)
        assert done.returncode == 0, done.stdout + done.stderr

        found = anndata.read_h5ad(tmp_path / f"{target}.h5ad")

        table = pd.read_parquet(cell / "per_gene.parquet").set_index("gene")
        mean = found[found.obs["sampled"].to_numpy()].layers["target"].mean(axis=0)
        np.testing.assert_allclose(mean, table.loc[found.var_names, "mean"], rtol=1e-4, atol=1e-6)


def test_an_unknown_target_is_one_line(cohort_folder: Path, own_cache: Path, tmp_path: Path) -> None:
    words = "run -m mean -d demo -r 16um --target log2"

    done = type_command(*words.split(), cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)

    assert done.returncode != 0
    assert "no target 'log2'; there are log1p-cp10k, median-log1p" in done.stderr
    assert "Traceback" not in done.stderr
