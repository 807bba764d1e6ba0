"""Encoders, features, batches, graphs and the training loop."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.spatial import cKDTree
from sklearn.datasets import load_sample_image

from hdstbench.errors import DataError, MissingError
from hdstbench.plugins.plugin import RunContext
from hdstbench.plugins.weights import OFFLINE, find_weights
from hdstbench.torchkit import features as features_module
from hdstbench.torchkit.batch import block_batches, to_tensor, turn, unit_batches
from hdstbench.torchkit.compat import import_timm
from hdstbench.torchkit.encoders import make_encoder, read_weights
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench.torchkit.graph import SMALL, _of_all_pairs, nearest_edges


def test_timm_can_be_imported_beside_any_torch() -> None:
    assert import_timm().__version__


@pytest.fixture(scope="module")
def offline() -> Path:
    path = find_weights(OFFLINE, "pretrained").path
    assert path is not None
    return path


def test_the_packaged_weights_recognise_a_daisy(offline: Path) -> None:
    """The only real picture at hand with a known ImageNet class: scikit-learn's flower."""
    encoder = make_encoder(OFFLINE, offline).eval()
    head = torch.load(offline, weights_only=True)
    flower = load_sample_image("flower.jpg")[:, 106:533]
    patch = to_tensor(np.ascontiguousarray(flower)[None], "cpu", 224)

    with torch.inference_mode():
        logits = encoder(patch) @ head["_fc.weight"].T + head["_fc.bias"]

    assert int(logits.argmax()) == 985  # daisy


@pytest.mark.parametrize("name", [OFFLINE, "resnet18", "densenet-small", "tiny"])
def test_encoders_give_the_width_they_say_at_any_size(name: str) -> None:
    encoder = make_encoder(name, None).eval()

    for size in (56, 112):
        patches = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
        with torch.inference_mode():
            assert encoder(patches).shape == (2, encoder.width)
            assert encoder.grid(patches, 4).shape == (2, 16, encoder.width)


def test_weights_load_from_both_kinds_of_file(tmp_path: Path) -> None:
    made = make_encoder("resnet18", None)
    state = {**made.net.state_dict(), "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    save_file(state, tmp_path / "w.safetensors")

    for name in ("w.pth", "w.safetensors"):
        loaded = make_encoder("resnet18", tmp_path / name)
        for key, value in made.net.state_dict().items():
            assert torch.equal(loaded.net.state_dict()[key], value)


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Path("x")))

    with pytest.raises(DataError, match="no weights file that can be read safely"):
        read_weights(tmp_path / "w.pth")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "w.safetensors")

    with pytest.raises(DataError, match=r"does not fit resnet18: \d+ tensors missing"):
        make_encoder("resnet18", tmp_path / "w.safetensors")


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(DataError, match="no encoder 'resnot'"):
        make_encoder("resnot", None)


def test_missing_weights_are_named_with_the_place_for_them() -> None:
    with pytest.raises(
        MissingError, match=r"weights of resnet50 are not there; put them at .*resnet50.safetensors"
    ):
        find_weights("resnet50", "pretrained")
    with pytest.raises(MissingError, match="no such file"):
        find_weights("resnet50", "none.pth")


@given(st.integers(0, 7))
def test_a_symmetry_moves_pixels_and_changes_none(symmetry: int) -> None:
    patch = torch.arange(2 * 3 * 16, dtype=torch.int64).reshape(2, 3, 4, 4)

    moved = turn(patch, torch.tensor([symmetry, 0]))

    assert torch.equal(moved[1], patch[1])
    assert torch.equal(moved[0].sort().values.flatten().sort().values, patch[0].flatten().sort().values)


def test_the_eight_symmetries_differ() -> None:
    patch = torch.arange(9).reshape(1, 1, 3, 3).expand(8, 1, 3, 3)

    moved = turn(patch, torch.arange(8))

    assert len({tuple(m.flatten().tolist()) for m in moved}) == 8


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 8))
@settings(max_examples=40)
def test_edges_join_the_nearest_units_and_each_to_itself(rows: int, cols: int, k: int) -> None:
    grid = np.random.default_rng(rows * 10 + cols).permutation(np.argwhere(np.ones((rows, cols))))

    edges = nearest_edges(grid, k)

    near = min(k, len(grid) - 1)
    assert edges.shape == (2, len(grid) * (near + 1))
    distance, _ = cKDTree(grid).query(grid, k=near + 1)
    for unit in range(len(grid)):
        mine = edges[0, edges[1] == unit]
        assert unit in mine
        assert len(set(mine)) == near + 1
        found = np.sort(np.linalg.norm(grid[mine] - grid[unit], axis=1))
        np.testing.assert_allclose(found, np.atleast_1d(distance[unit]))


