"""Checksums of fetched files: taken while they pass, published by a card, or recorded on first use."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hdstbench.data.card import RemoteFile
from hdstbench.errors import DataError
from hdstbench.strict import build

CHECKSUMS = "checksums.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was recorded of a file when it was fetched first.

    Attributes:
        size: In bytes.
        sha256: Of the whole file.
        url: Where it came from.
        fetched: When, in UTC.
    """

    size: int
    sha256: str
    url: str
    fetched: str


class Sums:
    """The checksums of a file, fed with it piece by piece; md5 only if one was published."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        self._sha256.update(piece)
        if self._file.md5:
            self._md5.update(piece)

    @property
    def sha256(self) -> str:
        """Of everything so far."""
        return self._sha256.hexdigest()

    def problem(self, known: Known | None) -> str:
        """Say which checksum is not what was published or, where none was, recorded; empty if all are."""
        file = self._file
        pairs = (("sha256", file.sha256, self.sha256), ("md5", file.md5, self._md5.hexdigest()))
        for name, wanted, found in pairs:
            if wanted and wanted.lower() != found:
                return f"its {name} is {found}, published is {wanted}"
        if known and not (file.sha256 or file.md5) and known.sha256 != self.sha256:
            return (
                f"its sha256 is {self.sha256}, but {known.sha256} was recorded when it was fetched on "
                f"{known.fetched}; if it was replaced on purpose, delete its entry in {CHECKSUMS}"
            )
        return ""

    def verdict(self, known: Known | None) -> str:
        """Say what a file without a problem was compared with."""
        if self._file.sha256 or self._file.md5:
            return "as published"
        return "as recorded" if known else "sha256 recorded"


def load_checksums(root: Path) -> dict[str, Known]:
    """Read what was recorded below a data folder, by relative path.

    Raises:
        DataError: If the record is not readable.
    """
    path = root / CHECKSUMS
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {name: build(Known, entry, f"{path}: {name}") for name, entry in table.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError) as error:
        msg = f"{path} is damaged ({error}); delete it, and checksums are recorded anew"
        raise DataError(msg) from error


def record(root: Path, name: str, known: Known) -> None:
    """Add or replace one entry; other processes may do the same at the same time."""
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        table = {key: asdict(value) for key, value in load_checksums(root).items()}
        table[name] = asdict(known)
        part = root / f"{CHECKSUMS}.part{os.getpid()}"
        part.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(root / CHECKSUMS)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder, as far as its disk knows locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
