"""Peak memory of the process, since a moment of one's choice where the system allows it."""

import resource
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
