"""Make batches beside the device's work, and send arrays to it without waiting."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

T = TypeVar("T")

DEPTH = 3


def ahead(items: Iterator[T], device: str) -> Iterator[T]:
    """Draw items in a thread of its own, a few before they are wanted; on a CPU, as they are wanted.

    Items, their order and errors are those of the iterator. A worker has one thread on a CPU, and keeps
    its numbers that way; on a GPU the thread cuts patches while the device computes.
    """
    if device == "cpu":
        yield from items
        return
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(DEPTH))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc] # it is no end


def send(array: npt.NDArray[np.generic], device: str) -> Tensor:
    """Bring an array to the device: through pinned memory to a GPU, so that nobody waits for the copy."""
    tensor = torch.from_numpy(array)
    return tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
