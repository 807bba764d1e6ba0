"""Read the reference tensors of the authors' own modules, made from any seed."""

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

OUTPUT, LOSS, GRADIENT = 1e-5, 1e-5, 1e-3
"""Absolute for outputs, relative for losses, of the tensor's largest entry for gradients."""


def parity_folder() -> Path:
    """Where the reference tensors lie."""
    default = Path(__file__).parents[3] / "shared" / "parity"
    return Path(os.environ.get("HDSTBENCH_PARITY_DIR", default))


@dataclass(frozen=True)
class Reference:
    """Tensors by path, and what is no tensor."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors under a path, by the rest of their names."""
        start = prefix + "/"
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


def load_reference(model: str) -> Reference:
    """Read one model's file, or skip the test where there are none."""
    path = parity_folder() / f"{model}.safetensors"
    if not path.is_file():
        pytest.skip(f"no reference tensors at {path}; set HDSTBENCH_PARITY_DIR")
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        given = file.metadata() or {}
    facts = json.loads(given["json"]) if "json" in given else {k: _value(v) for k, v in given.items()}
    return Reference(tensors, facts)


def _value(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text)
    except ValueError:
        return text


def recipe() -> ModuleType:
    """The module that makes weights and inputs from names, shapes and a seed."""
    spec = importlib.util.spec_from_file_location("recipe", parity_folder() / "recipe.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_output(found: Tensor, wanted: Tensor) -> None:
    """Outputs agree to 1e-5 absolute."""
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.detach().numpy(), wanted.numpy(), rtol=0, atol=OUTPUT)


def assert_loss(found: Tensor, wanted: Tensor | float) -> None:
    """Losses agree to 1e-5 relative."""
    np.testing.assert_allclose(float(found.detach()), float(wanted), rtol=LOSS)


def assert_gradients(net: nn.Module, wanted: dict[str, Tensor]) -> None:
    """Gradients, by our names, agree to 1e-3 of each tensor's largest entry; no other has any."""
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        error = (found[name] - gradient).abs().max()
        assert error <= GRADIENT * gradient.abs().max() + torch.finfo(torch.float32).tiny, name


def cut_patches(image: Tensor, centres: Tensor, radius: int) -> Tensor:
    """Squares of 2 radius pixels around (x, y), [H, W, 3] and [N, 2] -> [N, 3, S, S]."""
    squares = [
        image[y - radius : y + radius, x - radius : x + radius] for x, y in centres.to(torch.int64).tolist()
    ]
    return torch.stack(squares).permute(0, 3, 1, 2)
