"""Models that fail in every way: a row each, and the sweep goes on."""

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
from helpers import type_command

from hdstbench.records import load_record

PLUGINS = """
    import os, sys, time
    from dataclasses import dataclass
    import numpy as np
    from hdstbench.plugins.plugin import ModelPlugin

    @dataclass(frozen=True)
    class Config:
        what: str

    class Bad:
        def __init__(self, config):
            self.what = config.what

        def fit(self, train, val, context):
            print("a line for the log, and a secret: hunter2")
            if self.what == "raise":
                raise RuntimeError("no luck\\ntoday")
            if self.what == "memory":
                raise MemoryError("too much")
            if self.what == "die":
                os._exit(7)
            if self.what == "exit":
                sys.exit(3)
            if self.what == "greedy":
                taken = []
                while True:
                    taken.append(np.ones(2**24))
            if self.what == "hang":
                time.sleep(600)

        def predict(self, slide):
            shape = (len(slide), len(slide.genes) + (self.what == "shape"))
            return np.full(shape, np.nan if self.what == "nan" else 1.0, np.float32)

    def plugin(what):
        return ModelPlugin(name=f"bad-{what}", kind="model", context="unit", recipes={"tiny": Config(what)},
                           build=Bad, paper="none", licence="none", notes="for a test")

    RAISE, MEMORY, GREEDY, DIE, EXIT, HANG, SHAPE, NAN, FINE = map(
        plugin, ["raise", "memory", "greedy", "die", "exit", "hang", "shape", "nan", "fine"])
"""
BAD = ("raise", "memory", "greedy", "die", "exit", "hang", "shape", "nan", "fine")


def sweep(models: str, cohort_folder: Path) -> tuple[str, ...]:
    card = str(cohort_folder / "dataset.toml")
    return ("run", "-m", models, "-d", card, "-r", "16um", "--recipe", "tiny", "-o", "out")


