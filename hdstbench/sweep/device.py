"""The worker's device; torch is imported only where a model has done so or a GPU is asked for."""

import importlib.util
import os
import sys
from typing import Literal

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import Precision


def reset_device_peak(device: str) -> None:
    """Start a new peak of device memory."""
    if device == "cuda":
        import torch  # noqa: PLC0415 - in a worker with a GPU only

        torch.cuda.reset_peak_memory_stats()


def peak_device_mb(device: str) -> float:
    """Largest memory that tensors took on the accelerator, in MiB; 0 on a CPU."""
    if device != "cuda":
        return 0.0
    return round(float(sys.modules["torch"].cuda.max_memory_allocated()) / 2**20, 1)


def set_policy(device: str, precision: Precision, *, deterministic: bool) -> None:
    """Say how a GPU multiplies: in full precision for fp32, in TF32 otherwise.

    With `deterministic`, only operations that give the same bits every time are used; one that has no
    such form fails, and says so.
    """
    if device == "cpu":
        return
    import torch  # noqa: PLC0415 - in a worker with a GPU only

    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.use_deterministic_algorithms(deterministic)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a model ran out of memory, on host or device."""
    named = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # torch's
    return isinstance(error, MemoryError) or named


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """Turn "auto" into what is there.

    Raises:
        DataError: If a GPU is asked for and torch sees none.
    """
    if wanted == "cpu" or (wanted == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch  # noqa: PLC0415 - asked about a GPU

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        msg = f"--device cuda: torch {torch.__version__} sees no GPU; use --device cpu"
        raise DataError(msg)
    return "cpu"


def _may_have_gpu() -> bool:
    """Look for a driver, which is cheaper than to import torch."""
    if importlib.util.find_spec("torch") is None:
        return False
    return os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg") or sys.platform == "win32"  # noqa: PTH110


def describe() -> str:
    """Version of torch and the accelerator that it sees."""
    import torch  # noqa: PLC0415 - slow

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU; models run on the CPU"
    return f"torch {torch.__version__}: {device}"
