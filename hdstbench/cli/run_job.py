"""The main job: data, plan, cells, tables."""

import shlex
import sys
import tempfile
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdstbench.cli.audit_job import audited
from hdstbench.cli.data_ready import have_slides
from hdstbench.cli.expect import expect
from hdstbench.cli.pictures import picture
from hdstbench.cli.view import View, make_view
from hdstbench.data.card import Dataset, load_dataset
from hdstbench.errors import DataError, MissingError, one_line
from hdstbench.plugins.registry import broken, load_model
from hdstbench.records import save_json
from hdstbench.report.board import Board, Plan, load_board
from hdstbench.report.candidates import Source, list_candidates
from hdstbench.report.candidates_text import SUFFIX, load_listing, write_listing
from hdstbench.report.entries import with_entries
from hdstbench.report.markdown import write_board
from hdstbench.sweep.cell import Cell, is_done
from hdstbench.sweep.device import choose_device
from hdstbench.sweep.local import Event, run_cells
from hdstbench.sweep.on_ray import Cluster, device_of, run_on_ray
from hdstbench.sweep.options import Options, resolve, worker_count
from hdstbench.sweep.overwrite import overwriting
from hdstbench.sweep.plan import Job, plan_cells, plan_job
from hdstbench.sweep.rows import row_names
from hdstbench.sweep.setting import Setting, set_models, settings_for
from hdstbench.sweep.store import with_older
from hdstbench.sweep.worker import Worker


@dataclass(frozen=True, slots=True)
class Planned:
    """A job with its prepared slides and its cells."""

    job: Job
    folders: Mapping[str, Path]
    cells: Sequence[Cell]


def execute(
    given: Mapping[str, Any],
    sweep_file: str,
    *,
    dry_run: bool,
    probing: bool,
    fail_fast: bool,
    as_json: bool,
    yes: bool,
    started: Worker | None = None,
) -> bool:
    """Do what `hdstbench run` was asked for; a dry run tells what it would do, by a probe if it may.

    A worker that is `started` meanwhile is used, as far as cells run in local ones.

    Returns:
        Whether every cell is whole.
    """
    options, used = resolve(given, sweep_file)
    view = make_view(as_json=as_json)
    if used:
        view.say(f"options from {used}")
    models = row_names(options.models, options.rows, _broken(options, view))
    jobs = plan_jobs(options)
    recipes = dict.fromkeys(job.recipe for job in jobs)
    asked = {r: set_models(_with_recipe(models, r, options, view), r, options) for r in recipes}
    settings = {job.stem: _fitting(job, asked[job.recipe], options, view) for job in jobs}
    device = _device(options)
    if dry_run:
        for job in jobs:
            view.dry(job, [setting.name for setting in settings[job.stem]], options)
            expect(job, settings[job.stem], options, device, view, probing=probing)
        return True
    _need_output(Path(options.output))
    planned = []
    for job in jobs:
        folders = have_slides(job, options, view, yes=yes)
        job = audited(job, settings[job.stem], folders, options, view)  # noqa: PLW2901
        cells = overwriting(plan_cells(job, settings[job.stem], folders, options, device), options.overwrite)
        planned.append(Planned(job, folders, cells))
    for one in planned:
        save_plan(one, options)
    whole = _run(planned, options, device, view, fail_fast=fail_fast, started=started)
    for one in planned:
        _write_tables(one, options, view)
        if one.job.rules.tiled:
            view.say(f"targets: {_write_targets(one, options)}")
    return whole


def _broken(options: Options, view: View) -> Collection[str]:
    """Models that `all` leaves out, since they cannot be loaded; tells why."""
    found = broken() if "all" in options.models else {}
    for name, why in found.items():
        view.say(f"without {name}: {one_line(DataError(why))}")
    return found


def _with_recipe(models: Sequence[str], recipe: str, options: Options, view: View) -> list[str]:
    """Leave out models of `all` without the recipe, and tell which; a named one is an error later."""
    named = {*options.models, *(row.name for row in options.rows)}
    kept = [name for name in models if name in named or recipe in load_model(name).recipes]
    for name in models:
        if name not in kept:
            view.say(
                f"without {name}: it has no recipe {recipe!r}, but {', '.join(load_model(name).recipes)}"
            )
    return kept


def _fitting(job: Job, settings: Sequence[Setting], options: Options, view: View) -> list[Setting]:
    """The settings that can run on a job's split; tells which cannot."""
    kept, out = settings_for(job.split, settings, options.models)
    if out:
        names = ", ".join(out)
        view.say(f"{job.stem}: without {names}, as split {job.split.name} trains on no slide that it tests")
    return kept


def _need_output(folder: Path) -> None:
    """Try to write where the output folder is or will be, before any work is done; leaves nothing."""
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        msg = f"{folder} cannot be written ({error.strerror}); choose another folder with -o"
        raise DataError(msg) from error


