"""Run one cell: open its fold, fit, predict, score, and leave its folder behind when whole."""

import contextlib
import dataclasses
import json
import shutil
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from hdstbench.arrays import FloatArray
from hdstbench.errors import DataError
from hdstbench.plugins.plugin import Model, Precision, Progress, RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.protocol.labels import Labels
from hdstbench.protocol.slide import Slide
from hdstbench.protocol.splits import Split
from hdstbench.protocol.target import TRAINING_MEDIAN
from hdstbench.protocol.task import Fold, Task, open_fold
from hdstbench.records import (
    SCORES,
    SCORES_FILE,
    Record,
    Status,
    load_record,
    save_json,
    save_moments,
    scores_version,
)
from hdstbench.sweep.claim import claim
from hdstbench.sweep.device import is_out_of_memory, peak_device_mb, reset_device_peak, set_policy
from hdstbench.sweep.durable import publish, recover
from hdstbench.sweep.kept_model import MODEL, Files, Origin, keep_model
from hdstbench.sweep.memory import peak_host_mb, reset_peak
from hdstbench.sweep.store import note

if TYPE_CHECKING:
    from hdstbench.sweep.score import FoldScores

ORACLE = "oracle"
PREDICTIONS, SLIDE, KEY = "predictions.npz", "slide/", "key/"
TARGET = "target"
"""What a target took from training units, as JSON, where it took something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Everything that a worker needs to know; can be pickled.

    Attributes:
        model: The plugin; the record names the row.
        config: The plugin's configuration; None for an oracle.
        folders: Prepared folder of every slide of the split.
        weights: File that the model starts from, if any.
        encoder_weights: The encoder's own weights where `weights` may be a checkpoint.
        anew: Fit and predict again, whatever is there.
        keep: Keep the fitted model beside its predictions.
        simulated: Whether the data set is.
        memory_mb: Host memory that it may take; 0 for most of the machine's. Does not hold on a GPU.
        stale: The folder holds a result of other code, data or options, which is to be kept.
        folder: Where the cell's files go.
        cache: Folder for features, shared by all cells.
        record: What is known of the record before the cell runs.
    """

    model: str
    config: Any
    task: Task
    split: Split
    folders: Mapping[str, Path]
    weights: Path | None
    folder: Path
    cache: Path
    record: Record
    encoder_weights: Path | None = None
    anew: bool = False
    stale: bool = False
    keep: bool = False
    simulated: bool = False
    memory_mb: float = 0.0

    @property
    def run(self) -> Path:
        """Folder of the run: it holds <data set>/<resolution>/<model>/<cell>."""
        return self.folder.parents[3]

    @property
    def name(self) -> str:
        """As shown in progress."""
        return f"{self.task.dataset} {self.task.resolution} {self.record.model} fold {self.record.fold}" + (
            f" seed {self.record.seed}" if self.record.seed else ""
        )


def run_cell(cell: Cell, report: Callable[[Progress], None]) -> Record | None:
    """Run a cell and write its folder; what goes wrong becomes its status and error.

    A fit that was killed goes on from what its model kept in the scratch folder.

    Returns:
        The record, or that of another run which was first; None if another run is at it.
    """
    with claim(cell.folder) as ours:
        if not ours:
            return None
        recover(cell.folder)
        return load_record(cell.folder) if is_done(cell) and not cell.anew else _run(cell, report)


def _run(cell: Cell, report: Callable[[Progress], None]) -> Record:
    part = part_of(cell)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        scratch_of(cell).mkdir(exist_ok=True)
        with _log(part / "log.txt"):
            record = _attempt(cell, part, report)
        finish(cell, part, record)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def part_of(cell: Cell) -> Path:
    """Where a cell's files are written before they are whole; whoever holds the claim may take it."""
    return cell.folder.with_name(f"{cell.folder.name}.part")


def scratch_of(cell: Cell) -> Path:
    """The model's own folder, which outlives a process that is killed."""
    return cell.folder.with_name(f"{cell.folder.name}.scratch")


