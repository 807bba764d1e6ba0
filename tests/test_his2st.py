"""Hist2ST: sizes, likelihoods, graph, augmentation, distillation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy import sparse, stats
from torch import Tensor

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench_baselines.grid_graph import adjacency
from hdstbench_baselines.his2st import PLUGIN, Hist2ST, stem_of
from hdstbench_baselines.his2st_loss import LossWeights, Truth, Window, augment, draw_copies, his2st_terms
from hdstbench_baselines.his2st_network import Hist2STNetwork, Plan
from hdstbench_baselines.zinb import nb_loss, typical_total, zinb_loss

TINY = PLUGIN.recipes["tiny"]
SMALL = Plan(stem=2, map_side=4, channels=8, depth=1, mixers=1, rounds=2, heads=2, head_width=8)
SQUARE = np.argwhere(np.ones((4, 5)))


@pytest.mark.parametrize(
    ("px", "genes", "parameters"),
    [(112, 250, 73_596_333), (112, 785, 75_789_833), (112, 171, 73_272_433), (224, 250, 73_610_445)],
)
def test_the_authors_sizes_give_the_authors_number_of_parameters(
    px: int, genes: int, parameters: int
) -> None:
    """At 224 px with the wider stem; the authors' stem of 7 px would give ten times as many."""
    plan = PLUGIN.recipes["official"].plan
    with torch.device("meta"):
        net = Hist2STNetwork(replace(plan, stem=stem_of(px, plan.map_side)), 64, genes)

    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize(("px", "stem"), [(112, 7), (224, 14), (14, 1), (81, 5), (4, 1)])
def test_the_stem_follows_the_patch(px: int, stem: int) -> None:
    assert stem_of(px, 16) == stem


@given(st.floats(0.2, 8), st.floats(0.3, 20), st.floats(0.01, 0.9), st.floats(0.5, 2))
@settings(deadline=None, max_examples=20)
def test_zinb_is_a_distribution_over_counts(mean: float, theta: float, lost: float, scale: float) -> None:
    counts = torch.arange(400, dtype=torch.float64)

    each = [
        zinb_loss(
            c.view(1, 1), *torch.tensor([mean, theta, lost]).double().view(3, 1, 1), torch.tensor([scale])
        )
        for c in counts
    ]

    size = mean * scale
    wanted = (1 - lost) * stats.nbinom.pmf(counts.numpy(), theta, theta / (theta + size))
    wanted[0] += lost
    np.testing.assert_allclose(torch.stack(each).neg().exp(), wanted, rtol=1e-5, atol=1e-9)


def test_the_negative_binomial_lacks_only_what_depends_on_counts_alone() -> None:
    counts, r, p = torch.tensor([[0.0, 3.0, 7.0]]).double(), 2.5, 0.3
    given_r = torch.full((1, 3), np.log(r)).double()
    given_p = torch.full((1, 3), np.log((1 - p) / p)).double()

    loss = nb_loss(counts, given_r, given_p)

    wanted = stats.nbinom.logpmf(counts.numpy(), r, p) + torch.lgamma(counts + 1).numpy()
    np.testing.assert_allclose(loss, -wanted.sum())


def test_empty_units_give_finite_losses_and_gradients() -> None:
    counts = torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    parameters = [torch.full((2, 2), v, requires_grad=True) for v in (1e-5, 1e4, 0.5)]

    loss = zinb_loss(counts, *parameters, torch.tensor([0.0, 1.0]))
    loss.backward()

    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None)


@pytest.mark.parametrize(
    ("rows", "wanted"), [([[0, 0], [0, 0], [3, 1]], 1.0), ([[2, 0], [3, 1], [9, 9]], 4.0)]
)
def test_a_median_of_empty_units_is_guarded(rows: list[list[int]], wanted: float) -> None:
    assert typical_total(sparse.csr_array(np.array(rows))) == wanted


def test_units_join_their_four_nearest_and_ties_go_to_the_smaller_row_then_column() -> None:
    neighbours = adjacency(SQUARE, 4)

    places = {tuple(SQUARE[j]) for j in np.flatnonzero(neighbours[6])}  # (1, 1): inside
    corner = {tuple(SQUARE[j]) for j in np.flatnonzero(neighbours[0])}  # (0, 0): two at distance 2
    assert places == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert corner == {(0, 1), (1, 0), (1, 1), (0, 2)}
    assert (neighbours.sum(axis=1) == 4).all()


def test_pruning_takes_long_edges_out_again_and_a_self_loop_is_kept() -> None:
    grid = np.array([[0, 0], [0, 1], [0, 2], [9, 9]])

    assert adjacency(grid, 3, "Grid").sum(axis=1).tolist() == [2, 2, 2, 0]
    assert adjacency(grid, 3, "STD").sum(axis=1).tolist() == [2, 2, 2, 2]
    assert np.diag(adjacency(grid, 1, "Grid", self_loop=True)).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("prune", ["NA", "Grid", "STD"])
