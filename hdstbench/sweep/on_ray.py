"""Run cells as tasks of a Ray cluster: the same cell function, on whichever node has room."""

import dataclasses
import logging
import socket
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hdstbench.errors import DataError
from hdstbench.records import Record, Status
from hdstbench.sweep.cell import Cell
from hdstbench.sweep.local import Event, record_failure
from hdstbench.sweep.parcel import pack, unpack
from hdstbench.sweep.queue import Queue
from hdstbench.sweep.remote import Answer, run_parcels, run_shared
from hdstbench.sweep.store import note
from hdstbench.sweep.worker import CUBLAS, THREADS

TICK_S = 0.5
KNOCK_S = 10.0
TRIES = 3
"""How often a cell is begun whose node or process died."""

Data = Literal["shared", "store"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where and how.

    Attributes:
        address: "auto" for the cluster that this machine is part of, HOST:PORT, or "local" to start one here.
        data: "shared" if all nodes see the same files; "store" to send slides and results through Ray.
        memory_mb: Host memory that a cell reserves; 0 for none.
        at_once: At most so many cells at a time; 0 for as many as there is room for.
    """

    address: str = "auto"
    data: Data = "shared"
    memory_mb: float = 0.0
    at_once: int = 0


def connect(cluster: Cluster) -> Any:  # noqa: ANN401 - the module, which is optional
    """Join a cluster.

    Raises:
        DataError: If Ray is not installed, or nobody answers.
    """
    try:
        import ray  # noqa: PLC0415 - optional and slow
    except ImportError as error:
        msg = "--executor ray needs Ray; install it with: pip install 'hdstbench[ray]'"
        raise DataError(msg) from error
    address = None if cluster.address == "local" else cluster.address
    try:
        _knock(cluster.address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (OSError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        msg = f"no Ray cluster at {cluster.address} ({why}); start one with: ray start --head"
        raise DataError(msg) from error
    return ray


def _knock(address: str) -> None:
    """See whether anybody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def device_of(cluster: Cluster) -> Literal["cpu", "cuda"]:
    """What the cluster's nodes compute on: a GPU if any has one."""
    return "cuda" if connect(cluster).cluster_resources().get("GPU", 0) else "cpu"


def run_on_ray(cells: Iterable[Cell], cluster: Cluster, timeout_s: float = 0.0) -> Generator[Event]:
    """Run cells and yield what happens; what still runs is cancelled when the iterator is closed.

    A cell whose node or process dies is begun again elsewhere, up to three times; then it is recorded as
    failed, as is one that takes longer than `timeout_s`.
    """
    crew = _Crew(connect(cluster), cluster, timeout_s)
    queue = Queue(cells)
    try:
        while len(queue) or crew.flying:
            while not (cluster.at_once and len(crew.flying) >= cluster.at_once) and (cell := queue.next()):
                crew.send(cell)
                yield Event(kind="started", cell=cell)
            yield from crew.listen(queue)
    finally:
        crew.cancel()


@dataclass(slots=True)
class _Flight:
    """A cell that was sent, how often, and since when it runs, if it does."""

    cell: Cell
    ref: Any
    tries: int
    since: float | None = None


class _Crew:
    """Cells that were sent to the cluster."""

    def __init__(self, ray: Any, cluster: Cluster, timeout_s: float) -> None:  # noqa: ANN401
        from ray.util.queue import Queue as Mail  # noqa: PLC0415 - optional and slow
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.ray, self.cluster, self.timeout_s = ray, cluster, timeout_s
        self.mail = Mail(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.flying: dict[int, _Flight] = {}
        self.sent = 0
        self.stored: dict[Path, Any] = {}

    def send(self, cell: Cell, tries: int = 1) -> None:
        """Begin a cell somewhere."""
        gpus = 1 if cell.record.device == "cuda" else 0
        work = run_shared if self.cluster.data == "shared" else run_parcels
        task = self.ray.remote(work).options(
            num_cpus=1,
            num_gpus=gpus,
            memory=int(self.cluster.memory_mb * 2**20) or None,
            max_retries=0,
            runtime_env={"env_vars": {**dict.fromkeys(THREADS, "1"), **CUBLAS}},
        )
        there = dataclasses.replace(cell, folder=cell.folder.absolute())
        parcels = {} if work is run_shared else self._parcels(cell)
        words = [] if work is run_shared else [tuple(parcels), *parcels.values()]
        self.flying[self.sent] = _Flight(cell, task.remote(self.sent, there, self.mail, *words), tries)
        self.sent += 1

    def _parcels(self, cell: Cell) -> dict[str, Any]:
        """Slides and weights of a cell, each once in the object store."""
        places = {f"slide {name}": folder for name, folder in cell.folders.items()}
        files = {"weights": cell.weights, "encoder weights": cell.encoder_weights}
        places |= {name: path for name, path in files.items() if path is not None}
        for place in places.values():
            if place not in self.stored:
                self.stored[place] = self.ray.put(pack(place))
        return {name: self.stored[place] for name, place in places.items()}

    def listen(self, queue: Queue) -> Iterator[Event]:
        """Yield what cells tell within a tick, what has become of them, and which are overdue."""
        refs = {flight.ref: number for number, flight in self.flying.items()}
        if not refs:
            time.sleep(TICK_S)
            return
        done, _ = self.ray.wait(list(refs), num_returns=1, timeout=TICK_S)
        for number, progress in self.mail.get_nowait_batch(self.mail.qsize()):
            if number in self.flying:
                flight = self.flying[number]
                flight.since = flight.since or time.monotonic()
                yield Event(kind="progress", cell=flight.cell, progress=progress)
        for ref in done:
            yield from self._land(refs[ref], queue)
        yield from self._overdue()

    def _land(self, number: int, queue: Queue) -> Iterator[Event]:
        flight = self.flying.pop(number)
        errors = self.ray.exceptions
        try:
            answer: Answer = self.ray.get(flight.ref)
        except errors.OutOfMemoryError as error:
            yield self._failed(flight, "oom", error)
        except errors.RayTaskError as error:  # the folder cannot be written, say
            yield self._failed(flight, "failed", error.cause or error)
        except errors.RayError as error:
            if flight.tries < TRIES:
                self.send(flight.cell, flight.tries + 1)
            else:
                yield self._failed(flight, "failed", error)
        else:
            yield self._landed(flight.cell, answer, queue)

    def _landed(self, cell: Cell, answer: Answer, queue: Queue) -> Event:
        if answer.record is None:
            queue.later(cell)
            return Event(kind="elsewhere", cell=cell)
        if answer.files is not None:
            cell.folder.parent.mkdir(parents=True, exist_ok=True)
            unpack(answer.files[1], cell.folder)
            note(cell.run, cell.folder, answer.record)
        return Event(kind="done", cell=cell, record=answer.record)

    def _failed(self, flight: _Flight, status: Status, error: Exception) -> Event:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        return Event(kind="done", cell=flight.cell, record=_recorded(flight.cell, status, text))

    def _overdue(self) -> Iterator[Event]:
        for number, flight in list(self.flying.items()):
            if self.timeout_s and flight.since and time.monotonic() - flight.since > self.timeout_s:
                self.ray.cancel(flight.ref, force=True)
                del self.flying[number]
                record = _recorded(flight.cell, "timeout", "took longer than the time limit")
                yield Event(kind="done", cell=flight.cell, record=record)

    def cancel(self) -> None:
        """Stop what still runs."""
        for flight in self.flying.values():
            self.ray.cancel(flight.ref, force=True)
        self.mail.shutdown(force=True)


def _recorded(cell: Cell, status: Status, error: str) -> Record:
    record = dataclasses.replace(cell.record, status=status, error=error)
    record_failure(cell, record)
    return record
