"""Hist2ST is the authors' network, with their losses, their graph and their patches."""

import re
from collections.abc import Iterator
from copy import deepcopy
from itertools import combinations_with_replacement, permutations

import numpy as np
import pytest
import torch
from parity.files import (
    OUTPUT,
    Reference,
    assert_gradients,
    assert_loss,
    assert_output,
    cut_patches,
    load_reference,
)
from torch import Tensor, nn

from hdstbench.errors import DataError
from hdstbench.torchkit.batch import SYMMETRIES, turn
from hdstbench_baselines.grid_graph import adjacency
from hdstbench_baselines.his2st_loss import (
    LossWeights,
    Truth,
    Window,
    distilled,
    his2st_loss,
    his2st_terms,
)
from hdstbench_baselines.his2st_network import OFFICIAL, Hist2STNetwork, load_official
from hdstbench_baselines.pixels import x_first
from hdstbench_baselines.zinb import nb_loss, to_dispersion, to_mean, zinb_loss

STATISTICS = 1e-4
NULL = r"mixers\.\d+\.within\.[03]\.bias|trust\.2\.bias"
"""Biases that batch normalisation or a softmax takes out again: their gradient is 0, but for rounding."""
ROUNDING = 1e-8
FIRST_STATISTICS = "mixers.0.within.1.running_var"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("his2st")


@pytest.fixture
def net(reference: Reference) -> Hist2STNetwork:
    return load_official(reference.part("state_dict"), heads=reference.facts["config/heads"])


@pytest.fixture(scope="module")
def window(reference: Reference) -> Window:
    return Window(reference["inputs/patches"][0], reference["inputs/centers"][0], reference["inputs/adj"])


def test_states_outputs_and_counts_are_the_authors(
    reference: Reference, net: Hist2STNetwork, window: Window
) -> None:
    hidden = net.encode(*window)

    assert_output(hidden, reference["hidden"])
    assert_output(net(*window), reference["output"])
    for number, values in enumerate(net.expected_counts(hidden)):
        assert_output(values, reference[f"zinb_mean_disp_pi/{number}"])
    assert net.trust is not None
    assert_output(net.trust(hidden), reference["distillation_coef"])
    assert sum(p.numel() for p in net.parameters()) == reference.facts["n_parameters"]


def test_a_unit_without_neighbours_does_not_spoil_the_others(
    reference: Reference, net: Hist2STNetwork, window: Window
) -> None:
    """The authors' code has NaN in these rows; here all are finite, and connected units stay close."""
    graph = window.neighbours.clone()
    graph[0] = 0

    out = net(*window._replace(neighbours=graph))

    assert len(reference["nan_rows_if_spot_0_has_no_neighbour"]) > 1
    assert torch.isfinite(out).all()


def _copies(patches: Tensor, count: int) -> Iterator[list[Tensor]]:
    """Every choice of `count` symmetries of the square, one for all patches of a copy."""
    turned = [turn(patches, torch.full((len(patches),), s)) for s in range(SYMMETRIES)]
    return (list(chosen) for chosen in combinations_with_replacement(turned, count))


def _train(net: Hist2STNetwork) -> None:
    net.train()
    for part in net.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0


def _likeliest(reference: Reference, net: Hist2STNetwork, window: Window) -> list[Tensor]:
    """The copies that give the stated term of distillation, in the order that gives the statistics.

    The file does not say how its copies were made, but holds what came of them.
    """
    wanted, kept = reference.facts["train_terms/bake_loss"], deepcopy(net.state_dict())
    after = OFFICIAL.rename(reference.part("state_dict_after_step"))
    found = []
    with torch.no_grad():
        predicted = net(*window)
        for copies in _copies(window.patches, reference.facts["config/bake"]):
            term = float(((distilled(net, window, copies) - predicted) ** 2).mean())
            found.append((abs(term - wanted), len(found), copies))
        chosen = min(found, key=lambda entry: entry[:2])[2]
        orders = []
        for order in permutations(range(len(chosen))):
            net.load_state_dict(kept)
            for patches in (window.patches, *(chosen[i] for i in order)):
                net.encode(*window._replace(patches=patches))
            error = (net.state_dict()[FIRST_STATISTICS] - after[FIRST_STATISTICS]).abs().max()
            orders.append((float(error), order))
    net.load_state_dict(kept)
    return [chosen[i] for i in min(orders)[1]]


