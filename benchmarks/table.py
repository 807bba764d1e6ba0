"""One table of what is fast and what is not, each figure a ratio within one run: `make bench`.

Runs the functions of `benchmarks/test_speed.py` and the commands that start quickly, and prints each against
what the design asks for; `-o` writes it too. Targets that are missed are shown like the others.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
STARTS = {"hdstbench --help": 0.3, "hdstbench ls": 1.0}
"""CPU seconds that a command may take."""


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio that the design asks for.

    Attributes:
        what: That is measured.
        against: What it is compared with.
        ratio: From the seconds of each benchmark by name.
        least: What the ratio has to be at least; at most where `most`.
    """

    what: str
    against: str
    ratio: Callable[[Mapping[str, float]], float]
    least: float
    most: bool = False

    def row(self, seconds: Mapping[str, float]) -> tuple[str, ...]:
        """Cells of the table."""
        found = self.ratio(seconds)
        met = found <= self.least if self.most else found >= self.least
        wanted = f"{'at most' if self.most else 'at least'} {self.least:g}"
        return self.what, self.against, f"{found:.2f}", wanted, "yes" if met else "**no**"


def _over(name: str, other: str, times: float = 1.0) -> Callable[[Mapping[str, float]], float]:
    """How much longer `name` takes than `other`."""
    return lambda seconds: times * seconds[name] / seconds[other]


def _patches(layout: str, least: float) -> list[Target]:
    ours, plain, decode = (f"test_patches{end}[{layout}]" for end in ("", "_openslide", "_decode"))
    what = f"patches of 112 px, {layout}"
    return [
        Target(what, "one OpenSlide.read_region a bin", _over(plain, ours), least),
        Target(what, "decoding the touched tiles alone", _over(ours, decode), 1.5, most=True),
    ]


TARGETS = [
    Target(
        "correlation, 250 genes x 1 M units",
        "scipy.stats.pearsonr a gene, strided",
        _over("test_correlation_scipy", "test_correlation", 10),
        10,
    ),
    Target(
        "correlation, 250 genes x 1 M units",
        "axis-0 numpy.sum of both arrays",
        _over("test_correlation", "test_correlation_sum"),
        4,
        most=True,
    ),
    *_patches("random", 4),
    *_patches("dense", 10),
    Target(
        "8 nearest of 600,000 bins", "scipy.spatial.cKDTree.query", _over("test_graph_tree", "test_graph"), 1
    ),
    Target(
        "sums of 7 x 7 of 500,000 bins x 18,000 genes",
        "one pass over the non-zeros",
        _over("test_levels", "test_levels_pass"),
        3,
        most=True,
    ),
]


def measure_functions() -> dict[str, float]:
    """Seconds of the fastest round of each benchmark by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speed.json"
        words = [
            "-m",
            "pytest",
            "-q",
            str(HERE / "test_speed.py"),
            "--benchmark-only",
            "-p",
            "no:cacheprovider",
        ]
        subprocess.run([sys.executable, *words, f"--benchmark-json={out}"], check=True)
        found = json.loads(out.read_text())["benchmarks"]
    return {one["name"]: float(one["stats"]["min"]) for one in found}


def cpu_seconds(command: str) -> float:
    """User and system time of a command, the best of three."""
    program = str(Path(sys.executable).parent / "hdstbench")
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([program, *command.split()[1:]], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def render(rows: list[tuple[str, ...]], starts: Mapping[str, float]) -> str:
    """The page."""
    day = datetime.now(UTC).date()
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"Measured on {day} on {cores} cores ({platform.machine()}, Python {platform.python_version()}).",
        "Input is random or simulated. A ratio is of the fastest rounds within one run.",
        "",
        "| what | against | ratio | must be | met |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "| command | CPU seconds | must be below | met |",
        "| --- | --- | --- | --- |",
    ]
    for command, took in starts.items():
        met = "yes" if took < STARTS[command] else "**no**"
        lines.append(f"| `{command}` | {took:.2f} | {STARTS[command]:g} | {met} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="a markdown file")
    output: Path | None = parser.parse_args().output
    seconds = measure_functions()
    page = render([target.row(seconds) for target in TARGETS], {c: cpu_seconds(c) for c in STARTS})
    print(page)
    if output:
        output.write_text(page)


if __name__ == "__main__":
    main()
