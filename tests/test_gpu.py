"""On a GPU models compute what they compute on a CPU; these tests need one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted

from hdstbench.arrays import FloatArray
from hdstbench.plugins.plugin import Precision, RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.sweep.device import set_policy

TRAINED = ("st-net", "egn", "his-to-gene", "bleep", "his2st", "triplex", "magnet", "magnet-gene-pcc")
FROZEN = ("ridge", "ridge-levels", "knn", "stain", "shuffled-ridge")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def _predict(
    name: str,
    planted: list[Planted],
    folder: Path,
    device: str,
    precision: Precision = "fp32",
    *,
    deterministic: bool = False,
) -> FloatArray:
    set_policy(device, precision, deterministic=deterministic)
    plugin = load_model(name)
    model = plugin.build(plugin.recipes["tiny"])
    context = RunContext(seed=0, scratch=folder, cache=folder, device=device, precision=precision)
    model.fit([planted[0].slide], [planted[1].slide], context)
    return model.predict(planted[2].slide.hidden())


def _alike(a: FloatArray, b: FloatArray) -> float:
    """Correlation of the planted gene's predictions."""
    return float(np.corrcoef(a[:, 0], b[:, 0])[0, 1])


@needs_gpu
@pytest.mark.parametrize("name", FROZEN)
def test_controls_give_the_same_on_a_gpu(name: str, planted: list[Planted], tmp_path: Path) -> None:
    on_cpu = _predict(name, planted, tmp_path / "cpu", "cpu")

    on_gpu = _predict(name, planted, tmp_path / "cuda", "cuda")

    assert np.abs(on_cpu - on_gpu).max() < 1e-3 * max(1.0, float(np.abs(on_cpu).max()))


@needs_gpu
@pytest.mark.parametrize("name", TRAINED)
def test_training_on_a_gpu_goes_where_it_goes_on_a_cpu(
    name: str, planted: list[Planted], tmp_path: Path
) -> None:
    on_cpu = _predict(name, planted, tmp_path / "cpu", "cpu")

    on_gpu = _predict(name, planted, tmp_path / "cuda", "cuda")

    scale = float(np.sqrt(np.mean((on_cpu - on_cpu.mean(axis=0)) ** 2)))
    assert np.isfinite(on_gpu).all()
    assert float(np.sqrt(np.mean((on_cpu - on_gpu) ** 2))) < 0.5 * scale or _alike(on_cpu, on_gpu) > 0.8


@needs_gpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("name", TRAINED)
def test_coarser_precision_is_finite_and_alike(
    name: str, precision: Precision, planted: list[Planted], tmp_path: Path
) -> None:
    exact = _predict(name, planted, tmp_path / "fp32", "cuda")

    coarse = _predict(name, planted, tmp_path / precision, "cuda", precision)

    assert np.isfinite(coarse).all()
    assert _alike(exact, coarse) > 0.7


@needs_gpu
@pytest.mark.parametrize("name", TRAINED)
def test_deterministic_gives_the_same_bits_twice(name: str, planted: list[Planted], tmp_path: Path) -> None:
    first, second = (
        _predict(name, planted, tmp_path / str(i), "cuda", "bf16", deterministic=True) for i in range(2)
    )

    assert first.tobytes() == second.tobytes()
