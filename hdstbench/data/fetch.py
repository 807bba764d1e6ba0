"""Fetch planned files: ask for sizes, check the disk, download, verify, record."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich.filesize import decimal

from hdstbench.data.checksums import CHECKSUMS, Known, Sums, load_checksums, record
from hdstbench.data.download import Client, Patience, Remote
from hdstbench.data.part import Part, open_part, pieces
from hdstbench.data.wanted import Wanted
from hdstbench.errors import DataError

SPARE_BYTES = 256 * 2**20
PATIENCE = Patience()

Stage = Literal["asking", "checking", "fetching", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What happens to a file.

    Attributes:
        path: Its path below the data folder.
        stage: What is done with it.
        done: Bytes that are there or were looked at.
        total: Bytes of the whole file; 0 if unknown.
        note: What a user should know, such as why an attempt failed; mostly empty.
    """

    path: str
    stage: Stage
    done: int = 0
    total: int = 0
    note: str = ""


Report = Callable[[Progress], None]


def ask_sizes(wanted: Sequence[Wanted], report: Report, *, patience: Patience = PATIENCE) -> list[Wanted]:
    """Ask the servers how big the files are that are not there yet.

    Returns:
        The same files with sizes, exact where the server says them.

    Raises:
        HdstError: If a file is not on its server, or has another size than the card says.
    """
    with closing(Client(patience)) as client:
        return [one if one.state == "there" else _ask(client, one, report) for one in wanted]


def fetch(wanted: Sequence[Wanted], root: Path, report: Report, *, patience: Patience = PATIENCE) -> None:
    """Have planned files in place: what is there of a file is kept, and goes on where it stopped.

    A file gets its name when it is whole and its checksum is what was published; where none was, its
    sha256 is recorded in `checksums.json`, and later fetches have to give the same.

    Args:
        wanted: What `plan_fetch` gave.
        root: The data folder.
        report: Called with what happens.
        patience: When to give up.

    Raises:
        HdstError: If sizes or checksums are wrong, the disk is too small, another process fetches the
            same file, or a server fails too often.
    """
    missing = [one for one in wanted if one.state != "there"]
    sized = ask_sizes(missing, report, patience=patience)
    _check_disk(root, sized)
    with closing(Client(patience)) as client:
        for one in sized:
            try:
                _fetch_one(client, one, root, report)
            except OSError as error:
                where = error.filename or one.target
                msg = (
                    f"cannot write {where} ({error.strerror}); what came is kept: mend that, and fetch again"
                )
                raise DataError(msg) from error


def verify(wanted: Sequence[Wanted], root: Path, report: Report) -> None:
    """Compare files that are there with published checksums or with those that were recorded.

    What has neither is recorded.

    Raises:
        DataError: If files differ; names each.
    """
    problems = []
    for one in wanted:
        if one.state != "there":
            continue
        sums, done = Sums(one.file), 0
        for piece in pieces(one.target):
            sums.update(piece)
            done += len(piece)
            report(Progress(path=one.file.path, stage="checking", done=done, total=one.size))
        known = load_checksums(root).get(one.file.path)
        if problem := sums.problem(known):
            problems.append(f"{one.target}: {problem}")
        else:
            _close(one, root, known, sums, report)
    if problems:
        msg = f"{'; '.join(problems)}; remove what is wrong, and `hdstbench data fetch` gets it again"
        raise DataError(msg)


def _ask(client: Client, one: Wanted, report: Report) -> Wanted:
    def tell(note: str) -> None:
        report(Progress(path=one.file.path, stage="asking", note=note))

    tell("")
    remote = client.ask(one.url, tell)
    if remote.size and one.exact and remote.size != one.size:
        source = "the card" if one.file.bytes else CHECKSUMS
        msg = (
            f"{one.url}: the server says {remote.size:,} bytes, {source} {one.size:,}; the file was "
            "replaced, or the address is wrong"
        )
        raise DataError(msg)
    exact = one.exact or remote.size > 0
    return replace(one, size=remote.size or one.size, exact=exact, tag=remote.tag)


def free_bytes(folder: Path) -> int:
    """Free space of the disk that a folder is or will be on."""
    return shutil.disk_usage(next(p for p in (folder, *folder.absolute().parents) if p.exists())).free


def _check_disk(root: Path, wanted: Sequence[Wanted]) -> None:
    need = sum(max(0, one.size - one.have) for one in wanted)
    free = free_bytes(root)
    if need and need + SPARE_BYTES > free:
        msg = (
            f"the disk of {root} has {decimal(free)} free, the files to come need {decimal(need)} and "
            f"{decimal(SPARE_BYTES)} to spare; free space, choose files with --only, or set HDSTBENCH_DATA "
            "to another disk"
        )
        raise DataError(msg)


def _fetch_one(client: Client, one: Wanted, root: Path, report: Report) -> None:
    with open_part(one.target, one.file) as part:
        if one.target.is_file():  # another process was first
            report(Progress(path=one.file.path, stage="whole", done=one.size, total=one.size))
            return
        _fill(client, one, part, report)
        known = load_checksums(root).get(one.file.path)
        wrong = one.target.with_name(f"{one.target.name}.wrong")
        if problem := part.sums.problem(known):
            part.finish(wrong)
            msg = f"{one.url}: {problem}; it is kept as {wrong}, and the same command gets it anew"
            raise DataError(msg)
        part.finish(one.target)
        wrong.unlink(missing_ok=True)
        _close(one, root, known, part.sums, report)


def _fill(client: Client, one: Wanted, part: Part, report: Report) -> None:
    size = one.size if one.exact else 0

    def checking(done: int) -> None:
        report(Progress(path=one.file.path, stage="checking", done=done, total=size))

    def fetching(done: int, note: str = "") -> None:
        report(Progress(path=one.file.path, stage="fetching", done=done, total=size, note=note))

    part.resume(one.tag, size, checking)
    fetching(part.size, f"goes on at {decimal(part.size)}" if part.size else "")
    client.get(
        one.url,
        Remote(size, one.tag),
        part,
        watch=fetching,
        tell=lambda note: fetching(part.size, note),
    )


def _close(one: Wanted, root: Path, known: Known | None, sums: Sums, report: Report) -> None:
    """Record a file that is whole."""
    size = one.target.stat().st_size
    if known is None or known.sha256 != sums.sha256:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record(root, one.file.path, Known(size=size, sha256=sums.sha256, url=one.url, fetched=now))
    note = sums.verdict(known)
    report(Progress(path=one.file.path, stage="whole", done=size, total=size, note=note))
