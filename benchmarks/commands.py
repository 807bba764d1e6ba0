"""Whole commands and training loops against the plain way, for `benchmarks/table.py`.

Every function runs other programs of this folder, or `hdstbench` itself, and gives rows: what, against what,
the ratio within one run, and what it has to be.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
UNITS = (1_500, 3_000, 6_000)
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "OMP_NUM_THREADS": "1"}
"""The C library gives memory back when it is freed, so that a peak is what was held at once; one thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure; `must` is the most that it may be, or the least."""

    what: str
    against: str
    ratio: float
    must: float
    most: bool = True

    @property
    def met(self) -> bool:
        """Whether it is as wanted."""
        return self.ratio <= self.must if self.most else self.ratio >= self.must

    def cells(self) -> tuple[str, ...]:
        """Of the table."""
        wanted = f"{'at most' if self.most else 'at least'} {self.must:g}"
        return (
            self.what,
            self.against,
            f"{self.ratio:.{2 if self.ratio > 1 / 10 else 3}f}",
            wanted,
            "yes" if self.met else "**no**",
        )


def _script(name: str, *words: str, **setting: str) -> str:
    """What a program of this folder prints, under environment variables."""
    command = [sys.executable, str(HERE / name), *words]
    env = {**os.environ, **setting}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout


def loops() -> Iterator[Row]:
    """The training loop against bare steps on batches that are in memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "steps.json"
        words = ("--models", "st-net,his-to-gene", "--units", "64", "--repeats", "2")
        _script("steps.py", *words, "-o", str(out))
        rows = json.loads(out.read_text())["rows"]
        if len(rows) < len(words[1].split(",")):
            message = f"steps.py measured {len(rows)} of {words[1]}"
            raise RuntimeError(message)
        for row in rows:
            ratio = row["loop_s"] / row["bare_s"]
            yield Row(
                what=f"an epoch of {row['model']} ({row['units']} bins of 16 um)",
                against="its bare steps on batches in memory",
                ratio=ratio,
                must=1.10,
            )


def cached_levels() -> Iterator[Row]:
    """MagNet with features of spots and regions from the cache, and computed anew."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "magnet.json"
        _script("magnet_cache.py", "-o", str(out))
        found = json.loads(out.read_text())
    for name, words in (("once", "each spot and region of a batch once"), ("each", "three patches a bin")):
        yield Row(
            what=f"MagNet, an epoch of {found['bins']} bins, computing its levels anew ({words})",
            against="the same with cached features",
            ratio=found[name] / found["cached"],
            must=5,
            most=False,
        )


def authors_loop() -> Iterator[Row]:
    """A step of the `common` recipe against one of the authors' loop, rebuilt."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "loop.json"
        _script("authors_loop.py", "--part", "4", "-o", str(out))
        found = json.loads(out.read_text())
    yield Row(
        what=f"a step of the authors' MagNet loop, rebuilt: {found['bins']} bins of 8 um",
        against="a step of `common` with the same bins",
        ratio=sum(found["theirs"]) / sum(found["ours"]),
        must=5,
        most=False,
    )
    yield Row(
        what="its batch alone: patches from PNG, dense adjacency",
        against="a batch of `common`",
        ratio=found["theirs"][0] / found["ours"][0],
        must=5,
        most=False,
    )


def whole_slide() -> Iterator[Row]:
    """How `hdstbench predict` grows over pictures of three sizes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "predict.json"
        _script("whole_slide.py", "-o", str(out))
        small, middle, large = json.loads(out.read_text())
    more, some = (b["units"] - a["units"] for a, b in ((middle, large), (small, middle)))
    yield Row(
        what=f"`hdstbench predict`: CPU time that each of {more:,} more bins of 16 um adds",
        against=f"what each of the {some:,} before them added (1 is linear)",
        ratio=(large["seconds"] - middle["seconds"]) / more * some / (middle["seconds"] - small["seconds"]),
        must=1.1,
    )
    yield Row(
        what=f"`hdstbench predict`, {large['units']:,} bins of 16 um: peak memory",
        against=f"{small['units']:,} bins",
        ratio=large["peak_mb"] / small["peak_mb"],
        must=1.1,
    )


def dense() -> Iterator[Row]:
    """Features of a block of 8 um bins at once, and patch by patch."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "dense.json"
        _script("dense.py", "-o", str(out))
        for row in json.loads(out.read_text()):
            yield Row(
                what=f"{row['encoder']}: features of {row['bins']} bins of 8 um patch by patch",
                against=f"of the block at once (features differ: median r {row['r']:.2f})",
                ratio=row["each_s"] / row["shared_s"],
                must=5,
                most=False,
            )


def reading() -> Iterator[Row]:
    """Reading and preparing the 8 um bins of a simulated capture area, and scanpy reading the same file."""
    if find_spec("scanpy") is None:
        message = "scanpy is not installed, which reading is compared with: pip install -e '.[bench]'"
        raise SystemExit(message)
    with tempfile.TemporaryDirectory() as folder:
        said = _script("capture_area.py", "make", folder)
        read, prepared, theirs = (
            _costs(_script("capture_area.py", what, folder)) for what in ("read", "prepare", "scanpy")
        )
    area = re.search(r"([\d,]+) bins, ([\d,]+) non-zeros", said)
    assert area is not None
    what = f"{area[1]} bins of 8 um, {area[2]} non-zeros"
    for did, (seconds, peak) in (("totals, and counts of 36,000", read), ("prepared with pixels", prepared)):
        yield Row(
            what=f"{what}, {did}: peak memory",
            against="scanpy.read_10x_h5",
            ratio=peak / theirs[1],
            must=0.25,
        )
        if did.startswith("totals"):
            yield Row(
                what=f"{what}, {did}: seconds",
                against="scanpy.read_10x_h5",
                ratio=seconds / theirs[0],
                must=1.0,
            )