def finish(cell: Cell, part: Path, record: Record) -> None:
    """Put a cell's files in their place, all at once; what its model kept for going on is not needed then."""
    if cell.config is not None:
        (part / "config.toml").write_text(config_toml(cell.config), encoding="utf-8")
    save_json(part / "record.json", record)
    publish(part, cell.folder)
    shutil.rmtree(scratch_of(cell), ignore_errors=True)
    note(cell.run, cell.folder, record)


def is_fitted(cell: Cell) -> bool:
    """Whether the cell's folder holds predictions of this very cell, scored or not."""
    if not ((cell.folder / PREDICTIONS).is_file() and (cell.folder / "record.json").is_file()):
        return False
    return load_record(cell.folder).key == cell.record.key


def is_done(cell: Cell) -> bool:
    """Whether there is nothing to do: it is fitted, and scored by the scores of this version."""
    if cell.stale:
        return True
    if not is_fitted(cell) or load_record(cell.folder).status != "ok" or _lacks_model(cell):
        return False
    return scores_version(cell.folder) == SCORES


def _lacks_model(cell: Cell) -> bool:
    """Whether the fitted model is wanted and not there; an oracle has none."""
    return cell.keep and cell.config is not None and not (cell.folder / MODEL).is_dir()


def _attempt(cell: Cell, part: Path, report: Callable[[Progress], None]) -> Record:
    """Fit, predict and score; or only score, if the predictions are there already."""
    started, record = time.perf_counter(), cell.record
    reset_peak()
    reset_device_peak(cell.record.device)
    try:
        fold = open_fold(cell.task, cell.split, cell.record.fold, cell.folders)
        stored = None if cell.anew else _stored(cell)
        record, predictions = stored or _fit(cell, fold, part, report)
        record = dataclasses.replace(record, status="ok", error="")
        save_predictions(part, fold, predictions)  # first: they outlive scores that fail
        if stored and (cell.folder / MODEL).is_dir():
            shutil.copytree(cell.folder / MODEL, part / MODEL)
        report(Progress(share=1.0, stage="scoring"))
        from hdstbench.sweep.score import score_fold  # noqa: PLC0415 - heavy, and a fit can begin without

        save_scores(part, fold, score_fold(fold, predictions))
    except (Exception, SystemExit) as caught:  # a model may even try to leave
        traceback.print_exc()
        error = f"{type(caught).__name__}: {' '.join(str(caught).split())}"[:500]
        status: Status = "oom" if is_out_of_memory(caught) else "failed"
        record = dataclasses.replace(record, status=status, error=error)
    return dataclasses.replace(
        record,
        seconds={"total": round(time.perf_counter() - started, 3), **record.seconds},
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _fit(
    cell: Cell, fold: Fold, part: Path, report: Callable[[Progress], None]
) -> tuple[Record, dict[str, FloatArray]]:
    """Fit the cell's model, predict every test slide, and keep the model if that is wanted."""
    if cell.record.kind == ORACLE:
        from hdstbench.sweep import oracle  # noqa: PLC0415 - heavy, and of oracles alone

        return cell.record, oracle.ask(cell.record.model, fold)
    context = RunContext(
        seed=cell.record.seed,
        device=cell.record.device,
        precision=cast(Precision, cell.record.precision),
        scratch=scratch_of(cell),
        cache=cell.cache,
        compile=cell.record.compiled,
        weights=cell.weights,
        encoder_weights=cell.encoder_weights,
        report=report,
    )
    set_policy(context.device, context.precision, deterministic=cell.record.deterministic)
    model = load_model(cell.model).build(cell.config)
    started = time.perf_counter()
    model.fit(fold.train, fold.val, context)
    fit_s = time.perf_counter() - started
    report(Progress(share=1.0, stage="predicting"))
    from hdstbench.sweep.score import check_predictions  # noqa: PLC0415 - heavy, and a fit can begin without

    started = time.perf_counter()
    predictions = {
        test.slide.id: check_predictions(test.slide, _predict(model, test.slide)) for test in fold.test
    }
    record = dataclasses.replace(
        cell.record,
        seconds={"fit": round(fit_s, 3), "predict": round(time.perf_counter() - started, 3)},
        parameters=int(getattr(model, "parameters", 0)),
        validation=_validation(model),
        peak_host_mb=peak_host_mb(),
        peak_device_mb=peak_device_mb(cell.record.device),
    )
    if cell.keep:
        keep_model(part, model, _origin(cell, record, fold))
    return record, predictions


def _origin(cell: Cell, record: Record, fold: Fold) -> Origin:
    return Origin(
        plugin=cell.model,
        config=config_toml(cell.config),
        record=record,
        fold=fold,
        files=Files(cell.weights, cell.encoder_weights),
        prepared=cell.folders[fold.train[0].id],
        simulated=cell.simulated,
    )


def _predict(model: Model, slide: Slide) -> FloatArray:
    """Predict the slide without its labels; a model that reaches for them is told so."""
    try:
        return model.predict(slide.hidden())
    except AttributeError as error:
        if "'NoneType'" not in str(error) or not hasattr(Labels, error.name or ""):
            raise
        msg = f"slide {slide.id} is hidden: a model may use labels in fit only, and asked for {error.name}"
        raise DataError(msg) from error


def _validation(model: Model) -> float | None:
    """What a model says of its error on inner validation, if it says a number."""
    value = getattr(model, "validation", None)
    return float(value) if value is not None and np.isfinite(value) else None


def _stored(cell: Cell) -> tuple[Record, dict[str, FloatArray]] | None:
    """Predictions of this very cell from an earlier run; None if there are none, or they are damaged."""
    if not is_fitted(cell) or _lacks_model(cell):
        return None
    try:
        with np.load(cell.folder / PREDICTIONS, allow_pickle=False) as file:
            found = {name.removeprefix(SLIDE): file[name] for name in file.files if name.startswith(SLIDE)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return load_record(cell.folder), found


def load_prediction(folder: Path, slide: str) -> FloatArray:
    """Predictions of a cell for all prepared units of a test slide, float32 [N, G]."""
    with np.load(folder / PREDICTIONS, allow_pickle=False) as file:
        return np.asarray(file[SLIDE + slide])


def save_predictions(part: Path, fold: Fold, predictions: dict[str, FloatArray]) -> None:
    """Write what a model predicted for all prepared units of each test slide."""
    named: dict[str, npt.NDArray[Any]] = {SLIDE + slide: v for slide, v in predictions.items()}
    named |= {KEY + test.slide.id: np.array(test.slide.key) for test in fold.test}
    target = fold.train[0].target
    if target.fit is not None or target.base == TRAINING_MEDIAN:
        named[TARGET] = np.array(json.dumps(dataclasses.asdict(target)))
    aside = part / f"aside-{PREDICTIONS}"  # a disk may be full: no half of a file gets the name
    try:
        np.savez(aside, genes=np.array(fold.panel.genes), **named)  # type: ignore[arg-type]
        aside.rename(part / PREDICTIONS)
    finally:
        aside.unlink(missing_ok=True)


def save_scores(part: Path, fold: Fold, scores: "FoldScores") -> None:
    """Write scores, a table of genes, and moments."""
    scores.per_gene.to_parquet(part / "per_gene.parquet", index=False)
    save_moments(part / "moments.npz", scores.moments)
    save_json(
        part / SCORES_FILE,
        {"version": SCORES, "panel": fold.panel.hash, "genes": fold.panel.genes, "slides": scores.slides},
    )


@contextlib.contextmanager
def _log(path: Path) -> Iterator[None]:
    """Send what the model prints, and tracebacks, to the cell's log."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("w", encoding="utf-8", buffering=1))
        stack.enter_context(contextlib.redirect_stdout(file))
        stack.enter_context(contextlib.redirect_stderr(file))
        yield


def config_toml(config: Any) -> str:  # noqa: ANN401 - any plugin's configuration
    """A configuration as TOML: values, then a table for each part."""
    return _table(dataclasses.asdict(config), "")


def _table(values: Mapping[str, Any], name: str) -> str:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [
        f"{key} = {json.dumps(value, default=str)}\n" for key, value in plain.items() if value is not None
    ]
    head = f"\n[{name}]\n" if name else ""
    inner = [_table(values[key], f"{name}.{key}" if name else key) for key in values if key not in plain]
    return head + "".join(lines) + "".join(inner)