@pytest.fixture(scope="module")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed package that brings models with every kind of trouble, and one that works."""
    root = tmp_path_factory.mktemp("site")
    (root / "bad_models.py").write_text(textwrap.dedent(PLUGINS))
    info = root / "bad_models-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-models\nVersion: 1.2\n")
    points = [f"bad-{what} = bad_models:{what.upper()}" for what in BAD]
    points += ["bad-import = nowhere_at_all:PLUGIN", "bad-kind = bad_models:Config"]
    (info / "entry_points.txt").write_text("[hdstbench.models]\n" + "\n".join(points) + "\n")
    return root


def test_failures_are_rows_and_the_sweep_goes_on(
    cohort_folder: Path, third_party: Path, tmp_path: Path, own_cache: Path
) -> None:
    models = ",".join(f"bad-{what}" for what in BAD)
    done = type_command(
        *sweep(f"{models},mean", cohort_folder),
        "--folds",
        "0",
        "--timeout",
        "15",
        "--memory",
        "3000",
        cwd=tmp_path,
        cache=own_cache,
        env={"PYTHONPATH": str(third_party)},
    )
    table = (tmp_path / "out" / "simulated-16um.md").read_text()

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for line in (
        "bad-raise: fold 0: RuntimeError: no luck today",
        "bad-memory: fold 0: MemoryError: too much",
        "bad-greedy: fold 0: MemoryError: Unable to allocate",
        "bad-die: fold 0: the worker died (exit code 7)",
        "bad-exit: fold 0: SystemExit: 3",
        "bad-hang: fold 0: took longer than the time limit",
        "bad-shape: fold 0: ValueError: predict returned shape",
        "bad-nan: fold 0: ValueError: predict returned values that are not finite",
    ):
        assert line in table
    assert "| bad-fine | 0.000 |" in table
    assert "| *mean* (control) | 0.000 |" in table
    statuses = {
        p.parent.parent.name: load_record(p.parent).status for p in (tmp_path / "out").rglob("record.json")
    }
    assert statuses["bad-memory"] == statuses["bad-greedy"] == "oom"
    assert "hunter2" not in done.stdout + done.stderr + table
    assert statuses["bad-hang"] == "timeout"
    assert {statuses[f"bad-{w}"] for w in ("raise", "die", "exit", "shape", "nan")} == {"failed"}
    log = next((tmp_path / "out" / "simulated" / "16um" / "bad-raise").rglob("log.txt")).read_text()
    assert "a line for the log" in log
    assert "Traceback" in log
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_failed_cells_are_tried_again_and_fail_fast_stops(
    cohort_folder: Path, third_party: Path, tmp_path: Path, own_cache: Path
) -> None:
    words = (
        *sweep("bad-raise,mean", cohort_folder),
        "--workers",
        "1",
    )
    env = {"PYTHONPATH": str(third_party)}

    first = type_command(*words, "--fail-fast", cwd=tmp_path, cache=own_cache, env=env)
    second = type_command(*words, cwd=tmp_path, cache=own_cache, env=env)

    assert first.returncode == 1
    assert "] simulated 16um mean" not in first.stdout
    assert "mean: none of its 3 cells was run" in first.stdout
    assert "bad-raise: 2 cells were not run" in first.stdout
    assert second.returncode == 1
    assert second.stdout.count("failed: RuntimeError") == 3


def test_an_installed_package_is_listed_and_a_broken_one_is_named(
    third_party: Path, tmp_path: Path, own_cache: Path
) -> None:
    env = {"PYTHONPATH": str(third_party)}

    listed = type_command("ls", cwd=tmp_path, cache=own_cache, env=env)
    broken = type_command("ls", "model", "bad-import", cwd=tmp_path, cache=own_cache, env=env)
    wrong = type_command("ls", "model", "bad-kind", cwd=tmp_path, cache=own_cache, env=env)

    assert re.search(r"bad-fine +bad-models 1\.2$", listed.stdout, re.MULTILINE)
    assert re.search(r"bad-import +bad-models 1\.2  BROKEN: model 'bad-import' .*cannot be", listed.stdout)
    assert broken.returncode == wrong.returncode == 2
    assert "model 'bad-import' of bad-models 1.2 cannot be imported" in broken.stderr
    assert "bad_models:Config is not the ModelPlugin 'bad-kind'" in wrong.stderr


def test_what_is_broken_is_named_and_the_rest_goes_on(
    third_party: Path, tmp_path: Path, own_cache: Path
) -> None:
    """A model of two packages, one that leaves Python, and packages that are not there."""
    info = tmp_path / "other-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    points = {
        "models": "bad-fine = other:PLUGIN\nleaves = leaves:PLUGIN\nmagnet = other:MAGNET\nodd = odd:PLUGIN"
    }
    points |= {group: f"{group} = nowhere_at_all" for group in ("datasets", "presets")}
    text = "\n".join(f"[hdstbench.{group}]\n{lines}" for group, lines in points.items())
    (info / "entry_points.txt").write_text(text)
    (tmp_path / "odd.py").write_text(
        "from dataclasses import replace\nfrom bad_models import FINE\n"
        "PLUGIN = replace(FINE, name='odd', kind='banana')\n"
    )
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    places = {"PYTHONPATH": os.pathsep.join([str(third_party), str(tmp_path)])}

    def typed(*words: str) -> "subprocess.CompletedProcess[str]":
        return type_command(*words, cwd=tmp_path, cache=own_cache, env=places)

    listed, presets = typed("ls"), typed("ls", "presets")
    everything = typed("run", "-m", "all", "--recipe", "tiny", "--dry-run")
    quick = typed("run", "-m", "all", "--dry-run")
    one, other = typed("run", "-m", "bad-fine,mean", "--dry-run"), typed("run", "-m", "leaves", "--dry-run")

    assert (listed.returncode, presets.returncode, everything.returncode) == (0, 0, 0), everything.stderr
    for name in ("bad-fine", "leaves", "magnet", "odd"):
        assert re.search(rf"^  {name} .*BROKEN: model '{name}'", listed.stdout, re.MULTILINE), listed.stdout
        assert f"without {name}: model '{name}'" in everything.stdout
    assert re.search(r"other 1 +BROKEN: its files cannot be listed", listed.stdout)
    assert re.search(r"other 1 +BROKEN: its files cannot be listed", presets.stdout)
    assert "magnet-ablation-blocks" in presets.stdout
    assert "st-net" in everything.stdout.split("without")[-1]
    said = "model 'bad-fine' is brought by bad_models:FINE of bad-models 1.2 and by other:PLUGIN of other 1; "
    assert "kind 'banana', wanted one of model, variant, control" in listed.stdout
    assert quick.returncode == 0, quick.stderr
    assert "without bad-die: it has no recipe 'quick', but tiny" in quick.stdout
    assert (one.returncode, other.returncode) == (2, 2)
    assert f"{said}uninstall one" in one.stderr
    assert "model 'leaves' of other 1 cannot be imported: SystemExit(3)" in other.stderr
