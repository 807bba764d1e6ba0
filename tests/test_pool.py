"""Calls in processes: all done, or given up at once with nothing half-made."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hdstbench.errors import DataError
from hdstbench.pool import run_all


def work(folder: Path, name: str, seconds: float) -> None:
    """Take a while with a half-made file in place, and say when done."""
    part = folder / f"{name}.part"
    try:
        part.touch()
        time.sleep(seconds)
        (folder / name).touch()
    finally:
        part.unlink(missing_ok=True)


def fail(folder: Path, name: str, seconds: float) -> None:
    """Fail for the name "bad", once another call has begun, and for "killed" be killed."""
    while name in ("bad", "killed") and not list(folder.glob("good*.part")):
        time.sleep(0.05)
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "bad":
        msg = "no luck"
        raise DataError(msg)
    work(folder, name, seconds)


class Slow:
    """A part of a class that takes long to make."""

    def __set_name__(self, owner: type, name: str) -> None:
        time.sleep(60)


def make_class(folder: Path) -> type:
    """What happens when a module is imported."""
    (folder / "good.part").touch()
    return type("Made", (), {"part": Slow()})


class Imported:
    """An argument that imports something where it arrives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return make_class, (self.folder,)


def test_who_is_told_to_leave_in_the_middle_of_an_import_leaves_silently(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()

    with pytest.raises(DataError, match="no luck"):
        list(run_all(fail, {"bad": (tmp_path, "bad", 0.0), "slow": (Imported(tmp_path), "slow", 0.0)}))

    assert capfd.readouterr().err == ""
    assert time.monotonic() - began < 50


def test_every_call_is_made_and_named(tmp_path: Path) -> None:
    done = list(run_all(work, {name: (tmp_path, name, 0.0) for name in "abcde"}))

    assert sorted(done) == sorted(p.name for p in tmp_path.iterdir()) == list("abcde")


@pytest.mark.parametrize(("wrong", "message"), [("bad", "no luck"), ("killed", "likely for memory")])
def test_a_failure_ends_the_others_at_once_and_they_clean_up(
    tmp_path: Path, wrong: str, message: str
) -> None:
    calls = {"good": (tmp_path, "good", 60.0), wrong: (tmp_path, wrong, 0.0)}
    calls |= {f"good{i}": (tmp_path, f"good{i}", 60.0) for i in range(4)}
    began = time.monotonic()

    with pytest.raises(DataError, match=message):
        list(run_all(fail, calls))

    assert time.monotonic() - began < 30
    if wrong == "bad":
        assert list(tmp_path.iterdir()) == []


def test_calls_end_when_nobody_listens_any_more(tmp_path: Path) -> None:
    calls = {"quick": (tmp_path, "quick", 0.0)} | {f"slow{i}": (tmp_path, f"slow{i}", 60.0) for i in range(3)}
    began, names = time.monotonic(), run_all(work, calls)

    assert next(names) == "quick"
    names.close()

    assert time.monotonic() - began < 30
    assert [p.name for p in tmp_path.iterdir()] == ["quick"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, how: signal.Signals) -> None:
    """Even if that was killed; what they had half-made is gone."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent has ended")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from test_pool import work\nfrom hdstbench.pool import run_all\n"
        "if __name__ == '__main__':\n"
        "    list(run_all(work, {n: (Path(sys.argv[1]), n, 60.0) for n in ('a', 'b')}))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, script, tmp_path], env=env)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.glob("*.part"))

    process.send_signal(how)
    process.wait(10)
    while list(tmp_path.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert [p.name for p in tmp_path.iterdir()] == ["script.py"]
