"""Have a data set's files in place and its slides prepared."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hdstbench.cli.fetch_job import ask_and_fetch
from hdstbench.cli.simulated import cohort_of, located
from hdstbench.cli.view import View
from hdstbench.data.card import Dataset, SampleCard
from hdstbench.data.levels import Resolution
from hdstbench.data.prepare import is_prepared, prepare_slide, prepared_folder
from hdstbench.data.readers import has_files, input_files
from hdstbench.errors import MissingError
from hdstbench.pool import run_all
from hdstbench.simulate.cohort import simulate
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import Job


def have_slides(job: Job, options: Options, view: View, *, yes: bool) -> Mapping[str, Path]:
    """Prepare every slide of a job's split that is not prepared yet.

    Args:
        job: Names data set, split and resolution.
        options: Of the run.
        view: Told what happens.
        yes: Files may be fetched without asking.

    Returns:
        Prepared folder of each slide.

    Raises:
        HdstError: If files are missing or wrong.
    """
    everything = options.bins == "all"
    dataset, res = located(job.dataset), job.resolution
    samples = [s for s in dataset.card.samples if s.id in job.split.slides]
    todo = [s for s in samples if not is_prepared(dataset, s, res, everything=everything)]
    missing = [s.id for s in todo if not _is_readable(dataset, s, res)]
    if missing:
        _get_files(dataset, missing, options.mirror, view, yes=yes)
    if todo:
        name = f"preparing {job.task.dataset} at {res.name}"
        with view.stage(name, len(todo)) as advance:
            calls = {s.id: (_portable(dataset), s, res) for s in todo}
            for done in run_all(partial(prepare_slide, everything=everything), calls):
                advance(done)
    gone = [s.id for s in samples if s not in todo and not has_files(dataset, s)]
    if gone:
        view.say(f"the files of {', '.join(gone)} are not there; using what was prepared from them")
    return {s.id: prepared_folder(dataset, s, res, everything=everything) for s in samples}


def _is_readable(dataset: Dataset, sample: SampleCard, res: Resolution) -> bool:
    try:
        return bool(input_files(dataset, sample, res))
    except MissingError:
        return False


def _get_files(dataset: Dataset, missing: Sequence[str], mirror: str, view: View, *, yes: bool) -> None:
    """Simulate or fetch the files of some slides; where neither can be done, say where they are from."""
    cohort = cohort_of(dataset)
    if cohort and not dataset.root.is_dir():
        with view.stage(f"simulating {dataset.card.name}", cohort.slides) as advance:
            simulate(cohort, dataset.root, advance)
    elif any(sample.files for sample in dataset.card.samples):
        ask_and_fetch(
            dataset, mirror=mirror, yes=yes, say=view.say, confirm=view.confirm, only=tuple(missing)
        )
    elif not dataset.root.is_dir():
        msg = (
            f"the files of {dataset.card.name} are not in {dataset.root}; get them from "
            f"{dataset.card.homepage or dataset.card.citation} and set HDSTBENCH_DATA to the folder above"
        )
        raise MissingError(msg)


def _portable(dataset: Dataset) -> Dataset:
    """A dataset that can be sent to another process: the card's place is not needed there."""
    return replace(dataset, place=dataset.root)


def prepared_already(job: Job, options: Options) -> Mapping[str, Path] | int:
    """Prepared folder of each slide of a job's split, or how many are not prepared yet; makes nothing."""
    everything = options.bins == "all"
    dataset, res = located(job.dataset), job.resolution
    samples = [s for s in dataset.card.samples if s.id in job.split.slides]
    missing = sum(not is_prepared(dataset, s, res, everything=everything) for s in samples)
    return missing or {s.id: prepared_folder(dataset, s, res, everything=everything) for s in samples}
