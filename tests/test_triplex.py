"""TRIPLEX's network: its branches are what they say, whatever the order and number of units."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hdstbench.torchkit.encoders import make_encoder
from hdstbench_baselines.triplex_network import SIDE, AroundEncoder, Triplex, triplex_loss
from hdstbench_baselines.triplex_slide import Known, part_for, spread
from hdstbench_baselines.triplex_whole import PositionLayer, Stack, WholeEncoder, find_places

SMALL = Stack(depth=2, heads=2, ratio=1, dropout=0.0)


def _dense(layer: PositionLayer, tokens: Tensor, grid: np.ndarray) -> Tensor:
    """What the layer says it does, with a dense array: kernel rows along its columns."""
    rows, columns = grid.max(axis=0) + 1
    dense, count = torch.zeros(columns, rows, tokens.shape[1]), torch.zeros(columns, rows, 1)
    for token, (row, col) in zip(tokens, grid.tolist(), strict=True):
        dense[col, row] += token
        count[col, row] += 1
    mixed = layer.conv((dense / count.clamp(min=1)).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    return tokens + mixed[grid[:, 1], grid[:, 0]]


@given(seed=st.integers(0, 99), rows=st.integers(1, 6), columns=st.integers(1, 6), units=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_the_position_layer_is_a_convolution_over_the_array(
    seed: int, rows: int, columns: int, units: int
) -> None:
    """Also for one row or column, units that share a cell, and features that are all zero."""
    rng = np.random.default_rng(seed)
    grid = np.stack([rng.integers(rows, size=units), rng.integers(columns, size=units)], axis=1)
    torch.manual_seed(seed)
    layer, tokens = PositionLayer(3), torch.randn(units, 3)
    tokens[0] = 0

    found = layer(tokens, find_places(grid + rng.integers(-9, 9, 2)))

    torch.testing.assert_close(found, _dense(layer, tokens, grid), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("fusion", "whole", "around", "parameters"),
    [
        ((1, 4, 4), (5, 8, 4), (4, 4, 4), 43_206_584),
        ((3, 16, 4), (3, 8, 2), (4, 8, 4), 40_058_184),
        ((2, 8, 4), (2, 16, 1), (4, 16, 1), 27_459_688),
    ],
)
def test_it_has_as_many_parameters_as_the_authors_have(
    fusion: tuple[int, ...], whole: tuple[int, ...], around: tuple[int, ...], parameters: int
) -> None:
    """Counted on the authors' modules, for her2st, stnet and skin."""
    stacks = [Stack(depth=d, heads=h, ratio=r, dropout=0.0) for d, h, r in (fusion, whole, around)]

    net = Triplex(make_encoder("resnet18", None), 512, 512, 250, (stacks[0], stacks[1], stacks[2]))

    assert sum(p.numel() for p in net.parameters()) == parameters


def _known(grid: np.ndarray, keys: int) -> Known:
    chosen = spread(grid, keys)
    return Known(
        features=torch.randn(len(grid), 8),
        places=find_places(grid),
        keys=None if chosen is None else torch.from_numpy(chosen),
        target=None,
        tiles=None,
        near=np.zeros((len(grid), SIDE**2), np.int64),
        inside=np.ones((len(grid), SIDE**2), bool),
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("keys", [5, 60])
def test_what_a_batch_does_not_depend_on_may_stay_out(depth: int, keys: int) -> None:
    """Tokens and gradients of some units are the same from the part of a slide as from all of it."""
    rng = np.random.default_rng(depth)
    torch.manual_seed(depth)
    encoder = WholeEncoder(8, replace(SMALL, depth=depth))
    known, rows = _known(rng.integers(9, size=(60, 2)), keys), torch.tensor([3, 40, 8, 41])
    weight = torch.randn(4, 8)

    found = []
    for part in (False, True):
        features = known.features.clone().requires_grad_()
        if part:
            some = part_for(known, rows, torch.tensor([[7]]), deep=depth > 1)
            tokens = encoder(features[some.units], some.places, some.keys, some.rows)
        else:
            tokens = encoder(features, known.places, known.keys)[rows]
        (tokens * weight).sum().backward()
        found.append((tokens.detach(), features.grad))

    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_a_part_holds_few_units_of_a_large_slide() -> None:
    grid = np.argwhere(np.ones((60, 60), bool))
    known = _known(grid, 10)

    part = part_for(known, torch.tensor([1000, 2000]), None, deep=False)

    assert len(part.units) <= 2 * 9 + 10
    np.testing.assert_array_equal(part.units[part.rows], [1000, 2000])
    np.testing.assert_array_equal(part.units[part.keys], known.keys)


def test_keys_are_spread_over_the_array_whatever_the_order_of_units() -> None:
    grid = np.argwhere(np.ones((30, 30), bool))
    order = np.random.default_rng(0).permutation(900)

    keys, shuffled = spread(grid, 100), spread(grid[order], 100)

    assert spread(grid, 900) is None
    assert keys is not None
    assert shuffled is not None
    np.testing.assert_array_equal(grid[keys], grid[order][shuffled])
    assert len(set(keys.tolist())) == 100
    np.testing.assert_array_equal(np.bincount(grid[keys, 0] // 3), np.full(10, 10))


def test_tiles_outside_the_image_are_not_looked_at() -> None:
    torch.manual_seed(0)
    encoder, tokens = AroundEncoder(8, SMALL), torch.randn(1, 25, 8)
    mask = torch.zeros(1, 1, 1, 25)
    mask[..., :10] = -65504.0
    changed = tokens.clone()
    changed[:, :10] += 1

    with torch.no_grad():
        before, after = encoder(tokens, mask), encoder(changed, mask)

    torch.testing.assert_close(before[:, 10:], after[:, 10:], atol=1e-6, rtol=0)
    assert (before[:, :10] != after[:, :10]).any()


def test_a_detached_fusion_is_not_pulled_by_its_branches() -> None:
    def gradient(*, detach: bool) -> Tensor:
        torch.manual_seed(0)
        net = Triplex(None, 8, 8, 3, (SMALL, SMALL, SMALL))
        whole, inside = torch.randn(2, 8), torch.ones(2, 25, dtype=torch.bool)
        out = net(torch.randn(2, 4, 8), torch.randn(2, 25, 8), inside, whole)
        loss = triplex_loss(out, out.fused.detach(), detach_fusion=detach)
        loss.backward()  # type: ignore[no-untyped-call]
        assert net.head_fused.weight.grad is not None
        return net.head_fused.weight.grad

    assert (gradient(detach=True) == 0).all()
    assert (gradient(detach=False) != 0).any()
