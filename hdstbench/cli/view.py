"""What a run shows: bars on a terminal, lines elsewhere, JSON lines on request."""

import contextlib
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from typing_extensions import override

from hdstbench.protocol.rules import find_rules
from hdstbench.records import load_scores
from hdstbench.report.board import Board, Row
from hdstbench.report.markdown import MARK, by_headline, headline_first, ridge_note
from hdstbench.report.standing import standing_cells
from hdstbench.report.tables import limits, signed
from hdstbench.sweep.local import Event
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import Job

Advance = Callable[[str], None]
LINE = 120


class View(ABC):
    """How a run tells what it does."""

    @abstractmethod
    def say(self, line: str) -> None:
        """Tell one thing."""

    @property
    def confirm(self) -> Callable[[str], bool] | None:
        """How to ask a question; None where nobody can answer."""
        return click.confirm if sys.stdin.isatty() and sys.stdout.isatty() else None

    @abstractmethod
    def stage(self, name: str, total: int) -> contextlib.AbstractContextManager[Advance]:
        """Show a stage with a known number of parts; call the result after each."""

    @abstractmethod
    def cells(self, total: int, done: int, workers: int) -> contextlib.AbstractContextManager[None]:
        """Show the cells while they run."""

    @abstractmethod
    def show(self, event: Event) -> None:
        """Show what happened to a cell."""

    @abstractmethod
    def table(self, board: Board, path: Path, picture: Path | None) -> None:
        """Show the finished table and where its files are."""

    def dry(self, job: Job, models: list[str], options: Options) -> None:
        """Tell what a job would do."""
        folds = job.folds(options)
        count = len(models) * len(folds) * len(options.seeds)
        self.say(
            f"{job.stem}: {count} cells = {len(models)} models ({', '.join(models)}) x {len(folds)} folds "
            f"x {len(options.seeds)} seeds, recipe {job.recipe}, split {job.split.name} ({job.split.title})"
        )


def make_view(*, as_json: bool) -> View:
    """Choose a view for where the output goes."""
    if as_json:
        return JsonView()
    console = Console()
    return TextView(console if console.is_terminal else Console(width=LINE))


class JsonView(View):
    """One JSON object a line on standard output."""

    @override
    def say(self, line: str) -> None:
        _emit(event="message", text=line)

    @contextlib.contextmanager
    @override
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        _emit(event="stage", name=name, total=total)
        yield lambda part: _emit(event="part", stage=name, part=part)

    @contextlib.contextmanager
    @override
    def cells(self, total: int, done: int, workers: int) -> Iterator[None]:
        _emit(event="cells", total=total, done=done, workers=workers)
        yield

    @override
    def show(self, event: Event) -> None:
        extra: dict[str, object] = {}
        if event.progress:
            extra = {
                "stage": event.progress.stage,
                "share": event.progress.share,
                "loss": event.progress.loss,
            }
        if event.record:
            extra = {"status": event.record.status, "error": event.record.error}
        _emit(event=event.kind, cell=event.cell.name, **extra)

    @override
    def table(self, board: Board, path: Path, picture: Path | None) -> None:
        _emit(event="table", path=str(path), picture=str(picture) if picture else None)


def _emit(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


class TextView(View):
    """Bars on a terminal, plain lines in a file or pipe."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars: Progress | None = None
        self.overall = TaskID(0)
        self.running: dict[str, TaskID] = {}
        self.done, self.total = 0, 0
        self.began: dict[str, float] = {}
        self.elsewhere = set[str]()

    @override
    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    @override
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        with _bars(self.console) as bars:
            task = bars.add_task(name, total=total)
            self._plain(f"{name} ...")

            def advance(part: str) -> None:
                bars.advance(task)
                self._plain(f"  {part}")

            yield advance

    @contextlib.contextmanager
    @override
    def cells(self, total: int, done: int, workers: int) -> Iterator[None]:
        self.done, self.total = done, total
        if done == total:
            self.say(f"all {total} cells are there already")
            yield
            return
        known = f", {done} of them are there already" if done else ""
        self.say(f"{total} cells{known}; {workers} worker{'s' if workers > 1 else ''}")
        with _bars(self.console) as self.bars:
            self.overall = self.bars.add_task("cells", total=total, completed=done)
            yield
        self.bars = None

    @override
    def show(self, event: Event) -> None:
        assert self.bars is not None
        name = event.cell.name
        if event.kind == "started":
            self.running[name] = self.bars.add_task(name, total=1.0)
            self.began[name] = time.monotonic()
        elif event.kind == "progress" and event.progress:
            loss = "" if event.progress.loss is None else f" loss {event.progress.loss:.4f}"
            text = f"{name}: {event.progress.stage}{loss}"
            self.bars.update(self.running[name], completed=event.progress.share, description=text)
        elif event.kind == "elsewhere":
            self.bars.remove_task(self.running.pop(name))
            if name not in self.elsewhere:
                self.elsewhere.add(name)
                self.say(f"{name}: another run is at it; asked for again later")
        elif event.record is not None:
            self.bars.remove_task(self.running.pop(name))
            self.bars.advance(self.overall)
            self.done += 1
            self.say(f"[{self.done}/{self.total}] {name}: {self._outcome(event)}")

    def _outcome(self, event: Event) -> str:
        assert event.record is not None
        seconds = time.monotonic() - self.began[event.cell.name]
        if event.record.status != "ok":
            return f"{event.record.status}: {event.record.error} ({seconds:.0f} s)"
        metric = find_rules(event.cell.task.protocol).headline
        pcc = np.mean([getattr(scores, metric) for scores in load_scores(event.cell.folder)])
        return f"{metric} {pcc:.3f} ({seconds:.0f} s)"

    def _plain(self, line: str) -> None:
        if not self.console.is_terminal:
            self.say(line)

    @override
    def table(self, board: Board, path: Path, picture: Path | None) -> None:
        plan = board.plan
        table = Table(title=f"{plan.stem}: {plan.title}{by_headline(plan)}", title_justify="left")
        heads = ("model", "pcc_gene", "95 %", "rank", "over shuffled", "MSE", "MAE", "skill", "pcc_bin")
        rows = [_row_cells(row, mark=f" {MARK}" if board.marked(row) else "") for row in board.rows]
        shown, lines = headline_first(plan, heads, rows)
        for number, head in enumerate(shown):
            table.add_column(head, justify="left" if number == 0 else "right", no_wrap=True)
        for line in lines:
            table.add_row(*line)
        self.console.print(table)
        if note := ridge_note(board):
            self.say(note)
        for row in board.rows:
            for reason in row.failed:
                self.say(f"{row.model}: {reason}")
        self.say(f"table: {path}")
        if picture:
            self.say(f"map:   {picture}")


def _row_cells(row: Row, mark: str) -> tuple[str, ...]:
    name = row.model + mark if row.kind in ("model", "variant") else f"{row.model} ({row.kind})"
    if row.pcc is None:
        return (name, "failed", *["–"] * 7)
    over = signed(row.over_shuffled.value) if row.over_shuffled else "–"
    s = row.scores
    numbers = (f"{s['mse']:.3f}", f"{s['mae']:.3f}", signed(s["mse_skill"]), f"{s['pcc_bin']:.3f}")
    rank, _ = standing_cells(row)
    return (name, f"{row.pcc.value:.3f}", limits(row.pcc), rank, over, *numbers)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
