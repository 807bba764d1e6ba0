"""What runs on a node of a Ray cluster: one cell, as a local worker would run it."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from hdstbench.data.card import cache_root
from hdstbench.plugins.plugin import Progress
from hdstbench.records import Record
from hdstbench.sweep.cell import Cell, run_cell
from hdstbench.sweep.memory import limit_memory
from hdstbench.sweep.parcel import Parcel, pack, unpack_once

SHOWN_S = 1.0
"""Progress is told at most once in so many seconds."""
WAIT_S = 0.2
STARTED = Progress(share=0.0, stage="started")


class Mailbox(Protocol):
    """A queue on the driver's node."""

    def put_nowait(self, item: tuple[int, Progress]) -> None:
        """Leave a message."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A cell's record, None if another run is at it; its folder's files where none are shared."""

    record: Record | None
    files: Parcel | None = None


def run_shared(number: int, cell: Cell, mailbox: Mailbox) -> Answer:
    """Run a cell whose paths mean the same here as on the driver's machine."""
    mailbox.put_nowait((number, STARTED))
    _limit(cell)
    return Answer(run_cell(cell, _reporter(number, mailbox)))


def run_parcels(
    number: int, cell: Cell, mailbox: Mailbox, names: tuple[str, ...], *parcels: Parcel
) -> Answer:
    """Run a cell with its slides and weights out of the object store, and send its folder back."""
    mailbox.put_nowait((number, STARTED))
    _limit(cell)
    places = {name: _unpacked(parcel) for name, parcel in zip(names, parcels, strict=True)}
    with tempfile.TemporaryDirectory(prefix="hdstbench-") as folder:
        here = dataclasses.replace(
            cell,
            folders={name: places[f"slide {name}"] for name in cell.folders},
            weights=_file(places, "weights"),
            encoder_weights=_file(places, "encoder weights"),
            cache=cache_root() / "features",
            folder=Path(folder) / cell.folder.relative_to(cell.run),
        )
        record = run_cell(here, _reporter(number, mailbox))
        return Answer(record, pack(here.folder))


def _limit(cell: Cell) -> None:
    if cell.record.device == "cpu":
        limit_memory(cell.memory_mb)


def _file(places: Mapping[str, Path], name: str) -> Path | None:
    return next(places[name].iterdir()) if name in places else None


def _unpacked(parcel: Parcel) -> Path:
    while True:
        try:
            return unpack_once(parcel, cache_root() / "parcels")
        except FileNotFoundError:  # another cell on this node is at it
            time.sleep(WAIT_S)


def _reporter(number: int, mailbox: Mailbox) -> Callable[[Progress], None]:
    told = [0.0]

    def report(progress: Progress) -> None:
        now = time.monotonic()
        if now - told[0] >= SHOWN_S:
            told[0] = now
            mailbox.put_nowait((number, progress))

    return report
