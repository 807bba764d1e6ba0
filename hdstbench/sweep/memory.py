"""Peak memory of the process, since a moment of one's choice where the system allows it."""

import os
import resource
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

SHARE = 0.9


def reset_peak() -> None:
    """Begin a new peak (Linux; elsewhere the peak is that of the whole process)."""
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return


def peak_host_mb() -> float:
    """Largest resident memory since `reset_peak`, in MiB."""
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
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
