"""What two workers do against one, and what the runner adds to a cell: `python benchmarks/workers.py`.

Both runs are of one data set, the simulated demo at 16 um by default, from prepared slides and cached
features, each worker on one thread. Overhead is what a worker's time holds beside fitting and predicting:
opening the fold, scores with their ceilings and maps, files brought to the disk, and, once a sweep,
starting processes and writing tables.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TypedDict

MODELS = "st-net,his-to-gene,bleep,triplex,magnet"


class Run(TypedDict):
    """One sweep: wall seconds, its cells with a fit, their median beside that, and seconds in all cells."""

    wall: float
    cells: int
    beside: float
    inside: float


def sweep(asked: str, workers: int, folder: Path) -> Run:
    """Run the sweep in a folder of its own."""
    words = f"run {asked} --device cpu --recipe quick --workers {workers} -o {folder}".split()
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hdstbench", *words], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    records = [json.loads(path.read_text()) for path in folder.glob("*/*/*/fold*/record.json")]
    seconds = [record["seconds"] for record in records]
    fitted = [s for s in seconds if "fit" in s]  # an oracle is asked, not fitted
    return Run(
        wall=wall,
        cells=len(fitted),
        beside=median(s["total"] - s["fit"] - s["predict"] for s in fitted),
        inside=sum(s["total"] for s in seconds),
    )


def main() -> None:
    """Run one, two, one, two workers and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--models", default=MODELS)
    parser.add_argument("-d", "--dataset", default="demo")
    parser.add_argument("-r", "--res", default="16um")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--folds", help="all by default")
    parser.add_argument("--warm", help="models that run first; all of them by default, for their features")
    parser.add_argument("-n", "--repeats", type=int, default=2)
    asked = parser.parse_args()
    data = f"-d {asked.dataset} -r {asked.res}" + (f" --folds {asked.folds}" if asked.folds else "")
    task = f"-m {asked.models} --seeds {asked.seeds} {data}"
    with tempfile.TemporaryDirectory() as name:
        sweep(
            f"-m {asked.warm or asked.models} {data}", 2, Path(name) / "warm"
        )  # slides are prepared and features made
        found: dict[int, Run] = {}
        for repeat in range(asked.repeats):
            for workers in (1, 2):
                run = sweep(task, workers, Path(name) / f"{repeat}-{workers}")
                if workers not in found or run["wall"] < found[workers]["wall"]:
                    found[workers] = run
    one, two = found[1], found[2]
    cells = one["cells"]
    ratio = one["wall"] / two["wall"]
    print(f"one worker {one['wall']:.1f} s, two {two['wall']:.1f} s: {ratio:.2f}x ({cells} cells)")
    a_cell, once = one["beside"], one["wall"] - one["inside"]
    print(f"beside fitting and predicting: {a_cell:.2f} s a cell ({a_cell / 60:.1%} of a one-minute cell)")
    print(f"once a sweep: {once:.1f} s")


if __name__ == "__main__":
    main()
