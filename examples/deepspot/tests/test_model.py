"""The model keeps hdstbench's contract, and the network is a function of sets."""

from pathlib import Path

import pytest
import torch
from hdstbench.plugins.checks import Check, Trial, checks, name_of, run_check

from hdstbench_deepspot import PLUGIN
from hdstbench_deepspot.network import DeepSet


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(PLUGIN, Path(tmp_path_factory.mktemp("trial")))


@pytest.mark.parametrize("check", checks(), ids=name_of)
def test_the_model_keeps_the_contract(check: Check, trial: Trial) -> None:
    outcome = run_check(check, trial)

    assert outcome.ok, outcome.says


def test_the_order_of_a_set_does_not_matter_and_what_is_not_there_neither() -> None:
    torch.manual_seed(0)
    net = DeepSet(features=5, genes=3, width=8, members=3, dropout=0.5).eval()
    tile, inside, around = torch.randn(4, 5), torch.randn(4, 9, 5), torch.randn(4, 9, 5)
    there = torch.rand(4, 9) > 0.4
    out = net(tile, inside, around, there)

    mixed = torch.randperm(9)
    other = torch.where(there[:, :, None], around, torch.full_like(around, 7.0))

    torch.testing.assert_close(net(tile, inside[:, mixed], around[:, mixed], there[:, mixed]), out)
    torch.testing.assert_close(net(tile, inside, other, there), out)
    assert not torch.allclose(net(tile, inside, around.flip(0), there), out)
