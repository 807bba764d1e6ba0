"""MagNet's parts: attention that matters, graphs that stay within a block, and every option of both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted

from hdstbench.plugins.plugin import RunContext
from hdstbench.torchkit.batch import BatchLabels
from hdstbench_magnet import PLUGIN
from hdstbench_magnet.config import LossWeights, MagNetConfig
from hdstbench_magnet.graph import edges_of_slide, edges_within
from hdstbench_magnet.loss import magnet_loss
from hdstbench_magnet.model import MagNet
from hdstbench_magnet.network import MagNetwork

TINY: MagNetConfig = PLUGIN.recipes["tiny"]
GENES, WIDTH = 5, TINY.width
COARSE = ("spot", "region")


def _network(**change: object) -> MagNetwork:
    torch.manual_seed(0)
    config = replace(TINY, **change)
    net = MagNetwork([name for name in COARSE if name in config.levels], GENES, config).eval()
    for parameter in net.parameters():  # heads start at zero, which would hide everything behind them
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def _inputs() -> dict[str, object]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    loops = {name: torch.arange(n).repeat(2, 1) for name, n in (("unit", 6), ("spot", 2), ("region", 1))}
    return {
        "unit": draw(6, WIDTH),
        "keys": {"spot": draw(2, 16, WIDTH), "region": draw(1, 16, WIDTH)},
        "parent": {"spot": torch.tensor([0, 0, 0, 1, 1, 1]), "region": torch.zeros(6, dtype=torch.long)},
        "edges": loops,
    }


@pytest.mark.parametrize("fusion", ["concat", "sum"])
@pytest.mark.parametrize("level", ["spot", "region"])
def test_a_unit_hears_its_own_spot_and_region_only(fusion: str, level: str) -> None:
    net, inputs = _network(fusion=fusion), _inputs()
    before = net(**inputs)["unit"]
    inputs["keys"][level][0] *= -1.0  # type: ignore[index]
    after = net(**inputs)["unit"]

    changed = (before - after).abs().amax(dim=1) > 1e-4
    assert changed.tolist() == ([True] * 3 + [False] * 3 if level == "spot" else [True] * 6)


def test_which_key_is_attended_to_depends_on_the_unit() -> None:
    """With one key attention would be a constant; with a map it is not."""
    net, inputs = _network(), _inputs()
    keys = inputs["keys"]["spot"][inputs["parent"]["spot"]]  # type: ignore[index]

    _, weights = net.attend["spot"].attention(inputs["unit"][:, None], keys, keys)  # type: ignore[index]

    assert weights.std(dim=-1).min() > 1e-3
    assert (weights[0] - weights[1]).abs().max() > 1e-3


def test_neighbours_matter_along_edges_and_nowhere_else() -> None:
    net, inputs = _network(), _inputs()
    inputs["edges"]["unit"] = torch.tensor([[0, 1, 2, 3, 4, 5, 1], [0, 1, 2, 3, 4, 5, 0]])  # type: ignore[index]
    before = net(**inputs)["unit"]
    inputs["unit"][1] *= -1.0  # type: ignore[index]
    after = net(**inputs)["unit"]

    changed = (before - after).abs().amax(dim=1) > 1e-4
    assert changed.tolist() == [True, True, False, False, False, False]


def test_heads_start_at_the_training_mean() -> None:
    net = _network()
    mean = torch.arange(GENES, dtype=torch.float32)

    net.set_start(mean)

    for out in net(**_inputs()).values():
        torch.testing.assert_close(out, mean.expand_as(out))


def test_every_parameter_of_every_level_is_trained() -> None:
    net, inputs = _network(), _inputs()
    inputs["edges"]["unit"] = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2], [0, 1, 2, 3, 4, 5, 1, 2, 3]])  # type: ignore[index]
    inputs["edges"]["spot"] = torch.tensor([[0, 1, 0], [0, 1, 1]])  # type: ignore[index]
    labels = BatchLabels(
        target=torch.randn(6, GENES),
        coarse={
            "spot": (torch.randn(2, GENES), torch.ones(2, dtype=torch.bool)),
            "region": (torch.randn(1, GENES), torch.ones(1, dtype=torch.bool)),
        },
    )

    magnet_loss(net(**inputs), inputs["parent"], labels, TINY).backward()  # type: ignore[arg-type]

    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # a region has no neighbour, and where all edges of a node lean one way, what is added to all is nothing
    assert all(("region" in name and ".att_" in name) or ".att_dst" in name for name in still), still


def test_native_spots_have_no_other_level() -> None:
    net = MagNetwork((), GENES, TINY).eval()

    out = net(torch.randn(3, WIDTH), {}, {}, {"unit": torch.arange(3).repeat(2, 1)})

    assert set(out) == {"unit"}
    assert out["unit"].shape == (3, GENES)


def test_blocks_of_a_batch_do_not_hear_each_other(planted: list[Planted], tmp_path: Path) -> None:
    slide = planted[0].slide
    model = MagNet(replace(TINY, batch_size=64, epochs=1))
    model.fit([slide], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "cache"))

    alone = model.predict(slide.hidden())
    model.config = replace(model.config, batch_size=1024)
    together = model.predict(slide.hidden())

    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_frozen_levels_are_cached_and_the_unit_encoder_is_trained(
    planted: list[Planted], tmp_path: Path
) -> None:
    slide = planted[0].slide
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "cache")

    trained = MagNet(replace(TINY, epochs=1))
    trained.fit([slide], [], context)
    frozen = MagNet(replace(TINY, epochs=1, train_encoder=False))
    frozen.fit([slide], [], context)

    assert trained.net.encoder is not None
    assert frozen.net.encoder is None
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3  # spot, region, and the frozen units


def test_the_official_recipe_is_the_papers() -> None:
    config: MagNetConfig = PLUGIN.recipes["official"]

    assert (config.encoder, config.train_encoder) == ("resnet50", True)
    assert (config.optimiser, config.momentum, config.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (config.learning_rate, config.schedule, config.batch_size) == (1e-4, "cosine", 256)
    assert config.neighbours == 8
    assert config.loss == LossWeights(
        unit=0.8, spot=0.25, region=0.25, with_spot=0.1, with_region=0.1, prediction=1.0, consistency=0.25
    )


@pytest.mark.parametrize(
    "change",
    [
        {"fusion": "sum"},
        {"graph_attention": "mean"},
        {"graph_attention": "off"},
        {"rounds": "parallel"},
        {"round_zero": False},
        {"cross_level_tokens": True},
        {"share_head": True},
        {"tokens": "mixed"},
        {"graph_depth": 2},
        {"depth": 2},
    ],
    ids=str,
)
def test_every_option_changes_the_network(change: dict[str, object]) -> None:
    inputs = _inputs()
    inputs["edges"]["unit"] = torch.tensor([[0, 1, 2, 3, 4, 5, 1], [0, 1, 2, 3, 4, 5, 0]])  # type: ignore[index]

    net, other = _network(), _network(**change)
    same = {k: v for k, v in net.state_dict().items() if k in other.state_dict()}
    same = {k: v for k, v in same.items() if v.shape == other.state_dict()[k].shape}
    other.load_state_dict(same, strict=False)  # so that nothing but the option differs
    plain, changed = net(**inputs), other(**inputs)

    assert plain.keys() == changed.keys()
    for name, out in plain.items():
        assert changed[name].shape == out.shape
        assert torch.isfinite(changed[name]).all()
    assert (plain["unit"] - changed["unit"]).abs().max() > 1e-3


@pytest.mark.parametrize("levels", [(), ("spot",), ("region",)])
def test_a_level_may_be_left_out(levels: tuple[str, ...]) -> None:
    net, inputs = _network(levels=levels), _inputs()
    before = net(**inputs)
    for name in COARSE:
        inputs["keys"][name] *= -1.0  # type: ignore[index]

    after = net(**inputs)

    assert set(before) == {"unit", *levels}
    assert bool((before["unit"] - after["unit"]).abs().max() > 1e-4) == bool(levels)


def test_of_one_key_nothing_can_be_chosen() -> None:
    """The literal reading: attention over one key is an affine map, whatever the query."""
    net, inputs = _network(), _inputs()
    one = inputs["keys"]["spot"][:1, :1].expand(6, 1, WIDTH)  # type: ignore[index]

    heard = net.attend["spot"](inputs["unit"], one)

    torch.testing.assert_close(heard, heard[:1].expand_as(heard))


def test_spot_and_region_nodes_reach_the_units_transformer_where_the_figure_has_it() -> None:
    net, inputs = _network(cross_level_tokens=True, levels=("spot",)), _inputs()
    nodes = {"unit": inputs["unit"], "spot": inputs["keys"]["spot"].mean(dim=1)}  # type: ignore[union-attr,index]

    before = net.predict(nodes, inputs["parent"], inputs["edges"])["unit"]  # type: ignore[arg-type]
    nodes["spot"][0] *= -1.0
    after = net.predict(nodes, inputs["parent"], inputs["edges"])["unit"]  # type: ignore[arg-type]

    changed = (before - after).abs().amax(dim=1) > 1e-4
    assert changed.tolist() == [True] * 3 + [False] * 3


def test_mixed_tokens_beside_those_of_other_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="cross_level_tokens = false"):
        replace(TINY, tokens="mixed", cross_level_tokens=True)


def test_edges_stay_within_a_block_and_loops_are_an_option() -> None:
    grid = np.argwhere(np.ones((4, 4)))
    block = np.repeat([0, 1], 8)

    edges = edges_within(grid, block, 3, loops=True).numpy()

    assert (block[edges[0]] == block[edges[1]]).all()
    assert np.bincount(edges[1]).tolist() == [4] * 16
    assert (edges[0] == edges[1]).sum() == 16
    without = edges_within(grid, block, 3, loops=False).numpy()
    assert (without[0] != without[1]).all()
    assert without.shape == (2, 48)


def test_edges_of_a_slide_go_both_ways_once() -> None:
    grid = np.argwhere(np.ones((5, 5)))

    edges = edges_of_slide(grid, 3, loops=False).numpy()

    pairs = set(map(tuple, edges.T.tolist()))
    assert len(pairs) == edges.shape[1]
    assert pairs == {(b, a) for a, b in pairs}
    assert np.bincount(edges[1], minlength=25).min() >= 3


@pytest.mark.parametrize("seed", range(5))
def test_edges_of_a_large_slide_follow_the_same_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = np.argwhere(rng.random((14, 17)) < rng.uniform(0.2, 1.0))
    one_way = edges_within(grid, np.zeros(len(grid), np.int64), 8, loops=False).numpy()

    both_ways = edges_of_slide(grid, 8, loops=False).numpy()

    wanted = set(map(tuple, np.concatenate([one_way, one_way[::-1]], axis=1).T.tolist()))
    assert set(map(tuple, both_ways.T.tolist())) == wanted


@pytest.mark.parametrize("nodes", [0, 1, 2])
def test_few_nodes_are_connected_as_far_as_there_are_some(nodes: int) -> None:
    grid = np.arange(2 * nodes).reshape(nodes, 2)

    edges = edges_within(grid, np.zeros(nodes, np.int64), 8, loops=False)

    assert edges.shape == (2, nodes * (nodes - 1))


def test_computing_activations_again_changes_nothing_that_is_learnt(
    planted: list[Planted], tmp_path: Path
) -> None:
    slide = planted[0].slide.take(planted[0].slide.blocks()[0])
    config = replace(TINY, encoder="resnet18", epochs=1, learning_rate=1e-4, dropout=0.0)
    out = []
    for again in (False, True):
        model = MagNet(replace(config, checkpoint=again))
        model.fit([slide], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "cache"))
        out.append(model.predict(slide.hidden()))

    np.testing.assert_allclose(*out, atol=1e-5)