def test_a_lone_unit_has_a_graph_and_a_finite_state(prune: str) -> None:
    torch.manual_seed(0)
    neighbours = torch.from_numpy(adjacency(np.array([[5, 5]]), 4, prune))
    net = Hist2STNetwork(SMALL, 8, 3)

    predicted = net.train()(torch.rand(1, 3, 8, 8), torch.zeros(1, 2, dtype=torch.int64), neighbours)

    assert neighbours.tolist() == [[0]]
    assert torch.isfinite(predicted).all()


def test_a_units_own_image_comes_back_over_two_edges_only() -> None:
    """Without self-loops, and with the transformer's outputs silenced."""
    torch.manual_seed(0)
    line = torch.from_numpy(adjacency(np.array([[0, 0], [0, 1], [0, 2]]), 1))
    patches, other = torch.rand(2, 3, 3, 8, 8) * 255
    other[1:] = patches[1:]  # unit 0 differs; its neighbours' neighbour is unit 0 itself
    moved = []
    for rounds in (1, 2):
        net = Hist2STNetwork(replace(SMALL, rounds=rounds), 8, 3).eval()
        for block in net.blocks:
            torch.nn.init.zeros_(block.attention.out.weight)
        place = torch.zeros(3, 2, dtype=torch.int64)
        moved.append((net(patches, place, line) - net(other, place, line)).abs().amax(dim=1) > 0)

    assert moved[0].tolist() == [False, True, False]
    assert moved[1].tolist() == [True, True, True]


def draw(*, grey: bool = False, angle: float = 0.0, flip: bool = False) -> Tensor:
    return torch.tensor([grey, angle, flip], dtype=torch.float32)


def test_augmentation_turns_flips_and_greys_all_patches_alike() -> None:
    patches = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8)
    whole = patches.float()

    assert torch.equal(augment(patches, draw()), whole)
    assert torch.equal(augment(patches, draw(flip=True)), whole.flip(-1))
    assert torch.equal(augment(patches, draw(angle=90)), whole.rot90(1, (-2, -1)))
    grey = augment(patches, draw(grey=True))
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(
        grey[:, 0], torch.einsum("nchw,c->nhw", whole, torch.tensor([0.2989, 0.587, 0.114]))
    )


def test_a_turn_keeps_values_and_leaves_black_corners() -> None:
    turned = augment(torch.full((1, 3, 16, 16), 200.0), draw(angle=45))

    assert set(turned.unique().tolist()) == {0.0, 200.0}
    assert turned[0, 0, 0, 0] == 0
    assert turned[0, 0, 8, 8] == 200


def test_draws_follow_the_authors_shares() -> None:
    drawn = draw_copies(np.random.default_rng(0), 4000)

    assert abs(drawn[:, 0].mean() - 0.1) < 0.02
    assert abs(drawn[:, 2].mean() - 0.2) < 0.02
    assert -90 <= drawn[:, 1].min() < -85
    assert 85 < drawn[:, 1].max() <= 90
    assert draw_copies(np.random.default_rng(0), 0).shape == (0, 3)


@pytest.mark.parametrize("detach", [False, True])
def test_detached_distillation_gives_the_same_loss_and_no_gradient_through_copies(*, detach: bool) -> None:
    torch.manual_seed(0)
    net = Hist2STNetwork(replace(SMALL, dropout=0.0), 8, 3).train()
    window = Window(
        torch.rand(5, 3, 8, 8) * 255,
        torch.randint(8, (5, 2)),
        torch.from_numpy(adjacency(SQUARE[:5], 2)),
    )
    truth = Truth(torch.rand(5, 3), torch.ones(5, 3), torch.ones(5))
    copies = [window.patches.flip(-1), window.patches.flip(-2)]

    terms = his2st_terms(net, window, copies, truth, LossWeights(copies=2, detach=detach))
    attached = his2st_terms(net, window, copies, truth, LossWeights(copies=2))
    terms["distillation"].backward()

    torch.testing.assert_close(terms["distillation"], attached["distillation"])
    assert net.trust is not None
    assert (net.trust[0].weight.grad is None) == detach


def test_terms_without_weight_have_no_heads_and_are_not_computed(
    planted: list[Planted], tmp_path: Path
) -> None:
    model = Hist2ST(replace(TINY, epochs=1, loss=LossWeights(counts=0, copies=0)))
    slide = planted[0].slide

    model.fit([slide.take(slide.blocks()[0])], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path))

    assert not model.net.counts
    assert model.net.trust is None


def test_bf16_gives_finite_predictions(planted: list[Planted], tmp_path: Path) -> None:
    model, slide = Hist2ST(replace(TINY, epochs=1)), planted[0].slide
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path, precision="bf16")

    model.fit([slide.take(np.concatenate(slide.blocks()[:3]))], [], context)

    assert np.isfinite(model.predict(planted[2].slide.hidden())).all()


def test_a_file_that_is_no_checkpoint_is_refused(planted: list[Planted], tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "encoder.safetensors")
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path, weights=tmp_path / "encoder.safetensors")

    with pytest.raises(DataError, match="no Hist2ST checkpoint, and the model has no image encoder"):
        Hist2ST(TINY).fit([planted[0].slide], [], context)