def test_edges_do_not_depend_on_the_order_of_units() -> None:
    grid = np.argwhere(np.ones((5, 6)))
    order = np.random.default_rng(0).permutation(30)

    def names(edges: np.ndarray, grid: np.ndarray) -> set[tuple[int, ...]]:
        return {(*grid[a], *grid[b]) for a, b in edges.T}

    assert names(nearest_edges(grid, 7), grid) == names(nearest_edges(grid[order], 7), grid[order])


@pytest.mark.parametrize(
    "layout", ["full", "holes", "sparse", "hexagonal", "two far apart", "two in one place"]
)
@pytest.mark.parametrize("k", [1, 6, 8, 30])
def test_edges_of_many_units_are_those_of_all_pairs(layout: str, k: int) -> None:
    rng = np.random.default_rng(k)
    full = np.argwhere(np.ones((30, 40))) - [5, 7]
    grid = {
        "full": full,
        "holes": full[rng.random(len(full)) < 0.6],
        "sparse": rng.permutation(np.argwhere(rng.random((300, 300)) < 0.008)),
        "hexagonal": full[full.sum(axis=1) % 2 == 0],
        "two far apart": np.concatenate([full, [[500, 900], [9000, 2]]]),
        "two in one place": np.concatenate([full, full[:2]]),
    }[layout]

    edges = nearest_edges(grid, k)

    assert len(grid) > SMALL
    near = _of_all_pairs(grid, k)
    np.testing.assert_array_equal(edges, [near.ravel(), np.repeat(np.arange(len(grid)), near.shape[1])])


def test_a_single_unit_has_itself() -> None:
    np.testing.assert_array_equal(nearest_edges(np.array([[3, 4]]), 8), [[0], [0]])


def test_batches_hold_every_unit_once(planted: list[Planted]) -> None:
    slide = planted[0].slide

    for batches in (
        unit_batches(slide, 100),
        block_batches(slide, 100),
        block_batches(slide, 100, np.random.default_rng(0)),
    ):
        index = np.concatenate([batch.index for batch in batches])
        np.testing.assert_array_equal(np.sort(index), np.arange(len(slide)))


def test_block_batches_never_cut_a_block(planted: list[Planted]) -> None:
    slide = planted[0].slide

    for batch in block_batches(slide, 100, np.random.default_rng(1)):
        counts = np.unique(slide.block_of[batch.index], return_counts=True)[1]
        assert set(counts) == {64}


def test_features_are_computed_once_and_follow_the_view(
    planted: list[Planted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = planted[0].slide
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "features")
    spec = FeatureSpec(encoder="tiny", level="unit")
    calls = []
    compute = features_module._compute
    monkeypatch.setattr(features_module, "_compute", lambda *a: (calls.append(a), compute(*a)))

    whole = frozen_features([slide], spec, context)[0]
    part = frozen_features([slide.take(np.array([7, 3]))], spec, context)[0]

    assert len(calls) == 1
    np.testing.assert_array_equal(part, whole[[7, 3]])


@pytest.mark.parametrize(
    "change", [{"level": "spot"}, {"input_px": 28}, {"grid": 2}, {"encoder": "resnet18"}]
)
def test_other_features_have_other_names(
    planted: list[Planted], tmp_path: Path, change: dict[str, object]
) -> None:
    slide = planted[2].slide
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "features")
    base: dict[str, object] = {"encoder": "tiny", "level": "unit"}

    frozen_features([slide], FeatureSpec(**base), context)
    frozen_features([slide], FeatureSpec(**{**base, **change}), context)

    assert len(list((tmp_path / "features").glob("*.npy"))) == 2


def test_features_do_not_depend_on_the_batch(
    planted: list[Planted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, spec = planted[2].slide, FeatureSpec(encoder="tiny", level="spot", grid=2)
    one = frozen_features([slide], spec, RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "one"))[0]
    monkeypatch.setattr(features_module, "BATCH_PIXELS", 5 * 28 * 28)

    two = frozen_features([slide], spec, RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "two"))[0]

    np.testing.assert_allclose(one, two, atol=1e-5)


def test_patches_are_resized_without_aliasing() -> None:
    board = np.where(np.indices((1, 64, 64, 3))[1:3].sum(axis=0) % 2, 255, 0).astype(np.uint8)

    small = to_tensor(board, "cpu", 16)

    assert small.dtype == torch.uint8
    assert (small[..., 2:-2, 2:-2].float() - 127.5).abs().max() <= 3
