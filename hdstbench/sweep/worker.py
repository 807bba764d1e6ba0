"""A worker process: runs cells one after the other, tells how they go, and may be killed."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from hdstbench.pool import end_with_parent

if TYPE_CHECKING:  # heavy: a worker is started before the command that it works for has imported them
    from hdstbench.plugins.plugin import Progress
    from hdstbench.records import Record
    from hdstbench.sweep.cell import Cell

PATIENCE_S = 5.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without it, products on a GPU may differ from run to run; it costs 32 MB of its memory."""


@dataclass(slots=True)
class Worker:
    """One process and what it is doing.

    Attributes:
        cell: The cell that it runs, if any.
        deadline: When the cell is overdue, on the monotonic clock.
    """

    process: BaseProcess
    pipe: "Connection[Cell | None, Progress | Record | None]"
    cell: "Cell | None" = None
    deadline: float = float("inf")

    def stop(self) -> None:
        """End the process, by force if it is busy."""
        if self.cell is None and self.process.is_alive():
            self.pipe.send(None)
            self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
        self.process.join(PATIENCE_S)
        self.pipe.close()

    def drop(self) -> None:
        """End the process at once, whatever it does, if that has not been done."""
        self.process.kill()
        self.process.join(PATIENCE_S)
        self.pipe.close()


def start_worker(models: Sequence[str] = ()) -> Worker:
    """Start a process that waits for cells.

    It computes with one CPU thread: sums are then added in the same order on any machine, so that
    results are the same bits however many cores there are. Several workers use several cores.

    Args:
        models: What its cells will likely be of, names or `all`: it imports that while it waits.
    """
    resource_tracker.ensure_running()  # it would let Ctrl-C through to the first process that is started
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, tuple(models)), daemon=True)
    before = {name: os.environ.get(name) for name in (*THREADS, *CUBLAS)}
    os.environ.update({**dict.fromkeys(THREADS, "1"), **CUBLAS})  # read when the child imports its libraries
    try:
        with _deaf():
            process.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    theirs.close()
    return Worker(process, ours)


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold Ctrl-C back, which a process that is started meanwhile goes on to do: the main one stops it.

    It is not lost: what comes meanwhile is delivered at the end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: "Connection[Progress | Record | None, Cell | None]", models: Sequence[str]) -> None:
    end_with_parent(signal.SIGKILL)
    try:
        from hdstbench.sweep.cell import run_cell  # noqa: PLC0415 - not in the process that starts this one
        from hdstbench.sweep.memory import limit_memory  # noqa: PLC0415

        _import_ahead(models)
        while (cell := pipe.recv()) is not None:
            if cell.record.device == "cpu":  # a GPU's driver maps more than there is
                limit_memory(cell.memory_mb)
            try:
                record: Record | None = run_cell(cell, _reporter(pipe))
            except OSError as error:  # the cell's folder cannot be written
                record = replace(cell.record, status="failed", error=f"{cell.folder}: {error}")
            pipe.send(record)
    except (EOFError, KeyboardInterrupt, BrokenPipeError, _Alone):
        return  # the main process is gone or stops everything


def _import_ahead(models: Sequence[str]) -> None:
    """Import models, and timm if any of them needs torch: seconds that the first cell then does not take.

    Other packages' models are left to their cells, which may fail. What goes wrong here goes wrong again in
    a cell, which tells of it.
    """
    from hdstbench.plugins.registry import OWN, found, load_model, origin  # noqa: PLC0415

    with suppress(Exception):
        for name, point in found().items():
            if (name in models or "all" in models) and origin(point).split(" ")[0] == OWN:
                load_model(name)
        if "torch" in sys.modules:
            from hdstbench.torchkit.compat import import_timm  # noqa: PLC0415

            import_timm()


class _Alone(BaseException):
    """Nobody listens any more; a model's own `except Exception` must not keep the cell going."""


def _reporter(pipe: "Connection[Progress | Record | None, Cell | None]") -> "Callable[[Progress], None]":
    lock = threading.Lock()  # features may be computed in a thread of their own

    def report(progress: "Progress") -> None:
        try:
            with lock:
                pipe.send(progress)
        except BrokenPipeError as error:
            raise _Alone from error

    return report