def _costs(said: str) -> tuple[float, float]:
    """Seconds and GiB of the last line that `capture_area.py` prints."""
    found = re.search(r": ([\d.]+) s, peak ([\d.]+) GiB", said)
    assert found is not None
    return float(found[1]), float(found[2])


def attention() -> Iterator[Row]:
    """What more units add to the memory of attention over a slide, in TRIPLEX and HisToGene.

    Memory alone is measured, so two programs run at a time.
    """
    asked = [("memory_triplex.py", str(units), "--no-gflop") for units in UNITS]
    windows = ("memory_windows.py", "his-to-gene", "256", "3")
    with ThreadPoolExecutor(2) as pool:
        *said, other = pool.map(lambda words: _script(*words, **GIVEN_BACK), [*asked, windows])
    for what, pattern in (
        ("kept for the backward pass", r"([\d,]+) MiB kept"),
        ("at the peak of the process", r"peak ([\d.]+) GB"),
    ):
        few, some, many = (_number(pattern, one) for one in said)
        yield Row(
            what=f"a step of TRIPLEX: memory {what} that units {UNITS[1]:,} to {UNITS[2]:,} add",
            against=f"what {UNITS[0]:,} to {UNITS[1]:,} add, half as many (2 is linear)",
            ratio=(many - some) / max(some - few, 0.01),
            must=2.5,
        )
    _, second, third = (float(peak) for peak in re.findall(r": [\d.]+ s, peak ([\d.]+) GB", other))
    yield Row(
        what="training steps of HisToGene: peak memory of three windows of 256 bins of a slide",
        against="of the first two",
        ratio=third / second,
        must=1.1,
    )


def statistics() -> Iterator[Row]:
    """All intervals, pairs and ranks of a table from its stored sums."""
    said = _script("statistics_of_tables.py")
    yield Row(
        what="intervals, pairs and ranks: 15 models x 4 slides x 250 genes x 2,000 resamples",
        against="one second",
        ratio=_number(r"resamples: ([\d.]+) s", said),
        must=60,
    )


def _number(pattern: str, said: str) -> float:
    """The number that a program printed."""
    found = re.search(pattern, said)
    assert found is not None
    return float(found[1].replace(",", ""))


def starts() -> Iterator[Row]:
    """CPU seconds of commands that should be there at once, and seconds to the first training step."""
    for command, must in (("--help", 0.3), ("ls", 1.0)):
        yield Row(
            what=f"`hdstbench {command}`", against="one CPU second", ratio=_cpu_seconds(command), must=must
        )
    with tempfile.TemporaryDirectory() as folder:
        words = f"run -d demo -r 16um --recipe quick --folds 0 -o {folder}/runs -m"
        subprocess.run([_program(), *words.split(), "mean"], check=True, stdout=subprocess.DEVNULL)
        took = _first_step(f"{words} st-net")
    yield Row(
        what="first training step of `hdstbench run` on prepared slides",
        against="one second",
        ratio=took,
        must=10,
    )


def _program() -> str:
    return str(Path(sys.executable).parent / "hdstbench")


def _cpu_seconds(words: str) -> float:
    """User and system time of a command, the best of three."""
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([_program(), *words.split()], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def _first_step(words: str) -> float:
    """Seconds from typing a run to the first loss that it tells; the run is then stopped."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [_program(), *words.split(), "--json"], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if json.loads(line).get("loss") is not None:
                return time.perf_counter() - began
    finally:
        process.terminate()
        process.wait()
    message = "the run told no loss"
    raise RuntimeError(message)


def workers() -> Iterator[Row]:
    """Two workers of one thread each against one, and what the runner adds to a cell."""
    said = _script(
        "workers.py", *("-m", "his-to-gene", "--seeds", "0,1", "--folds", "0,1", "--warm", "mean", "-n", "1")
    )
    (wall, inside), share = re.findall(r": ([\d.]+)x", said), _number(r"a cell \(([\d.]+)%", said)
    seconds = _number(r"one worker ([\d.]+) s", said)
    for what, ratio in (
        ("cells of a sweep, from the first one's start to the last one's end", inside),
        (f"a sweep of {seconds:.0f} seconds, with its start and its tables", wall),
    ):
        yield Row(
            what=f"throughput of two workers, one thread each: {what}",
            against="one worker",
            ratio=float(ratio),
            must=1.7,
            most=False,
        )
    yield Row(
        what="beside fitting and predicting, a cell",
        against="a one-minute cell",
        ratio=share / 100,
        must=0.02,
    )


ALL = (
    starts,
    loops,
    cached_levels,
    authors_loop,
    dense,
    whole_slide,
    attention,
    reading,
    statistics,
    workers,
)
