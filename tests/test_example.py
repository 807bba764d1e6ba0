"""The example of a third-party model: installed on its own, it keeps the contract and runs in a sweep."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import type_command

EXAMPLE = Path(__file__).parents[1] / "examples" / "deepspot"


def _python(*words: str, cwd: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example is installed, apart from this environment and from its source."""
    folder, site = tmp_path_factory.mktemp("example"), tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, folder / "deepspot")
    words = f"-m pip install -q --no-deps --no-build-isolation --no-index --target {site} ./deepspot"
    done = _python(*words.split(), cwd=folder, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")

    done = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, site=installed)

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_it_stands_in_a_table_beside_the_others(
    installed: Path, cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    env = {"PYTHONPATH": str(installed)}
    card = str(cohort_folder / "dataset.toml")
    words = f"run -m deepspot,ridge,mean -d {card} -r 16um --recipe tiny --folds 0 -o out"

    listed = type_command("ls", "models", cwd=tmp_path, cache=own_cache, env=env).stdout
    done = type_command(*words.split(), cwd=tmp_path, cache=own_cache, env=env)

    assert any(line.split() == ["deepspot", "hdstbench-deepspot", "0.1.0"] for line in listed.splitlines())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| deepspot" in (tmp_path / "out" / "simulated-16um.md").read_text()
    record = next((tmp_path / "out").glob("*/16um/deepspot/fold0-*/record.json")).read_text()
    assert "hdstbench-deepspot 0.1.0" in record


def test_nothing_in_the_harness_knows_of_it() -> None:
    for folder in ("hdstbench", "baselines", "models", "datasets"):
        for path in (EXAMPLE.parents[1] / folder).rglob("*.py"):
            assert "deepspot" not in path.read_text(encoding="utf-8").lower(), path
