"""Folders that are whole or not there, whatever stops the machine."""

import os
import shutil
from pathlib import Path


def publish(part: Path, folder: Path) -> None:
    """Put a finished folder in its place; what stood there before goes last.

    Files reach the disk before the name does. A process that dies in between leaves the old folder under
    `.old`, where `recover` finds it, or the new one.
    """
    for path in sorted(part.rglob("*")):
        _sync(path)
    _sync(part)
    old = _old(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    part.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Bring back a folder that was moved aside by a process that died before its new one was there."""
    old = _old(folder)
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def append(path: Path, line: str) -> None:
    """Add a line to a file that several processes write: whole lines, at its end, on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(number, line.encode() + b"\n")
        os.fsync(number)
    finally:
        os.close(number)


def _old(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
