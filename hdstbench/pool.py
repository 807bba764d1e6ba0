"""Independent calls in several processes, given up at once when one fails or the user stops them."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any


def run_all(function: Callable[..., Any], calls: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """Call a function once for each named tuple of arguments; yields names as they are done.

    Raises:
        Exception: The first that a call raises; calls that have not begun are dropped.
    """
    workers = max(1, min(len(calls), os.cpu_count() or 1))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_when_told)
    try:
        jobs = {pool.submit(function, *arguments): name for name, arguments in calls.items()}
        for job in as_completed(jobs):
            job.result()
            yield jobs[job]
    except BaseException:
        running = list((pool._processes or {}).values())  # shutdown() forgets them
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_when_told() -> None:
    """Let a call that is ended from outside run its `finally`, so that it leaves nothing half-made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
