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
    """One sweep.

    `wall` are seconds of the whole command, `cells_s` those from the first cell's start to the last one's
    end, `beside` the median of what a fitted cell takes beside fitting and predicting, of `cells`.
    """

    wall: float
    cells_s: float
    cells: int
    beside: float


def sweep(asked: str, workers: int, folder: Path) -> Run:
    """Run the sweep in a folder of its own."""
    words = f"run {asked} --device cpu --recipe quick --workers {workers} -o {folder} --json".split()
    began, seen = time.perf_counter(), dict[str, float]()
    command = [sys.executable, "-m", "hdstbench", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)["event"]
            if event == "done" or event not in seen:  # the first of each kind, and the last that is done
                seen[event] = time.perf_counter()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    wall = time.perf_counter() - began
    records = [json.loads(path.read_text()) for path in folder.glob("*/*/*/fold*/record.json")]
    seconds = [record["seconds"] for record in records]
    fitted = [s for s in seconds if "fit" in s]  # an oracle is asked, not fitted
    return Run(
        wall=wall,
        cells_s=seen["done"] - seen["started"],
        cells=len(fitted),
        beside=median(s["total"] - s["fit"] - s["predict"] for s in fitted),
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
        sweep(f"-m {asked.warm or asked.models} {data}", 2, Path(name) / "warm")  # makes data and features
        found: dict[int, Run] = {}
        for repeat in range(asked.repeats):
            for workers in (1, 2):
                run = sweep(task, workers, Path(name) / f"{repeat}-{workers}")
                if workers not in found or run["wall"] < found[workers]["wall"]:
                    found[workers] = run
    one, two = found[1], found[2]
    cells = one["cells"]
    walls, inside = (one[k] / two[k] for k in ("wall", "cells_s"))
    print(f"one worker {one['wall']:.1f} s, two {two['wall']:.1f} s: {walls:.3f}x ({cells} cells)")
    print(f"from the first cell to the last: {one['cells_s']:.1f} s, {two['cells_s']:.1f} s: {inside:.3f}x")
    a_cell, once = one["beside"], one["wall"] - one["cells_s"]
    print(f"beside fitting and predicting: {a_cell:.2f} s a cell ({a_cell / 60:.3%} of a one-minute cell)")
    print(f"before the first cell and after the last: {once:.1f} s")


if __name__ == "__main__":
    main()
