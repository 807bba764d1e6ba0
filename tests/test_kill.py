"""Sweeps that are killed, starved or run twice at once end with the table of an undisturbed one."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hdstbench.rng import stream
from hdstbench.sweep.store import INDEX, load_index

TABLES = ("own-16um.md", "own-16um.csv", "own-16um.json")
KILLS = 20
SMALL_FILES = 60_000
"""Bytes of a file on the full disk: less than predictions take."""


def _begin(limit: Callable[[], None] | None) -> None:
    """In a new process: Ctrl-C works, even where these tests run in the background, and a limit holds."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if limit is not None:
        limit()


class Sweep:
    """A small sweep of two models of numpy and one of torch on one fold, typed as a user would."""

    def __init__(self, card: Path, folder: Path, cache: Path) -> None:
        self.card, self.folder, self.cache = card, folder, cache
        folder.mkdir(exist_ok=True)

    def start(self, limit: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
        words = ["run", "-m", "mean,stain,st-net", "-d", str(self.card), "-r", "16um", "--folds", "0"]
        return subprocess.Popen(
            [sys.executable, "-m", "hdstbench", *words, "--recipe", "tiny", "-o", "out", "--workers", "2"],
            cwd=self.folder,
            env={**os.environ, "HDSTBENCH_CACHE": str(self.cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: _begin(limit),  # noqa: PLW1509 - no threads here
        )

    def finish(self) -> str:
        process = self.start()
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
        return said

    @property
    def tables(self) -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in (self.folder / "out").glob("*-16um.*")
            if path.suffix in (".md", ".csv")
        }


@pytest.fixture(scope="module")
def sweep(cohort_folder: Path, own_cache: Path) -> Callable[[Path], Sweep]:
    return lambda folder: Sweep(cohort_folder / "dataset.toml", folder, own_cache)


@pytest.fixture(scope="module")
def undisturbed(
    sweep: Callable[[Path], Sweep], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """Its tables, and how long it took."""
    one = sweep(tmp_path_factory.mktemp("undisturbed"))
    one.finish()
    (one.folder / "out").rename(one.folder / "first")
    started = time.monotonic()
    one.finish()
    return one.tables, time.monotonic() - started


def test_a_sweep_killed_at_random_instants_ends_with_the_same_bytes(
    sweep: Callable[[Path], Sweep], undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    tables, seconds = undisturbed
    instants = stream("kill").uniform(0.2 * seconds, 0.9 * seconds, KILLS)
    one = sweep(tmp_path / "sweep0")
    killed = 0
    for number, instant in enumerate(instants):
        process = one.start()
        try:
            process.wait(timeout=float(instant))
            said = process.communicate()[0]
            assert process.returncode == 0, said
            assert one.tables == tables
            one = sweep(tmp_path / f"sweep{number + 1}")  # it was whole before its time: another one
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1

    one.finish()
    assert killed >= KILLS // 2
    assert one.tables == tables
    left = [
        path.name
        for path in (one.folder / "out").rglob("*")
        if path.name.endswith((".part", ".old", ".scratch"))
    ]
    assert left == []


def test_a_full_disk_loses_nothing_but_time(
    sweep: Callable[[Path], Sweep], undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    one = sweep(tmp_path / "full")
    one.finish()
    (one.folder / "out").rename(one.folder / "before")

    process = one.start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, SMALL_FILES)))
    said = process.communicate(timeout=300)[0]
    assert process.returncode != 0
    assert "File too large" in said
    assert "Traceback" not in said

    one.finish()
    assert one.tables == undisturbed[0]


def test_two_runs_on_one_folder_share_the_work(
    sweep: Callable[[Path], Sweep], undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    one = sweep(tmp_path / "shared")
    both = [one.start(), one.start()]
    said = [process.communicate(timeout=300)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert one.tables == undisturbed[0]
    lines = (one.folder / "out" / INDEX).read_text().splitlines()
    assert len(lines) == len(load_index(one.folder / "out"))  # no cell ran twice
    assert max(Counter(lines).values()) == 1


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(
    sweep: Callable[[Path], Sweep], undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    one = sweep(tmp_path / "stopped")
    process = one.start()
    deadline = time.monotonic() + 120
    while not list((one.folder / "out").rglob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    said = process.communicate(timeout=60)[0]

    assert process.returncode == 130
    assert "goes on from here" in said
    assert "Traceback" not in said
    one.finish()
    assert one.tables == undisturbed[0]


@pytest.mark.parametrize("seconds", [0.6, 1.5, 3.0])
def test_ctrl_c_before_the_first_cell_stops_cleanly_too(
    sweep: Callable[[Path], Sweep], tmp_path: Path, seconds: float
) -> None:
    """While the main process and its first worker are importing."""
    process = sweep(tmp_path / "early").start()
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]

    assert process.returncode == 130, said
    assert "Traceback" not in said
