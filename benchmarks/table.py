"""One table of what is fast and what is not, each figure a ratio within one run: `make bench`.

Runs the functions of `test_speed.py` and `test_statistics.py` and the commands of `commands.py`, and prints
each against what the design asks for; `-o` writes it too. Targets that are missed are shown like the others.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from commands import ALL, Row

HERE = Path(__file__).parent
WALL = "wall time: "
PAIRS = 48
"""Of parts that a ceiling correlates: six splits of one pair of halves, six of quarters, one beyond depth."""


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio of functions that the design asks for.

    Attributes:
        what: That is measured.
        against: What it is compared with.
        ratio: From the seconds of each benchmark by name.
        must: What the ratio has to be at least; at most where `most`.
    """

    what: str
    against: str
    ratio: Callable[[Mapping[str, float]], float]
    must: float
    most: bool = False

    def row(self, seconds: Mapping[str, float]) -> Row:
        """Its figure."""
        return Row(
            what=self.what, against=self.against, ratio=self.ratio(seconds), must=self.must, most=self.most
        )


def _over(name: str, other: str, times: float = 1.0) -> Callable[[Mapping[str, float]], float]:
    """How much longer `name` takes than `other`."""
    return lambda seconds: times * seconds[name] / seconds[other]


def _patches(layout: str, least: float) -> list[Target]:
    plain, decode, copy = (f"test_patches_{end}[{layout}]" for end in ("openslide", "decode", "copy"))
    ours = f"test_patches_{layout}"
    what = f"patches of 112 px, {layout}: CPU time"
    return [
        Target(what, "one OpenSlide.read_region a bin", _over(plain, ours), least),
        Target(what, "decoding the touched tiles alone", _over(ours, decode), 1.5, most=True),
        Target(
            what,
            "decoding the touched tiles, and copying the patches from memory",
            lambda seconds: seconds[ours] / (seconds[decode] + seconds[copy]),
            1.5,
            most=True,
        ),
    ]


TARGETS = [
    Target(
        "correlation, 250 genes x 1 M units",
        "scipy.stats.pearsonr a gene, strided (10 genes, times 25)",
        _over("test_correlation_scipy", "test_correlation", 25),
        10,
    ),
    Target(
        "correlation, 250 genes x 1 M units",
        "axis-0 numpy.sum of both arrays",
        _over("test_correlation", "test_correlation_sum"),
        4,
        most=True,
    ),
    Target(
        "a bootstrap of 2,000 draws of blocks, 5,929 units x 250 genes",
        "correlating the drawn units (20 draws, times 100)",
        _over("test_bootstrap_plain", "test_bootstrap", 100),
        10,
    ),
    Target(
        "ceilings of 5,929 units x 250 genes, with their errors",
        "correlating each pair of parts, with each of 40 groups left out too (one pair, times 48)",
        _over("test_ceilings_plain", "test_ceilings", PAIRS),
        5,
    ),
    *_patches("random", 4),
    Target(
        "patches of 112 px, random, by one thread: wall time",
        "by two threads",
        _over(f"{WALL}test_patches_random", f"{WALL}test_patches_random_threads"),
        1.6,
    ),
    *_patches("dense", 10),
    Target(
        "8 nearest of 600,000 bins", "scipy.spatial.cKDTree.query", _over("test_graph_tree", "test_graph"), 1
    ),
    Target(
        "sums of 7 x 7 of 500,000 bins x 18,000 genes",
        "one pass over the non-zeros: a sum a gene",
        _over("test_levels", "test_levels_pass"),
        3,
        most=True,
    ),
    Target(
        "sums of 7 x 7 of 500,000 bins x 18,000 genes",
        "the non-zeros read and written once, as the sums are",
        _over("test_levels", "test_levels_copy"),
        3,
        most=True,
    ),
]


def measure_functions() -> dict[str, float]:
    """Seconds of the fastest round of each benchmark by name: of patches CPU seconds, of others wall time.

    What is compared by two threads has its wall time too, its name after `WALL`.
    """
    seconds = _timed("not patches or patches_random")
    cpu = _timed("patches and not threads", "--benchmark-timer=time.process_time")
    return {**seconds, **{f"{WALL}{name}": value for name, value in seconds.items()}, **cpu}


def _timed(chosen: str, *words: str) -> dict[str, float]:
    """Seconds of the fastest round of chosen benchmarks by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speed.json"
        files = (str(HERE / name) for name in ("test_speed.py", "test_statistics.py"))
        asked = ("-q", "-k", chosen, "--benchmark-only", "-p", "no:cacheprovider", *words)
        command = [sys.executable, "-m", "pytest", *files, *asked, f"--benchmark-json={out}"]
        subprocess.run(command, check=True)
        found = json.loads(out.read_text())["benchmarks"]
    return {one["name"]: float(one["stats"]["min"]) for one in found}


def functions() -> Iterator[Row]:
    """Functions against the plain way."""
    seconds = measure_functions()
    for target in TARGETS:
        yield target.row(seconds)


def _measured(part: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """Rows of a part; one that says so where it fails, so that nothing is dropped in silence."""
    try:
        yield from part()
    except (subprocess.CalledProcessError, RuntimeError, AssertionError) as error:
        print(error, flush=True)
        yield Row(what=f"{part.__name__}: FAILED", against="", ratio=float("nan"), must=0)


def render(rows: Sequence[Row], minutes: float) -> str:
    """The page."""
    day = datetime.now(UTC).date()
    cores = len(os.sched_getaffinity(0))
    lines = [
        "# What is fast and what is not",
        "",
        f"Measured on {day} on {cores} cores ({_processor()}, Python {platform.python_version()}) in "
        f"{minutes:.0f} minutes by `make bench`. Input is random or simulated. Both sides of a ratio are of "
        "the same run, of functions the fastest of a few rounds.",
        "",
        "| what | against | ratio | must be | met |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="a markdown file")
    parser.add_argument("--only", default="", help="parts, comma-separated: functions, or of commands.py")
    given = parser.parse_args()
    chosen = [name for name in given.only.split(",") if name]
    began, rows = time.perf_counter(), list[Row]()
    for part in (functions, *ALL):
        if not chosen or part.__name__ in chosen:
            started = time.perf_counter()
            for row in _measured(part):
                print(" | ".join(row.cells()), flush=True)
                rows.append(row)
            print(f"({part.__name__}: {time.perf_counter() - started:.0f} s)", flush=True)
    page = render(rows, (time.perf_counter() - began) / 60)
    print(page)
    if given.output:
        given.output.write_text(page)


if __name__ == "__main__":
    main()
