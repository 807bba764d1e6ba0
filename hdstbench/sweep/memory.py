"""Peak memory of the process, since a moment of one's choice where the system allows it."""

import os
import resource
import sys
from pathlib import Path

PROCESSES, CLEAR = Path("/proc"), Path("/proc/self/clear_refs")

SHARE = 0.9


def reset_peak() -> None:
    """Begin a new peak (Linux; elsewhere the peak is that of the whole process)."""
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return


def peak_host_mb(process: int | None = None) -> float:
    """Largest resident memory since `reset_peak`, in MiB; of another process 0 if unknown."""
    status = PROCESSES / str(process or "self") / "status"
    try:
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    if process:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def limit_memory(limit_mb: float) -> None:
    """Let this process take no more memory than that, in MiB; 0 for nine tenths of the machine's (Linux).

    Where it wants more it gets a MemoryError, instead of the whole machine going down.
    """
    if sys.platform != "linux":
        return
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = int(limit_mb * 2**20) if limit_mb else int(SHARE * whole)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
