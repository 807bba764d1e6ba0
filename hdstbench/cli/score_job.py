"""Score files of predictions; show the scores, or enter them into a run's tables."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hdstbench.arrays import FloatArray
from hdstbench.cli.audit_job import audited
from hdstbench.cli.data_ready import have_slides
from hdstbench.cli.run_job import Planned, plan_jobs, save_plan
from hdstbench.cli.view import make_view
from hdstbench.data.card import cache_root
from hdstbench.errors import DataError, MissingError
from hdstbench.metrics.like import LIKE, MEANING
from hdstbench.protocol.task import Fold, open_fold
from hdstbench.records import Record, load_record
from hdstbench.report.board import load_board
from hdstbench.report.markdown import write_board
from hdstbench.report.tables import markdown_table
from hdstbench.sweep.cell import Cell, finish, part_of, save_predictions, save_scores
from hdstbench.sweep.claim import claim
from hdstbench.sweep.options import Options, resolve
from hdstbench.sweep.plan import Job
from hdstbench.sweep.provenance import commit, versions
from hdstbench.sweep.score import FoldScores, check_predictions, score_fold
from hdstbench.sweep.submitted import Submitted, lay_beside, read_submitted

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
ELSEWHERE = "elsewhere"
SHOWN = ("pcc_gene", "pcc_gene_hvg50", "pcc_bin", "mse", "mae", "mse_skill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Under which name predictions enter a table, and what is said of them."""

    name: str
    by: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What is wanted: a record that names the task, another paper's convention, an entry into a table."""

    task: str = ""
    like: str = ""
    entry: Entry | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class _Scored:
    """One fold with the predictions of its test slides."""

    fold: Fold
    predictions: dict[str, FloatArray]
    sha256: str


def execute(files: Sequence[str], given: Mapping[str, Any], how: How) -> Iterator[str]:
    """Score predictions; what to print.

    Raises:
        HdstError: If a file, or what it is scored against, is not what it has to be.
    """
    if how.entry and not NAME.fullmatch(how.entry.name):
        msg = f"--as {how.entry.name!r}: wanted a name of lower-case letters, digits, '.', '_' and '-'"
        raise DataError(msg)
    found = [read_submitted(Path(name)) for name in files]
    options, _ = resolve({**_of_task(how.task), **given}, "")
    view = make_view(as_json=how.as_json)
    jobs = plan_jobs(options)
    if len(jobs) != 1:
        msg = f"{len(jobs)} tasks; name one data set and one resolution (-d, -r), or a record (--task)"
        raise DataError(msg)
    folders = have_slides(jobs[0], options, view, yes=False)
    job = audited(jobs[0], [], folders, options, view)
    scored = [_laid(job, number, folders, found) for number in _folds(job, options, found)]
    if how.like:
        yield from _like(scored, how.like, as_json=how.as_json)
        return
    scores = [score_fold(one.fold, one.predictions) for one in scored]
    yield from _shown(scored, scores, as_json=how.as_json)
    if how.entry:
        yield f"table: {_enter(job, options, folders, list(zip(scored, scores, strict=True)), how.entry)}"


def _of_task(path: str) -> dict[str, Any]:
    """Options that a record names."""
    if not path:
        return {}
    record = load_record(Path(path) if Path(path).is_dir() else Path(path).parent)
    task, markers = record.task, record.task.get("markers", "")
    listed = task["panel"].rsplit(":", 1)[0] if ":" in task["panel"] else ""
    return {
        "dataset": (task["dataset"],),
        "res": (task["resolution"],),
        "split": task["split"],
        "protocol": task["protocol"],
        "panel": listed,
        "target": task["target"],
        "bins": task["bins"],
        "genes": tuple(markers.split(",")) if markers else (),
        "folds": (record.fold,),
    }


def _folds(job: Job, options: Options, found: Sequence[Submitted]) -> list[int]:
    """The folds that were asked for, or those whose test slides are all predicted."""
    there = {name for one in found for name in one.values}
    if options.folds:
        return list(options.folds)
    fit = [number for number, fold in enumerate(job.split.folds) if set(fold.test) <= there]
    if not fit:
        wanted = ", ".join(sorted({name for fold in job.split.folds for name in fold.test}))
        msg = f"the files predict {', '.join(sorted(there)) or 'nothing'}; folds of this task test {wanted}"
        raise MissingError(msg)
    return fit


