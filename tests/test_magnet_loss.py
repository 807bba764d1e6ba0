"""MagNet's loss: the paper's equations, the released script's weights, correlation over genes or units."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from hdstbench.torchkit.batch import BatchLabels
from hdstbench_magnet import GENE_PCC, PLUGIN
from hdstbench_magnet.config import CODE_WEIGHTS, MagNetConfig
from hdstbench_magnet.loss import correlation_loss, gene_correlation_loss, magnet_loss

TINY: MagNetConfig = PLUGIN.recipes["tiny"]
UNITS, GENES = 8, 20
PARENT = np.array([0, 0, 0, 1, 1, 2, 2, 2])
VALID = np.array([True, False, True])


def _pcc(a: np.ndarray, b: np.ndarray) -> float:
    """One minus scipy's correlation of each row, meaned."""
    return 1 - float(np.mean([stats.pearsonr(x, y).statistic for x, y in zip(a, b, strict=True)]))


@pytest.fixture
def drawn() -> dict[str, np.ndarray]:
    """Prediction and truth of each level."""
    rng = np.random.default_rng(1)
    return {"unit": rng.normal(size=(2, UNITS, GENES)), "spot": rng.normal(size=(2, 3, GENES))} | {
        "region": rng.normal(size=(2, 1, GENES))
    }


def _loss(drawn: dict[str, np.ndarray], config: MagNetConfig) -> float:
    t = torch.from_numpy
    spots, region = (t(drawn["spot"][1]), t(VALID)), (t(drawn["region"][1]), torch.tensor([True]))
    labels = BatchLabels(target=t(drawn["unit"][1]), coarse={"spot": spots, "region": region})
    predicted = {name: t(pair[0]) for name, pair in drawn.items()}
    parent = {"spot": t(PARENT), "region": torch.zeros(UNITS, dtype=torch.long)}
    return float(magnet_loss(predicted, parent, labels, config))


def test_the_correlation_loss_is_one_minus_pearson_over_genes() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7, 30))

    loss = correlation_loss(torch.from_numpy(a), torch.from_numpy(b))

    assert float(loss) == pytest.approx(_pcc(a, b), abs=1e-9)


def test_the_variant_correlates_over_units() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 30, 7))

    loss = gene_correlation_loss(torch.from_numpy(a), torch.from_numpy(b))

    assert float(loss) == pytest.approx(_pcc(a.T, b.T), abs=1e-9)


def test_one_node_has_no_correlation_over_units_and_pulls_nowhere() -> None:
    one = torch.randn(1, 7, requires_grad=True)

    loss = gene_correlation_loss(one, torch.randn(1, 7))
    loss.backward()  # type: ignore[no-untyped-call]

    assert float(loss.detach()) == pytest.approx(1.0)
    assert one.grad is not None
    assert not one.grad.any()


def test_a_constant_row_counts_as_no_correlation() -> None:
    assert float(correlation_loss(torch.ones(3, 4), torch.randn(3, 4))) == pytest.approx(1.0)


def test_the_loss_is_that_of_equations_3_to_5(drawn: dict[str, np.ndarray]) -> None:
    unit, spot, region = drawn["unit"], drawn["spot"], drawn["region"]

    wanted = np.mean((unit[0] - unit[1]) ** 2) + 0.8 * _pcc(*unit)
    wanted += 0.25 * _pcc(spot[0][VALID], spot[1][VALID]) + 0.25 * _pcc(*region)
    agree = 0.1 * _pcc(unit[0], spot[0][PARENT]) + 0.1 * _pcc(unit[0], np.repeat(region[0], UNITS, axis=0))

    assert _loss(drawn, TINY) == pytest.approx(wanted + 0.25 * agree, rel=1e-5)


def test_the_scripts_loss_holds_coarse_predictions_to_the_units_truth(drawn: dict[str, np.ndarray]) -> None:
    unit, spot, region = drawn["unit"], drawn["spot"], drawn["region"]

    wanted = 0.75 * np.mean((unit[0] - unit[1]) ** 2) + 0.1 * _pcc(*unit)
    wanted += 0.05 * _pcc(spot[0][VALID], spot[1][VALID]) + 0.05 * _pcc(*region)
    around = np.repeat(region[0], UNITS, axis=0)
    wanted += 0.05 * _pcc(unit[1], spot[0][PARENT]) + 0.05 * _pcc(unit[1], around)

    config = replace(TINY, loss=CODE_WEIGHTS, consistency="truth")
    assert _loss(drawn, config) == pytest.approx(wanted, rel=1e-5)


def test_the_variant_changes_every_correlation(drawn: dict[str, np.ndarray]) -> None:
    drawn = {name: 30 * values for name, values in drawn.items()}  # so that no epsilon is seen
    unit, spot, region = drawn["unit"], drawn["spot"], drawn["region"]
    config: MagNetConfig = GENE_PCC.recipes["tiny"]

    wanted = np.mean((unit[0] - unit[1]) ** 2) + 0.8 * _pcc(unit[0].T, unit[1].T)
    wanted += 0.25 * _pcc(spot[0][VALID].T, spot[1][VALID].T) + 0.25  # of one region there is none
    agree = 0.1 * _pcc(unit[0].T, spot[0][PARENT].T) + 0.1

    assert region.shape[1] == 1
    assert _loss(drawn, config) == pytest.approx(wanted + 0.25 * agree, rel=1e-5)
