"""Unpack chosen members of a tar or zip archive safely, holding none of them in memory."""

import os
import posixpath
import shutil
from collections.abc import Callable
from pathlib import Path

from rich.filesize import decimal

from hdstbench.data.members import CHUNK, DAMAGE, Member, members
from hdstbench.errors import DataError, HdstError

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
LIMIT_BYTES = 200 * 10**9
SPARE_BYTES = 256 * 2**20


class _Room:
    """What may still be written."""

    def __init__(self, archive: Path, folder: Path, limit: int) -> None:
        self.archive, self.folder, self.limit = archive, folder, limit
        self.used = 0

    def take(self, size: int) -> None:
        self.used += size
        free = shutil.disk_usage(self.folder).free
        msg = ""
        if self.used > self.limit:
            msg = (
                f"{self.archive} unpacks to {decimal(self.used)} or more, the limit is {decimal(self.limit)}"
            )
        elif size + SPARE_BYTES > free:
            msg = (
                f"{self.archive} unpacks to {decimal(self.used)} or more, {self.folder.parent} has "
                f"{decimal(free)} left; free space or set HDSTBENCH_CACHE to another disk"
            )
        if msg:
            raise DataError(msg)


def unpack(
    archive: Path, into: Path, wanted: Callable[[str], bool], *, limit_bytes: int = LIMIT_BYTES
) -> list[Path]:
    """Unpack the wanted files of a .tar, .tar.gz, .tgz or .zip, told apart by their content.

    A hard or symbolic link is given the content of what it leads to. Where that is not wanted itself,
    the archive is read a second time for it; where it is not in the archive, the link is left out:
    Space Ranger's archives hold each small picture once, with links to it in other folders.

    Args:
        archive: The archive.
        into: A new folder. It is written aside and renamed when whole.
        wanted: Says by a member's name, such as `outs/spatial/a.png`, whether to unpack it.
        limit_bytes: The most that all of them may hold.

    Returns:
        Paths of the unpacked files, sorted.

    Raises:
        DataError: If the archive is damaged, cut or unsafe, or the limit or the disk is too small;
            nothing is then kept.
    """
    if into.exists():
        msg = f"{into} is there already; wanted a new folder to unpack {archive} into"
        raise DataError(msg)
    part = into.with_name(f"{into.name}.part{os.getpid()}")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a killed process that had this one's number
        part.mkdir(parents=True)
        _fill(archive, part, wanted, limit_bytes)
        _publish(part, into)
    except HdstError:
        raise
    except DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:
            raise _damaged(archive, error) from error
        where = f"{error.filename}: " if error.filename else ""
        msg = f"cannot unpack {archive} into {into}: {where}{error.strerror}"
        raise DataError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sorted(path for path in into.rglob("*") if path.is_file())


def _damaged(archive: Path, error: Exception) -> DataError:
    reason = str(error).strip() or type(error).__name__
    return DataError(f"{archive} is no archive, or is damaged or cut short ({reason}); fetch it again")


def _publish(part: Path, into: Path) -> None:
    try:
        part.rename(into)
    except OSError:
        if not into.is_dir():  # else another process was first
            raise


def _fill(archive: Path, part: Path, wanted: Callable[[str], bool], limit: int) -> None:
    room, links = _Room(archive, part, limit), dict[str, str]()
    for member in members(archive):
        if member.kind == "folder" or not wanted(member.name):
            continue
        if member.kind == "link":
            links[member.name] = _inside(archive, member)
        elif member.kind == "file":
            _write(archive, member, part / member.name, room)
        else:
            msg = f"{archive} holds {member.name!r}, which is a {member.kind}; wanted files alone"
            raise DataError(msg)
    _follow(archive, part, links, room)


def _inside(archive: Path, member: Member) -> str:
    if posixpath.isabs(member.link) or member.link.split("/")[0] == "..":
        msg = (
            f"{archive} holds {member.name!r}, a link that leads out of it, to {member.link!r}; not unpacked"
        )
        raise DataError(msg)
    return member.link


def _write(archive: Path, member: Member, path: Path, room: _Room) -> None:
    room.take(member.size)
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    with member.open() as source, path.open("wb") as file:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            file.write(chunk)
    if left:
        more = "more" if left < 0 else "less"
        msg = f"{archive}: {member.name!r} holds {more} than the {member.size:,} bytes it claims"
        raise DataError(msg)


def _follow(archive: Path, part: Path, links: dict[str, str], room: _Room) -> None:
    """Give each link its content; what only links lead to is written under the first one's name."""
    homes: dict[str, str] = {}
    for name, target in links.items():
        if not (part / target).is_file():
            homes.setdefault(target, name)
    lost = set(homes)
    for member in members(archive) if lost else ():
        if member.kind == "file" and member.name in lost:
            _write(archive, member, part / homes[member.name], room)
            lost.remove(member.name)
            if not lost:
                break
    for name, target in links.items():
        source, path = part / homes.get(target, target), part / name
        if source.is_file() and source != path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            _tie(source, path)


def _tie(source: Path, path: Path) -> None:
    try:
        path.hardlink_to(source)
    except OSError:  # some disks know no hard links
        shutil.copyfile(source, path)
