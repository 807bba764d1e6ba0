"""Independent calls in several processes, given up at once when one fails or the user stops them."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from hdstbench.errors import DataError


def run_all(function: Callable[..., Any], calls: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """Call a function once for each named tuple of arguments; yields names as they are done.

    Raises:
        Exception: The first that a call raises; the other calls are ended, after their `finally`.
        DataError: If the system killed a process, as it does when memory runs out.
    """
    workers = max(1, min(len(calls), os.cpu_count() or 1))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_when_told)
    try:
        jobs = {pool.submit(_call, function, arguments): name for name, arguments in calls.items()}
        for job in as_completed(jobs):
            job.result()
            yield jobs[job]
    except BrokenProcessPool as error:
        _end(pool)
        msg = f"a process at work on {', '.join(calls)} was killed, likely for memory; free some, try again"
        raise DataError(msg) from error
    except BaseException:
        _end(pool)
        raise
    pool.shutdown()


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        function(*arguments)
    except SystemExit:  # told to leave: the pool would catch it and go on with the next call
        os._exit(1)


def _leave_when_told() -> None:
    """Let a call that is ended from outside run its `finally`, so that it leaves nothing half-made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())


def _end(pool: ProcessPoolExecutor) -> None:
    running = list((pool._processes or {}).values())  # shutdown() forgets them
    pool.shutdown(wait=False, cancel_futures=True)
    for process in running:
        process.terminate()
    for process in running:
        process.join()
