"""A file on its way: `<name>.part`, held by one process, with the checksums of what is in it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from hdstbench.data.card import RemoteFile
from hdstbench.data.checksums import Sums
from hdstbench.errors import DataError

CHUNK = 2**20
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
"""Errors of disks that know no locks; two fetches at once are then not noticed."""

Watch = Callable[[int], None]


class Part:
    """The growing file; `size` and `sums` are those of what is in it."""

    def __init__(self, target: Path, file: BinaryIO, remote: RemoteFile) -> None:
        self.path, self.target = part_path(target), target
        self.size, self.sums = 0, Sums(remote)
        self._file, self._remote = file, remote
        self._tag = self.path.with_name(f"{self.path.name}.tag")

    def resume(self, tag: str, size: int, watch: Watch) -> None:
        """Take what an earlier run left, or start anew if that is of another state of the file.

        Args:
            tag: By which the server knows the file's state; may be empty.
            size: Of the whole file; 0 if unknown.
            watch: Called with the bytes that were looked at.
        """
        there = self.path.stat().st_size
        before = self._tag.read_text(encoding="utf-8") if self._tag.is_file() else ""
        if (size and there > size) or (before and tag and before != tag):
            self.restart()
        else:
            for piece in pieces(self.path):
                self._count(piece)
                watch(self.size)
        if tag:
            self._tag.write_text(tag, encoding="utf-8")

    def write(self, piece: bytes) -> None:
        """Append."""
        self._file.write(piece)
        self._count(piece)

    def restart(self) -> None:
        """Forget everything."""
        self._file.flush()
        self._file.truncate(0)
        self.size, self.sums = 0, Sums(self._remote)

    def finish(self, path: Path) -> None:
        """Give the whole file its name, at once and on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.path.replace(path)
        self._tag.unlink(missing_ok=True)

    def leave(self) -> None:
        """Leave nothing where nothing came."""
        if self.path.is_file() and not self.path.stat().st_size:
            self.path.unlink()
            self._tag.unlink(missing_ok=True)

    def _count(self, piece: bytes) -> None:
        self.sums.update(piece)
        self.size += len(piece)


def part_path(target: Path) -> Path:
    """Where a file is while it is on its way."""
    return target.with_name(f"{target.name}.part")


def pieces(path: Path) -> Iterator[bytes]:
    """Read a file piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


@contextlib.contextmanager
def open_part(target: Path, remote: RemoteFile) -> Iterator[Part]:
    """Open the part of a file, for this process alone.

    Raises:
        DataError: If another process is at work on it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = part_path(target)
    with path.open("ab") as file:
        _claim(path, file)
        part = Part(target, file, remote)
        try:
            yield part
        finally:
            with contextlib.suppress(OSError):  # a full disk was reported by whoever wrote
                file.flush()
            part.leave()


def _claim(path: Path, file: BinaryIO) -> None:
    taken = False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        taken = True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    here = os.fstat(file.fileno())
    if taken or not path.exists() or not os.path.samestat(here, path.stat()):  # or it was renamed just now
        msg = f"{path} is being fetched by another process; wait for it, or end it"
        raise DataError(msg)
