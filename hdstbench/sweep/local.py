"""Run cells on this machine with a few long-lived worker processes."""

import dataclasses
import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Literal

from hdstbench.plugins.plugin import Progress
from hdstbench.records import Record, Status
from hdstbench.sweep.cell import Cell, finish, part_of
from hdstbench.sweep.claim import claim
from hdstbench.sweep.memory import peak_host_mb
from hdstbench.sweep.queue import Queue
from hdstbench.sweep.worker import Worker, start_worker

TICK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a cell; "elsewhere" if another run is at it."""

    kind: Literal["started", "progress", "elsewhere", "done"]
    cell: Cell
    progress: Progress | None = None
    record: Record | None = None


def run_cells(
    cells: Iterable[Cell], workers: int, timeout_s: float = 0.0, started: Worker | None = None
) -> Generator[Event]:
    """Run cells and yield what happens; workers are stopped when the iterator is closed.

    A worker that dies, or whose cell takes longer than `timeout_s`, is replaced; its cell is
    recorded as failed and the others go on. A cell that another run is at is asked for again later. A
    worker that was `started` before is the first.
    """
    queue = Queue(cells)
    crew = [started if started and not i else start_worker() for i in range(min(workers, len(queue)))]
    try:
        while len(queue) or any(worker.cell for worker in crew):
            for number, worker in enumerate(crew):
                if worker.cell is None and (cell := queue.next()) is not None:
                    crew[number] = _alive(worker)
                    yield _give(crew[number], cell, timeout_s)
            yield from _listen(crew, queue)
    finally:
        for worker in crew:
            worker.stop()


def _alive(worker: Worker) -> Worker:
    if worker.process.is_alive():
        return worker
    worker.stop()
    return start_worker()


def _give(worker: Worker, cell: Cell, timeout_s: float) -> Event:
    worker.cell = cell
    worker.deadline = time.monotonic() + timeout_s if timeout_s else float("inf")
    worker.pipe.send(cell)
    return Event(kind="started", cell=cell)


def _listen(crew: list[Worker], queue: Queue) -> Iterator[Event]:
    """Yield what busy workers say within a tick, and what became of silent ones."""
    busy = {worker.pipe: worker for worker in crew if worker.cell}
    if not busy:
        time.sleep(TICK_S)
        return
    heard = wait(list(busy), timeout=TICK_S)
    for pipe, worker in busy.items():
        cell = worker.cell
        assert cell is not None
        if pipe in heard:
            yield _hear(worker, cell, queue)
        if worker.cell and time.monotonic() > worker.deadline:  # however much it chats
            yield _give_up(worker, cell, "timeout", "took longer than the time limit")


def _hear(worker: Worker, cell: Cell, queue: Queue) -> Event:
    try:
        said = worker.pipe.recv()
    except (EOFError, ConnectionError):
        worker.process.join(1)
        return _give_up(worker, cell, "failed", f"the worker died (exit code {worker.process.exitcode})")
    if isinstance(said, Progress):
        return Event(kind="progress", cell=cell, progress=said)
    worker.cell = None
    if said is None:
        queue.later(cell)
        return Event(kind="elsewhere", cell=cell)
    return Event(kind="done", cell=cell, record=said)


def _give_up(worker: Worker, cell: Cell, status: Status, error: str) -> Event:
    """End a worker and write the record that it could not."""
    memory = peak_host_mb(worker.process.pid)
    worker.stop()
    worker.cell = None
    record = dataclasses.replace(cell.record, status=status, error=error, peak_host_mb=memory)
    record_failure(cell, record)
    return Event(kind="done", cell=cell, record=record)


def record_failure(cell: Cell, record: Record) -> None:
    """Write the record of a cell that could not write its own, unless another run is at it."""
    with claim(cell.folder) as ours:
        if ours:
            part = part_of(cell)
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            finish(cell, part, record)
