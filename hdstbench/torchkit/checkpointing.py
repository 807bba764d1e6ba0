"""Gradient checkpointing: a network's forward pass is repeated in the backward pass instead of being kept."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from hdstbench.errors import DataError


def set_checkpointing(net: nn.Module, name: str, *, enable: bool) -> list[RemovableHandle]:
    """Let a network of timm repeat its forward pass, or keep it again.

    Gradients, outputs and running statistics of batch normalisation are what they are without: the
    repeated pass sees the same batch a second time and must not count it twice.

    Returns:
        Hooks to remove before the next call.

    Raises:
        DataError: If the network cannot.
    """
    try:
        net.set_grad_checkpointing(enable)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError) as error:
        msg = f"encoder {name} has no gradient checkpointing; train it without, or in smaller batches"
        raise DataError(msg) from error
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)] if enable else []
    handles = []
    for norm in norms:
        hold = _Hold()
        handles.append(norm.register_forward_pre_hook(hold.before))
        # the repeated pass is stopped by an exception as soon as it has what it needs
        handles.append(norm.register_forward_hook(hold.after, always_call=True))
    return handles


def _repeated() -> bool:
    """Say whether this forward pass runs within a backward pass, as checkpointing's repeated ones do."""
    return torch._C._current_graph_task_id() != -1  # torch.utils.checkpoint asks the same


class _Hold:
    """Keeps a batch normalisation's running statistics as they are during a repeated forward pass."""

    def __init__(self) -> None:
        self.held = False
        self.momentum: float | None = None

    def before(self, norm: nn.Module, _: Any) -> None:  # noqa: ANN401 - torch's hook
        if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats and _repeated():
            self.held, self.momentum, norm.momentum = True, norm.momentum, 0.0

    def after(self, norm: nn.Module, *_: Any) -> None:  # noqa: ANN401 - torch's hook
        if self.held and isinstance(norm, _BatchNorm):
            self.held, norm.momentum = False, self.momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1