def plan_jobs(options: Options, *, lenient: bool = False) -> list[Job]:
    """Data sets x resolutions; `all` means those that each card lists.

    Args:
        options: Of the run.
        lenient: Plan a split that leaks, too, to tell what is wrong.

    Raises:
        DataError: If two would write the same table.
    """
    jobs = []
    for dataset in map(load_dataset, options.dataset):
        jobs += [plan_job(dataset, name, options, lenient=lenient) for name in _resolutions(dataset, options)]
    stems = [job.stem for job in jobs]
    for stem in stems:
        if stems.count(stem) > 1:
            msg = f"{stems.count(stem)} data sets would write the table {stem}; give their cards other names"
            raise DataError(msg)
    return jobs


def _resolutions(dataset: Dataset, options: Options) -> tuple[str, ...]:
    if options.res == ("all",):
        return dataset.card.resolutions
    if "all" in options.res:
        msg = f"resolutions {', '.join(options.res)}: give all, or names"
        raise MissingError(msg)
    return options.res


def _run(
    planned: Sequence[Planned],
    options: Options,
    device: str,
    view: View,
    *,
    fail_fast: bool,
    started: Worker | None,
) -> bool:
    cells = [cell for one in planned for cell in one.cells]
    todo = [cell for cell in cells if cell.anew or not is_done(cell)]
    _tell_stale(cells, view)
    whole = True
    workers = worker_count(options, device, len(todo))
    with view.cells(len(cells), len(cells) - len(todo), workers):
        events = _events(todo, options, workers, started)
        for event in events:
            view.show(event)
            if event.kind == "done" and event.record and event.record.status != "ok":
                whole = False
                if fail_fast:
                    events.close()
                    break
    return whole


def _device(options: Options) -> str:
    """What models compute on; of a cluster its nodes know, not this machine."""
    if options.executor == "ray" and options.device == "auto":
        return device_of(_cluster(options))
    return options.device if options.executor == "ray" else choose_device(options.device)


def _cluster(options: Options) -> Cluster:
    return Cluster(address=options.address, data=options.share, at_once=options.workers)


def _events(todo: Sequence[Cell], options: Options, workers: int, started: Worker | None) -> Generator[Event]:
    if started and (not todo or options.executor == "ray"):
        started.drop()
    if not todo:
        return run_cells(todo, 0)
    if options.executor == "ray":
        return run_on_ray(todo, _cluster(options), options.timeout)
    return run_cells(todo, workers, options.timeout, started)


def _tell_stale(cells: Sequence[Cell], view: View) -> None:
    """Say how many results of other code, data or options lie beside those of this run."""
    kept = sum(cell.stale for cell in cells)
    if kept:
        view.say(f"{kept} results of other code, data or options are kept (--overwrite never) and marked")
    beside = with_older(cell.folder for cell in cells if not cell.stale)
    if beside:
        view.say(f"{beside} cells have older results of other code, data or options, which no table uses")


def _write_tables(one: Planned, options: Options, view: View) -> Board:
    base = Path(options.output)
    board = load_board(base / f"{one.job.stem}.plan.json")
    table = write_board(board, base)
    view.table(board, table, picture(one.job, one.folders, one.cells, board, base))
    return board


def save_plan(one: Planned, options: Options) -> Path:
    """Store what is wanted before anything runs: `hdstbench status` and tables of what is there need it."""
    base = Path(options.output)
    card = one.job.dataset.card
    plan = Plan(
        stem=one.job.stem,
        title=card.title,
        split_title=one.job.split.title,
        simulated=card.simulated,
        command=command_line(),
        recipe=one.job.recipe,
        notes=card.notes,
        folds=one.job.folds(options),
        all_folds=len(one.job.split.folds),
        panel=one.job.panel,
        protocol=one.job.rules.name,
        target=one.job.task.target if one.job.task.target != one.job.rules.target else "",
        tissues={sample.id: sample.tissue for sample in card.samples if sample.id in one.job.split.slides},
        kinds={cell.record.model: cell.record.kind for cell in one.cells},
        cells=tuple(str(cell.folder.relative_to(base)) for cell in one.cells),
        stale=tuple(str(cell.folder.relative_to(base)) for cell in one.cells if cell.stale),
    )
    base.mkdir(parents=True, exist_ok=True)
    path = base / f"{one.job.stem}.plan.json"
    save_json(path, with_entries(plan, path, one.job.task.hash))
    return path


def _write_targets(one: Planned, options: Options) -> Path:
    """List what the training mean scores under every target that the paper may have used."""
    source = Source(
        stem=one.job.stem,
        dataset=one.job.dataset,
        task=one.job.task,
        split=one.job.split,
        folds=one.job.folds(options),
        folders=one.folders,
    )
    base = Path(options.output)
    stored = base / f"{source.stem}{SUFFIX}"
    found = load_listing(stored) if stored.is_file() else None
    return write_listing(found if found and found.key == source.key else list_candidates(source), base)


def command_line() -> str:
    """What was typed, without the place of the program."""
    return shlex.join(["hdstbench", *sys.argv[1:]])
