"""`hdstbench new-model`: the package it writes is whole, passes its own tests, and goes again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import type_command


def _python(*words: str, cwd: Path, path: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> tuple[Path, Path]:
    """The package's folder, and the one that it is installed into, apart from this environment."""
    folder, site = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("site")
    done = type_command("new-model", "my-model", cwd=folder, cache=own_cache)
    assert done.returncode == 0, done.stderr
    words = f"-m pip install -q --no-deps --no-build-isolation --no-index --target {site} ./my-model"
    installed = _python(*words.split(), cwd=folder, path=site)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return folder / "my-model", site


def test_it_passes_its_own_tests_unchanged(made: tuple[Path, Path]) -> None:
    package, site = made

    done = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package, path=site)

    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout


def test_it_is_clean(made: tuple[Path, Path]) -> None:
    done = _python("-m", "ruff", "check", "--no-cache", ".", cwd=made[0], path=made[1])

    assert done.returncode == 0, done.stdout


def test_it_is_listed_and_runs_and_is_gone_with_its_package(
    made: tuple[Path, Path], cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    env = {"PYTHONPATH": os.pathsep.join([str(made[1]), os.environ.get("PYTHONPATH", "")])}
    words = f"run -m my-model,mean -d {cohort_folder / 'dataset.toml'} -r 16um --recipe tiny --folds 0 -o out"

    listed = type_command("ls", "models", cwd=tmp_path, cache=own_cache, env=env).stdout
    everything = type_command("run", "-m", "all", "--dry-run", cwd=tmp_path, cache=own_cache, env=env).stdout
    done = type_command(*words.split(), cwd=tmp_path, cache=own_cache, env=env)
    without = type_command("ls", "models", cwd=tmp_path, cache=own_cache).stdout

    assert next(line for line in listed.splitlines() if "my-model" in line).count("0.1.0")
    assert "my-model" in everything
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| my-model |" in (tmp_path / "out" / "simulated-16um.md").read_text()
    assert "my-model" not in without


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My_Model", "lower-case words joined by hyphens"),
        ("-x", "No such option"),
        ("a" * 60, "lower-case words"),
        ("../out", "lower-case words"),
        ("magnet", "is installed already"),
        ("json", "means something else in Python"),
        ("class", "means something else in Python"),
        ("torch", "is installed already"),
        ("scikit-learn", "is installed already"),
        ("scipy", "is installed already"),
        ("there", "is there already"),
    ],
)
def test_what_cannot_be_a_name_is_said_and_nothing_is_written(
    name: str, said: str, tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "there").mkdir()

    done = type_command("new-model", name, cwd=tmp_path, cache=own_cache)

    assert done.returncode == 2
    assert said in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
