"""What processes of a sweep are given, and what they do without."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import type_command

from hdstbench.data.card import Dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.sweep import local
from hdstbench.sweep.cell import Cell
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import plan_cells, plan_job
from hdstbench.sweep.setting import set_models
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
    """Models that are not there are told of by their cells, not here."""
    worker = start_worker(("no-such-model", "ridge"))
    worker.pipe.send(None)  # nothing to do
    worker.process.join(60)

    assert worker.process.exitcode == 0


def test_what_is_imported_ahead_is_what_the_models_need(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom hdstbench.sweep.worker import _import_ahead\n"
        "_import_ahead(sys.argv[1:])\nprint('torch' in sys.modules, 'timm' in sys.modules)"
    )

    def imported(*models: str) -> str:
        words = [sys.executable, "-c", script, *models]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    assert imported("mean", "no-such-model") == "False False"
    assert imported("mean", "ridge") == "True True"


@pytest.fixture
def cell(cohort: Dataset, tmp_path: Path) -> Cell:
    """The mean on one fold of the small cohort."""
    options = Options(models=("mean",), recipe="tiny", output=str(tmp_path / "out"))
    job = plan_job(cohort, "16um", options)
    resolution = cohort.card.resolution("16um")
    folders = {one.id: prepare_slide(cohort, one, resolution) for one in cohort.card.samples}
    cells = plan_cells(job, set_models(["mean"], "tiny", options), folders, options, "cpu")
    return next(one for one in cells if one.record.model == "mean")


def test_a_worker_that_was_started_before_takes_the_first_cell(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = start_worker(("mean",))
    monkeypatch.setattr(local, "start_worker", lambda: pytest.fail("another worker was started"))

    events = list(local.run_cells([cell], 1, started=started))

    assert [e.record.status for e in events if e.record] == ["ok"]
    assert not started.process.is_alive()


def test_one_that_died_while_it_waited_is_replaced(cell: Cell) -> None:
    started = start_worker(("mean",))
    started.process.kill()
    started.process.join(10)

    events = list(local.run_cells([cell], 1, started=started))

    assert [e.record.status for e in events if e.record] == ["ok"]


def test_a_worker_that_is_not_needed_is_gone_at_once_and_for_good() -> None:
    worker = start_worker(("all",))
    worker.drop()
    worker.drop()

    assert not worker.process.is_alive()
