"""Walk the members of a tar or zip archive in order, however damaged or hostile it is."""

import gzip
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast

from hdstbench.errors import DataError

Kind = Literal["file", "folder", "link", "device or pipe"]
KINDS: dict[int, Kind] = {stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFREG: "file", 0: "file"}
CHUNK = 2**20
MAX_HEADER = 2**20
"""Names and links are shorter than this; a header that claims more would fill the memory."""

DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, struct.error),
    *(EOFError, ValueError, RuntimeError, OverflowError),
)
"""What the standard library raises on damaged archives."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member.

    Attributes:
        name: Below the archive's top, without `.` and `..`.
        kind: What it is.
        size: Bytes that it claims to hold.
        open: Opens its content, before the next member is asked for.
        link: What a link leads to, from the archive's top; may lead out of it.
    """

    name: str
    kind: Kind
    size: int
    open: Callable[[], IO[bytes]]
    link: str = ""


class _Watched:
    """What tarfile reads from; it remembers the last block, which has to be the one that ends archives."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            msg = f"a header claims {size} bytes"
            raise tarfile.ReadError(msg)
        self.last = self.file.read(size)
        return self.last


def members(archive: Path) -> Iterator[Member]:
    """Yield the members of an archive, whose kind is told by its content.

    Raises:
        DataError: If a name leads out of the archive or cannot be one of a file.
        Exception: One of DAMAGE, if the archive is damaged or cut.
    """
    with archive.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        return _zip_members(archive)
    return _tar_members(archive, packed=start[:2] == b"\x1f\x8b")


def _clean(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        msg = f"{archive} holds a member named {name!r}; wanted names below its top; not unpacked"
        raise DataError(msg)
    return str(path)


def _tar_members(archive: Path, *, packed: bool) -> Iterator[Member]:
    with gzip.open(archive) if packed else archive.open("rb") as file:
        watched = _Watched(cast("IO[bytes]", file))
        with tarfile.open(fileobj=cast("IO[bytes]", watched), mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # tarfile keeps them all
                yield _from_tar(archive, tar, info)
        if watched.last != bytes(tarfile.BLOCKSIZE):  # tarfile takes a cut between members for the end
            msg = "it stops before its end"
            raise tarfile.ReadError(msg)
        while rest := file.read(CHUNK):  # to the end, where gzip has its checksum
            if rest.count(0) != len(rest):
                msg = "there is more after its end"
                raise tarfile.ReadError(msg)


def _from_tar(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.size < 0:
        msg = f"a member of {info.size} bytes"
        raise tarfile.ReadError(msg)
    name, link = _clean(archive, info.name), ""
    kind: Kind = "device or pipe"
    if info.isdir():
        kind = "folder"
    elif info.islnk() or info.issym():
        base = posixpath.dirname(name) if info.issym() else ""
        kind, link = "link", posixpath.normpath(posixpath.join(base, info.linkname))
    elif info.isreg():
        kind = "file"
    return Member(name, kind, info.size, lambda: cast("IO[bytes]", tar.extractfile(info)), link)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            _clean(archive, info.orig_filename)  # `filename` is cut at a NUL
            name, kind, link = _clean(archive, info.filename), _zip_kind(info), ""
            if kind == "link":
                with packed.open(info) as file:
                    target = file.read(4096).decode("utf-8", "surrogateescape")
                link = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            yield Member(name, kind, info.file_size, partial(packed.open, info), link)


def _zip_kind(info: zipfile.ZipInfo) -> Kind:
    kind = KINDS.get(stat.S_IFMT(info.external_attr >> 16), "device or pipe")
    return "folder" if info.is_dir() else kind