def _laid(job: Job, number: int, folders: Mapping[str, Path], found: Sequence[Submitted]) -> _Scored:
    """Open a fold and lay the predictions beside its units; several files may hold one fold's slides."""
    fold = open_fold(job.task, job.split, number, folders)
    out, used = {}, []
    for test in fold.test:
        holders = _holders(found, fold, test.slide.id)
        out[test.slide.id] = check_predictions(test.slide, lay_beside(holders, test.slide))
        used.append(holders.sha256)
    return _Scored(fold, out, hashlib.sha256("".join(sorted(set(used))).encode()).hexdigest())


def _holders(found: Sequence[Submitted], fold: Fold, slide: str) -> Submitted:
    """The file that holds a slide: of several, the one with the fold's genes."""
    fit = [one for one in found if slide in one.values]
    if not fit:
        msg = f"no file predicts {slide}, which fold {fold.number} tests"
        raise MissingError(msg)
    right = [one for one in fit if set(fold.panel.genes) <= set(one.genes)]
    return (right or fit)[0]


def _like(scored: Sequence[_Scored], like: str, *, as_json: bool) -> Iterator[str]:
    folds = []
    for one in scored:
        pairs = []
        for test in one.fold.test:
            measured = test.slide.need_labels().target()[test.headline]
            genes = one.fold.panel.mean250
            pairs.append((one.predictions[test.slide.id][test.headline][:, genes], measured[:, genes]))
        folds.append(pairs)
    values = LIKE[like](folds)
    if as_json:
        yield json.dumps({"like": like, **values})
        return
    yield f"{MEANING[like]}. Not comparable with this suite's scores."
    yield from (f"{name}: {value:.4f}" for name, value in values.items())


def _shown(scored: Sequence[_Scored], scores: Sequence[FoldScores], *, as_json: bool) -> Iterator[str]:
    if as_json:
        folds = [
            {"fold": one.fold.number, "slides": [asdict(s) for s in found.slides]}
            for one, found in zip(scored, scores, strict=True)
        ]
        yield json.dumps({"folds": folds})
        return
    lines = [
        (str(one.fold.number), s.slide, f"{s.units:,}", *(f"{getattr(s, name):.3f}" for name in SHOWN))
        for one, found in zip(scored, scores, strict=True)
        for s in found.slides
    ]
    yield markdown_table(("fold", "slide", "units", *SHOWN), lines)


def _enter(
    job: Job,
    options: Options,
    folders: Mapping[str, Path],
    found: Sequence[tuple[_Scored, FoldScores]],
    entry: Entry,
) -> Path:
    """Write a cell a fold as a sweep would, and the table with them."""
    base = Path(options.output)
    cells = [_cell(job, one, entry, base) for one, _ in found]
    for cell, (one, scores) in zip(cells, found, strict=True):
        _store(cell, one, scores)
    plan = save_plan(Planned(job, folders, cells), options)
    return write_board(load_board(plan), base)


def _cell(job: Job, one: _Scored, entry: Entry, base: Path) -> Cell:
    key = hashlib.sha256(json.dumps([entry.name, one.sha256, job.task.hash, one.fold.number]).encode())
    said = "; ".join(f"{word} {text}" for word, text in (("by", entry.by), ("code", entry.code)) if text)
    record = Record(
        key=key.hexdigest()[:16],
        model=entry.name,
        kind="model",
        recipe=job.recipe,
        fold=one.fold.number,
        seed=0,
        task={**job.task.fields(), "hash": job.task.hash},
        status="ok",
        changes=said,
        flags=(*job.flags, ELSEWHERE),
        plugin=f"predictions sha256:{one.sha256[:16]}",
        versions=versions(),
        commit=commit(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    name = f"fold{one.fold.number}-seed0-{record.key[:8]}"
    return Cell(
        model=entry.name,
        config=None,
        task=job.task,
        split=job.split,
        folders={},
        weights=None,
        folder=base / job.task.dataset / job.task.resolution / entry.name / name,
        cache=cache_root() / "features",
        record=record,
    )


def _store(cell: Cell, one: _Scored, scores: FoldScores) -> None:
    with claim(cell.folder) as ours:
        if not ours:
            msg = f"another process works on {cell.folder}; try again when it is done"
            raise DataError(msg)
        part = part_of(cell)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_predictions(part, one.fold, one.predictions)
        save_scores(part, one.fold, scores)
        finish(replace(cell), part, cell.record)
