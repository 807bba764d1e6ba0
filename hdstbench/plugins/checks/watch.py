"""Where code writes: an audit hook that hears which files this process opens, renames or removes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MADE = {"os.remove": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1}
"""Events in which a file appears or goes, and which of their arguments is its path."""
SYSTEM = ("/dev", "/proc")


class _Ear:
    """One hook for the life of the process, since hooks cannot be removed; deaf unless asked to hear."""

    def __init__(self) -> None:
        self.heard: set[Path] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[object, ...]) -> None:
        if self.heard is None:
            return
        if event == "open" and isinstance(args[2], int) and args[2] & WRITING:
            self._note(args[0])
        elif event in MADE:
            self._note(args[MADE[event]])

    def _note(self, name: object) -> None:
        if self.heard is not None and isinstance(name, str | bytes | os.PathLike):
            self.heard.add(Path(os.path.abspath(os.fsdecode(name))))  # noqa: PTH100 - no link is followed


@cache
def _ear() -> _Ear:
    return _Ear()


@contextmanager
def written() -> Iterator[set[Path]]:
    """Gather the files that Python code writes meanwhile; byte code and devices are left out.

    What compiled code writes without Python's `open` is not heard.
    """
    ear, paths = _ear(), set[Path]()
    before, ear.heard = ear.heard, set()
    try:
        yield paths
    finally:
        paths |= {path for path in ear.heard if not _is_usual(path)}
        ear.heard = before


def _is_usual(path: Path) -> bool:
    """Whether an import or a device explains it."""
    return "__pycache__" in path.parts or any(path.is_relative_to(folder) for folder in SYSTEM)
