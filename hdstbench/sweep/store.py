"""The cells of a run's folder: found by walking it, or by the index that is kept beside them.

<run>/index.jsonl                                 a line a finished cell, newest last
<run>/<dataset>/<res>/<model>/fold0-seed0-<key8>  the cells; they are the truth, the index only a copy
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hdstbench.records import Record, load_record
from hdstbench.sweep.durable import append

INDEX = "index.jsonl"
CELL = re.compile(r"fold(\d+)-seed(-?\d+)-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished cell.

    Attributes:
        folder: Relative to the run's.
        finished: When, UTC.
    """

    folder: str
    key: str
    model: str
    fold: int
    seed: int
    status: str
    error: str
    finished: str
    seconds: float


def entry_of(run: Path, folder: Path, record: Record) -> Entry:
    """What the index holds of a cell."""
    return Entry(
        folder=str(folder.relative_to(run)),
        key=record.key,
        model=record.model,
        fold=record.fold,
        seed=record.seed,
        status=record.status,
        error=record.error,
        finished=record.finished,
        seconds=record.seconds.get("total", 0.0),
    )


def note(run: Path, folder: Path, record: Record) -> None:
    """Add a cell that has just finished to its run's index."""
    append(run / INDEX, json.dumps(asdict(entry_of(run, folder, record)), sort_keys=True))


def load_index(run: Path) -> dict[str, Entry]:
    """Newest entry of each folder; made from the folders where there is no index."""
    path = run / INDEX
    if not path.is_file():
        return rebuild(run)
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = _parse(line)
        if entry is not None:
            found[entry.folder] = entry
    return {name: entry for name, entry in found.items() if (run / name / "record.json").is_file()}


def _parse(line: str) -> Entry | None:
    """An entry; None of a line that a dying process cut short, or that is none."""
    try:
        values = json.loads(line)
        return Entry(**{f.name: values[f.name] for f in fields(Entry)})
    except (ValueError, KeyError, TypeError):
        return None


def rebuild(run: Path) -> dict[str, Entry]:
    """Write the index anew from the cells' folders, aside and renamed."""
    found = [entry_of(run, folder, load_record(folder)) for folder in cells_in(run)]
    found.sort(key=lambda entry: (entry.finished, entry.folder))
    part = run / f"{INDEX}.part"
    text = "".join(json.dumps(asdict(entry), sort_keys=True) + "\n" for entry in found)
    part.write_text(text, encoding="utf-8")
    part.rename(run / INDEX)
    return {entry.folder: entry for entry in found}


def cells_in(run: Path) -> Iterator[Path]:
    """Folders of whole cells."""
    for record in sorted(run.glob("*/*/*/fold*/record.json")):
        if CELL.fullmatch(record.parent.name):
            yield record.parent


def others(folder: Path) -> list[Path]:
    """Folders of the same model, fold and seed under other keys: stale results, oldest first."""
    found = CELL.fullmatch(folder.name)
    if found is None or not folder.parent.is_dir():
        return []
    like = f"fold{found[1]}-seed{found[2]}-*"
    whole = [p for p in folder.parent.glob(like) if p != folder and CELL.fullmatch(p.name)]
    ready = [p for p in whole if (p / "record.json").is_file()]
    return sorted(ready, key=lambda p: ((p / "record.json").stat().st_mtime_ns, p.name))


def with_older(folders: Iterable[Path]) -> int:
    """How many of some cells have stale results beside them; each folder of a model is listed once."""
    wanted: dict[Path, set[str]] = {}
    for folder in folders:
        wanted.setdefault(folder.parent, set()).add(folder.name)
    return sum(_older(parent, names) for parent, names in wanted.items())


def _older(parent: Path, names: set[str]) -> int:
    there = {p.name for p in parent.iterdir()} - names if parent.is_dir() else set()
    stems = {name.rpartition("-")[0] for name in there if CELL.fullmatch(name)}
    return sum(name.rpartition("-")[0] in stems for name in names)
