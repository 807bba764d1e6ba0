"""Memory that a forward pass keeps for the backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor


def kept_mb(forward: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Run a forward pass; MiB of the distinct storages that it saves, parameters aside.

    What modules hold anyway (leaves that need a gradient) is not counted.
    """
    sizes: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        if not (saved.is_leaf and saved.requires_grad):
            storage = saved.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        out = forward()
    return out, sum(sizes.values()) / 2**20
