"""Plan, resume and index of a finished sweep of 5,000 cells: `python benchmarks/many_cells.py`.

The cells' folders are written as finished ones; nothing is fitted.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from hdstbench.data.card import load_dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.records import SCORES, save_json
from hdstbench.simulate.cohort import Cohort, simulate
from hdstbench.sweep.cell import PREDICTIONS, Cell, is_done
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import plan_cells, plan_job
from hdstbench.sweep.setting import set_models
from hdstbench.sweep.store import load_index, rebuild, with_older

SEEDS = 111
MODELS = ("mean", "stain", "ridge", "ridge-levels", "knn", "shuffled-ridge", "st-net", "egn", "his-to-gene")
MORE = ("bleep", "his2st", "triplex", "magnet", "magnet-gene-pcc", "magnet-published")


def finish(cell: Cell) -> None:
    """Leave a folder as a finished cell has it, predictions and moments aside."""
    cell.folder.mkdir(parents=True)
    save_json(cell.folder / "record.json", replace(cell.record, status="ok"))
    save_json(
        cell.folder / "scores.json", {"version": SCORES, "genes": [f"G{i}" for i in range(250)], "slides": []}
    )
    (cell.folder / PREDICTIONS).touch()


def main() -> None:
    """Time each part."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        simulate(Cohort(slides=3, size_mm=0.3), place / "demo")
        dataset = load_dataset(str(place / "demo" / "dataset.toml"))
        options = Options(seeds=tuple(range(SEEDS)), output=str(place / "runs"), recipe="tiny")
        job = plan_job(dataset, "16um", options)
        folders = {s.id: prepare_slide(dataset, s, job.resolution) for s in dataset.card.samples}
        settings = set_models((*MODELS, *MORE), "tiny", options)

        started = time.perf_counter()
        cells = plan_cells(job, settings, folders, options, "cpu")
        planned = time.perf_counter() - started
        for cell in cells:
            finish(cell)

        started = time.perf_counter()
        again = plan_cells(job, settings, folders, options, "cpu")
        missing = sum(not is_done(cell) for cell in again) + with_older(cell.folder for cell in again)
        resumed = time.perf_counter() - started

        started = time.perf_counter()
        rebuilt = rebuild(place / "runs")
        index = time.perf_counter() - started
        started = time.perf_counter()
        load_index(place / "runs")
        read = time.perf_counter() - started
    print(
        f"{len(cells)} cells: planned in {planned:.1f} s; planned and found done in {resumed:.1f} s "
        f"({missing} missing); "
        f"index of {len(rebuilt)} rebuilt in {index:.1f} s, read in {read:.1f} s"
    )


if __name__ == "__main__":
    main()
