"""Have a data set's files in place and its slides prepared."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from hdstbench.cli.view import View
from hdstbench.data.card import Dataset, simulated_root
from hdstbench.data.prepare import has_files, is_prepared, prepare_slide, prepared_folder
from hdstbench.errors import MissingError
from hdstbench.pool import run_all
from hdstbench.simulate.cohort import Cohort, cohort_key, simulate
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
    dataset, res = _located(job.dataset), job.dataset.card.resolution(job.task.resolution)
    samples = [s for s in dataset.card.samples if s.id in job.split.slides]
    todo = [s for s in samples if not is_prepared(dataset, s, res, everything=everything)]
    if todo:
        _have_files(dataset, view)
        name = f"preparing {job.task.dataset} at {res.name}"
        with view.stage(name, len(todo)) as advance:
            calls = {s.id: (_portable(dataset), s, res) for s in todo}
            for done in run_all(partial(prepare_slide, everything=everything), calls):
                advance(done)
    gone = [s.id for s in samples if s not in todo and not has_files(dataset, s)]
    if gone:
        view.say(f"the files of {', '.join(gone)} are not there; using what was prepared from them")
    return {s.id: prepared_folder(dataset, s, res, everything=everything) for s in samples}


def _located(dataset: Dataset) -> Dataset:
    """Where the files of a data set are or go; simulated ones are named by what made them."""
    cohort = _cohort(dataset)
    if cohort is None or dataset.root.is_dir():
        return dataset
    key = cohort_key(cohort)
    return replace(dataset, root=simulated_root() / key, made=key)


def _cohort(dataset: Dataset) -> Cohort | None:
    table = dataset.card.simulate
    return Cohort(seed=table.seed, slides=table.slides, size_mm=table.size_mm) if table else None


def _have_files(dataset: Dataset, view: View) -> None:
    if dataset.root.is_dir():
        return
    cohort = _cohort(dataset)
    if cohort is None:
        msg = (
            f"the files of {dataset.card.name} are not in {dataset.root}; get them from "
            f"{dataset.card.homepage or dataset.card.citation} and set HDSTBENCH_DATA to the folder above"
        )
        raise MissingError(msg)
    with view.stage(f"simulating {dataset.card.name}", cohort.slides) as advance:
        simulate(cohort, dataset.root, advance)


def _portable(dataset: Dataset) -> Dataset:
    """A dataset that can be sent to another process: the card's place is not needed there."""
    return replace(dataset, place=dataset.root)
