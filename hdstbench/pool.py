"""Independent calls in several processes, given up at once when one fails or the user stops them."""

import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from hdstbench.errors import DataError

PR_SET_PDEATHSIG = 1
ASKED, PATIENCE_S = 4, 5.0
"""How often a process is asked to leave, and how long it may then clean up, before it is killed."""


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


class _Worker:
    """A process of the pool, and how it takes being told to leave."""

    def __init__(self) -> None:
        self.calling = False
        self.last = -math.inf

    def leave(self, *_: object) -> None:
        """Run the `finally` of a call that is under way, so that it leaves nothing half-made.

        Told again soon, it goes on to clean up; told again late, the first time was lost. Between calls it
        leaves at once: an exception there could be raised in the middle of an import.
        """
        if not self.calling:
            os._exit(1)
        again, self.last = time.monotonic() - self.last < 0.8 * PATIENCE_S, time.monotonic()
        if not again:
            sys.exit()


_WORKER = _Worker()


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _WORKER.calling = True
    try:
        function(*arguments)
    except SystemExit:  # told to leave: the pool would catch it and go on with the next call
        os._exit(1)
    finally:
        _WORKER.calling = False


def _leave_when_told() -> None:
    signal.signal(signal.SIGTERM, _WORKER.leave)
    end_with_parent(signal.SIGTERM)


def end_with_parent(sent: signal.Signals) -> None:
    """Have the system send a signal to this process when its parent ends, even if that was killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, sent)


def _end(pool: ProcessPoolExecutor) -> None:
    running = list((pool._processes or {}).values())  # shutdown() forgets them
    pool.shutdown(wait=False, cancel_futures=True)
    for _ in range(ASKED):  # a signal that comes while a generator is closed is lost
        for process in running:
            process.terminate()
        deadline = time.monotonic() + PATIENCE_S
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
        if not any(process.is_alive() for process in running):
            return
    for process in running:
        process.kill()