def _assert_gradients(net: Hist2STNetwork, wanted: dict[str, Tensor]) -> None:
    null = {name: value for name, value in wanted.items() if re.fullmatch(NULL, name)}
    own = dict(net.named_parameters())
    assert null
    for name, value in null.items():
        gradient = own[name].grad
        assert gradient is not None
        assert max(gradient.abs().max(), value.abs().max()) < ROUNDING, name
        own[name].grad = None
    assert_gradients(net, {name: value for name, value in wanted.items() if name not in null})


def test_the_loss_its_terms_gradients_and_a_step_are_the_authors(
    reference: Reference, net: Hist2STNetwork, window: Window
) -> None:
    _train(net)
    facts, copies = reference.facts, _likeliest(reference, net, window)
    truth = Truth(*(reference[f"inputs/{name}"][0] for name in ("target", "counts", "scale")))
    weights = LossWeights(
        counts=facts["config/zinb"], distillation=facts["config/lamb"], copies=facts["config/bake"]
    )
    adam = torch.optim.Adam(net.parameters(), lr=facts["optimiser/lr"])

    terms = his2st_terms(net, window, copies, truth, weights)
    loss = his2st_loss(terms, weights)
    loss.backward()  # type: ignore[no-untyped-call]

    assert_loss(terms["target"], facts["train_terms/mse_loss"])
    assert_loss(terms["counts"], facts["train_terms/zinb_loss"])
    assert_loss(terms["distillation"], facts["train_terms/bake_loss"])
    assert_loss(loss, reference["train_loss"])
    _assert_gradients(net, OFFICIAL.rename(reference.part("grads")))
    adam.step()
    after = net.state_dict()
    for name, wanted in OFFICIAL.rename(reference.part("state_dict_after_step")).items():
        tolerance = STATISTICS if "running" in name else OUTPUT
        torch.testing.assert_close(after[name], wanted, rtol=0, atol=tolerance)


def test_likelihoods_and_activations_are_the_authors(reference: Reference) -> None:
    values = reference.part("losses")

    assert_output(to_mean(values["raw"]), values["mean_act"])
    assert_output(to_dispersion(values["raw"]), values["disp_act"])
    parts = (values["mean"], values["disp"], values["pi"])
    assert_loss(zinb_loss(values["x"], *parts, values["scale"]), values["zinb"])
    assert_loss(nb_loss(values["x"], values["nb_r"], values["nb_p"]), values["nb"])


def test_the_graph_is_the_authors_but_for_ties(reference: Reference) -> None:
    """Their sort is unstable, so of equally far neighbours any may be joined: edges are as long, row by row.

    Where no tie decides, the edges themselves are the same.
    """
    for name, wanted in reference.part("graph/adjacency").items():
        layout, prune, k = name.split("-")
        places = reference[f"graph/{layout}_xy"].numpy()
        length = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=-1))

        found = adjacency(places, int(k), prune)  # type: ignore[arg-type]

        for unit, row in enumerate(wanted.numpy()):
            theirs, ours = length[unit][row > 0], length[unit][found[unit] > 0]
            np.testing.assert_allclose(np.sort(ours), np.sort(theirs), err_msg=name)
            others = np.sort(np.delete(length[unit], unit))
            if others[int(k) - 1] < others[int(k)]:
                np.testing.assert_array_equal(found[unit], row, err_msg=name)


def test_patches_and_sizes_of_units_are_the_authors(reference: Reference) -> None:
    layout = reference.part("layout")

    patches = cut_patches(layout["image"], layout["pixel_xy"], reference.facts["layout/radius"])

    torch.testing.assert_close(x_first(patches).float(), layout["patches"])
    totals = layout["counts"].sum(dim=1).numpy()
    np.testing.assert_allclose(totals / np.median(totals), layout["scale"].numpy(), rtol=1e-5)


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors = reference.part("state_dict")
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"gene_head.2.weight": torch.zeros(1)})

    del tensors["gene_head.0.bias"]
    with pytest.raises(DataError, match=r"1 tensors missing"):
        load_official(tensors)
