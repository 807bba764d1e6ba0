"""Import timm where the torchvision wheel does not fit a CPU-only torch.

The torchvision wheel of the package index is built for CUDA. Beside a CPU build of torch its
operators are missing and `import torchvision` fails, and with it `import timm`. Declaring the two
operators that it looks up is enough, for no encoder uses them.
"""

import importlib
import sys
from types import ModuleType

import torch

_kept: list[torch.library.Library] = []
_OPERATORS = ("nms", "qnms")
SIGNATURE = "Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_timm() -> ModuleType:
    """Return timm, declaring torchvision's operators first if they are missing."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare()
    return importlib.import_module("timm")


def _declare() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        library.define(f"{name}({SIGNATURE}")  # type: ignore[no-untyped-call]
    _kept.append(library)  # the declarations live as long as this object
    importlib.import_module("torchvision")
