"""Who works on a cell: a lock that ends with its owner, however that ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Say whether this process may work on a cell's folder; while it does, no other may.

    The system takes the lock back when the process ends, killed or not. It holds on one machine, and on
    file systems that pass `flock` on to all machines.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_claimed(folder: Path) -> bool:
    """Whether some process works on a cell now."""
    try:
        with _lock(folder).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"
