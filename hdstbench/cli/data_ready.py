"""Have a data set's files in place and its slides prepared."""

import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from hdstbench.cli.view import View
from hdstbench.data.card import Dataset
from hdstbench.data.prepare import is_prepared, prepare_slide, prepared_folder
from hdstbench.errors import MissingError
from hdstbench.simulate.cohort import Cohort, simulate
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import Job


def have_slides(job: Job, options: Options, view: View) -> Mapping[str, Path]:
    """Have the slides of a job prepared: simulate them first if the card says how, read them if not.

    Returns:
        The prepared folder of each slide of the split.

    Raises:
        MissingError: If the files of a real data set are not there.
    """
    everything = options.bins == "all"
    dataset, res = job.dataset, job.dataset.card.resolution(job.task.resolution)
    samples = [s for s in dataset.card.samples if s.id in job.split.slides]
    todo = [s for s in samples if not is_prepared(dataset, s, res, everything=everything)]
    if todo:
        _have_files(dataset, view)
        name = f"preparing {job.task.dataset} at {res.name}"
        pool = ProcessPoolExecutor(min(len(todo), os.cpu_count() or 1), mp_context=get_context("spawn"))
        with view.stage(name, len(todo)) as advance, pool:
            local = _portable(dataset)
            jobs = {pool.submit(prepare_slide, local, s, res, everything=everything): s.id for s in todo}
            for done in as_completed(jobs):
                done.result()
                advance(jobs[done])
    return {s.id: prepared_folder(dataset, s, res, everything=everything) for s in samples}


def _have_files(dataset: Dataset, view: View) -> None:
    if dataset.root.is_dir():
        return
    table = dataset.card.simulate
    if table is None:
        msg = (
            f"the files of {dataset.card.name} are not in {dataset.root}; get them from "
            f"{dataset.card.homepage or dataset.card.citation} and set HDSTBENCH_DATA to the folder above"
        )
        raise MissingError(msg)
    cohort = Cohort(seed=table.seed, slides=table.slides, size_mm=table.size_mm)
    with view.stage(f"simulating {dataset.card.name}", cohort.slides) as advance:
        simulate(cohort, dataset.root, advance)


def _portable(dataset: Dataset) -> Dataset:
    """A dataset that can be sent to another process: the card's place is not needed there."""
    return Dataset(dataset.card, dataset.root, dataset.root)
