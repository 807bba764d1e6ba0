"""What processes of a sweep are given, and what they do without."""

import os
import time
from pathlib import Path

import pytest
from helpers import type_command

from hdstbench.sweep.worker import THREADS, start_worker


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


def _environment(path: Path) -> list[bytes]:
    """What a new process was started with; it is empty until the process has taken its own shape."""
    for _ in range(200):
        if not path.exists():
            return []
        if content := path.read_bytes().strip(b"\0"):
            return content.split(b"\0")
        time.sleep(0.05)
    return []


def test_workers_get_one_thread_each_and_ours_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREADS:
        monkeypatch.setenv(name, "3")
    worker = start_worker()
    seen = _environment(Path(f"/proc/{worker.process.pid}/environ"))
    worker.stop()

    assert not worker.process.is_alive()
    assert {os.environ[name] for name in THREADS} == {"3"}
    assert {f"{name}=1".encode() for name in THREADS} <= set(seen) or not Path("/proc").is_dir()


def test_a_worker_that_imports_ahead_still_takes_what_comes() -> None:
    """Models that are not there or end Python are told of by their cells, not here."""
    worker = start_worker(("no-such-model", "ridge"))
    worker.pipe.send(None)  # nothing to do
    worker.process.join(60)

    assert worker.process.exitcode == 0


def test_a_worker_that_is_not_needed_is_gone_at_once_and_for_good() -> None:
    worker = start_worker(("all",))
    worker.drop()
    worker.drop()

    assert not worker.process.is_alive()
