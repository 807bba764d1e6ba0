"""MagNet's parts: the paper's loss, attention that matters, graphs that stay within a block."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from scipy import stats

from hdstbench.plugins.plugin import RunContext
from hdstbench.torchkit.batch import BatchLabels
from hdstbench_magnet import PLUGIN
from hdstbench_magnet.config import LossWeights, MagNetConfig
from hdstbench_magnet.loss import correlation_loss, magnet_loss
from hdstbench_magnet.model import MagNet
from hdstbench_magnet.network import MagNetwork

TINY: MagNetConfig = PLUGIN.recipes["tiny"]
GENES, WIDTH = 5, 12


def test_the_correlation_loss_is_one_minus_pearson_over_genes() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7, 30))

    loss = correlation_loss(torch.from_numpy(a), torch.from_numpy(b))

    wanted = 1 - np.mean([stats.pearsonr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert float(loss) == pytest.approx(wanted, abs=1e-9)


def test_a_constant_row_counts_as_no_correlation() -> None:
    assert float(correlation_loss(torch.ones(3, 4), torch.randn(3, 4))) == pytest.approx(1.0)


def test_the_loss_is_that_of_equations_3_to_5() -> None:
    rng = np.random.default_rng(1)
    units, spots = rng.normal(size=(2, 8, 20)), rng.normal(size=(2, 3, 20))
    region = rng.normal(size=(2, 1, 20))
    parent = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    valid = np.array([True, False, True])

    def pcc(a: np.ndarray, b: np.ndarray) -> float:
        return 1 - float(np.mean([stats.pearsonr(x, y).statistic for x, y in zip(a, b, strict=True)]))

    wanted = np.mean((units[0] - units[1]) ** 2) + 0.8 * pcc(*units)
    wanted += 0.25 * pcc(spots[0][valid], spots[1][valid]) + 0.25 * pcc(*region)
    wanted += 0.25 * (
        0.1 * pcc(units[0], spots[0][parent]) + 0.1 * pcc(units[0], np.repeat(region[0], 8, axis=0))
    )

    t = torch.from_numpy
    loss = magnet_loss(
        {"unit": t(units[0]), "spot": t(spots[0]), "region": t(region[0])},
        {"spot": t(parent), "region": torch.zeros(8, dtype=torch.long)},
        BatchLabels(
            target=t(units[1]),
            coarse={"spot": (t(spots[1]), t(valid)), "region": (t(region[1]), torch.tensor([True]))},
        ),
        LossWeights(),
    )

    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def _network(**change: object) -> MagNetwork:
    torch.manual_seed(0)
    config = replace(TINY, **change)
    net = MagNetwork(("unit", "spot", "region"), WIDTH, GENES, config).eval()
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
    query = net.levels["unit"].project(inputs["unit"])
    keys = net.levels["spot"].project(inputs["keys"]["spot"])[inputs["parent"]["spot"]]

    _, weights = net.attend["spot"].attention(query[:, None], keys, keys)

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

    magnet_loss(net(**inputs), inputs["parent"], labels, LossWeights()).backward()  # type: ignore[arg-type]

    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert all("region" in name and ".att_" in name for name in still), still  # a region has no neighbour


def test_native_spots_have_no_other_level(tmp_path: Path) -> None:
    net = MagNetwork(("unit",), WIDTH, GENES, TINY).eval()

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
