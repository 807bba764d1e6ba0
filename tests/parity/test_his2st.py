"""Hist2ST is the authors' network, number for number.

The training step of the file has dropout off, and its augmented copies are symmetries of the patches, not
random turns. Which ones is not written in the file: they are found by what the first batch
normalisation has seen, and everything else then has to agree.
"""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from parity.files import GRADIENT, Reference, assert_gradients, assert_loss, assert_output, load_reference
from safetensors.torch import save_file
from torch import Tensor, nn

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench.torchkit.batch import SYMMETRIES, turn
from hdstbench_baselines.grid_graph import GRID_REACH, adjacency
from hdstbench_baselines.his2st import Hist2ST, Hist2STConfig, load_official
from hdstbench_baselines.his2st_loss import LossWeights, Truth, Window, his2st_loss, his2st_terms
from hdstbench_baselines.his2st_network import OFFICIAL, Hist2STNetwork, Plan
from hdstbench_baselines.pixels import x_first
from hdstbench_baselines.zinb import nb_loss, to_dispersion, to_mean, typical_total, zinb_loss

STATISTICS = 1e-4
VOID = r"mixers\.\d+\.within\.[03]\.bias|trust\.2\.bias"
"""Biases that batch normalisation, or the softmax over copies, takes out again: no gradient but rounding."""


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("his2st")


def _net(reference: Reference) -> Hist2STNetwork:
    return load_official(reference.part("state_dict"), heads=reference.facts["config/heads"])


def _window(reference: Reference) -> Window:
    inputs = reference.part("inputs")
    return Window(inputs["patches"][0], inputs["centers"][0], inputs["adj"])


def _weights(reference: Reference) -> LossWeights:
    facts = reference.facts
    return LossWeights(
        counts=facts["config/zinb"], distillation=facts["config/lamb"], copies=facts["config/bake"]
    )


def _turned(patches: Tensor, symmetry: int) -> Tensor:
    return turn(patches, torch.full((len(patches),), symmetry))


@pytest.fixture(scope="module")
def copies(reference: Reference) -> list[Tensor]:
    """The copies whose symmetries explain the first running mean after the window and all copies."""
    net, patches = _net(reference), _window(reference).patches
    norm = net.mixers[0].within[1]
    after = OFFICIAL.rename(reference.part("state_dict_after_step"))["mixers.0.within.1.running_mean"]
    turned = [turn(patches, torch.full((len(patches),), s)) for s in range(SYMMETRIES)]
    with torch.no_grad():
        seen = [net.mixers[0].within[0](net.stem(t)).mean(dim=(0, 2, 3)) for t in turned]

    def error(symmetries: tuple[int, ...]) -> float:
        mean = norm.running_mean
        for s in (0, *symmetries):
            mean = (1 - norm.momentum) * mean + norm.momentum * seen[s]
        return float((mean - after).abs().max())

    found = min(product(range(SYMMETRIES), repeat=reference.facts["config/bake"]), key=error)
    assert error(found) < STATISTICS
    return [turned[s] for s in found]


def _step(reference: Reference, copies: list[Tensor]) -> tuple[Hist2STNetwork, dict[str, Tensor]]:
    """The network after a backward pass of the authors' loss, and the terms of that loss."""
    net, weights = _net(reference).train(), _weights(reference)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    inputs = reference.part("inputs")
    truth = Truth(inputs["target"][0], inputs["counts"][0], inputs["scale"][0])
    terms = his2st_terms(net, _window(reference), copies, truth, weights)
    his2st_loss(terms, weights).backward()
    return net, terms


def test_sizes_are_read_from_the_tensors(reference: Reference) -> None:
    net, facts = _net(reference), reference.facts

    assert sum(p.numel() for p in net.parameters()) == facts["n_parameters"]
    assert net.stem.kernel_size == (facts["config/patch_size"],) * 2
    assert (len(net.mixers), len(net.blocks), len(net.graph)) == tuple(
        facts[f"config/depth{i}"] for i in (1, 2, 3)
    )


def test_outputs_are_the_authors(reference: Reference) -> None:
    net = _net(reference)

    with torch.no_grad():
        hidden = net.encode(*_window(reference))
        counts = net.expected_counts(hidden)
        trust = net.trust(hidden) if net.trust else None

    assert_output(hidden, reference["hidden"])
    assert_output(net.head(hidden), reference["output"])
    for i, found in enumerate(counts):
        assert_output(found, reference[f"zinb_mean_disp_pi/{i}"])
    assert trust is not None
    assert_output(trust, reference["distillation_coef"])


def test_likelihoods_and_activations_are_the_authors(reference: Reference) -> None:
    given = reference.part("losses")

    zinb = zinb_loss(given["x"], given["mean"], given["disp"], given["pi"], given["scale"])

    assert_loss(zinb, given["zinb"])
    assert_loss(nb_loss(given["x"], given["nb_r"], given["nb_p"]), given["nb"])
    np.testing.assert_allclose(to_mean(given["raw"]), given["mean_act"], rtol=1e-6)
    np.testing.assert_allclose(to_dispersion(given["raw"]), given["disp_act"], rtol=1e-6)


def test_every_term_of_the_loss_is_the_authors(reference: Reference, copies: list[Tensor]) -> None:
    """The distillation is a difference of near equal numbers, so it has the tolerance of an output."""
    (_, terms), facts = _step(reference, copies), reference.facts

    assert_loss(terms["target"], facts["train_terms/mse_loss"])
    assert_loss(terms["counts"], facts["train_terms/zinb_loss"])
    assert_output(terms["distillation"], torch.tensor(facts["train_terms/bake_loss"]))
    assert_loss(his2st_loss(terms, _weights(reference)), reference["train_loss"])


def test_gradients_are_the_authors(reference: Reference, copies: list[Tensor]) -> None:
    net, _ = _step(reference, copies)
    wanted = OFFICIAL.rename(reference.part("grads"))
    nothing = 1e-6 * max(float(g.abs().max()) for g in wanted.values())

    for name, p in net.named_parameters():
        if re.fullmatch(VOID, name):
            assert p.grad is not None
            assert max(float(g.abs().max()) for g in (p.grad, wanted.pop(name))) < nothing, name
            p.grad = None
    assert_gradients(net, wanted)


def test_batch_statistics_after_the_step_are_the_authors(reference: Reference, copies: list[Tensor]) -> None:
    net, _ = _step(reference, copies)
    after, found = OFFICIAL.rename(reference.part("state_dict_after_step")), dict(net.named_buffers())
    names = [name for name in found if not name.startswith("scale.")]

    assert len(names) == 3 * 3 * len(net.mixers)
    for name in names:
        np.testing.assert_allclose(found[name], after[name], rtol=STATISTICS, atol=STATISTICS, err_msg=name)


def test_one_step_of_the_recipe_is_the_authors(reference: Reference, copies: list[Tensor]) -> None:
    """Adam's first step is the rate times the gradient's sign; where that is sure, it has to agree."""
    (net, _), facts = _step(reference, copies), reference.facts
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    rate = Hist2STConfig().learning_rate
    assert rate == facts["optimiser/lr"]

    torch.optim.Adam(net.parameters(), lr=rate).step()

    after = OFFICIAL.rename(reference.part("state_dict_after_step"))
    for name, p in net.named_parameters():
        assert p.grad is not None
        sure = (p.grad.abs() > GRADIENT * p.grad.abs().max()) & (re.fullmatch(VOID, name) is None)
        ours, theirs = (p.detach() - before[name])[sure], (after[name] - before[name])[sure]
        rounding = 4 * torch.finfo(torch.float32).eps * before[name].abs().max().item()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.02 * rate + rounding, err_msg=name)


def test_graphs_are_the_authors(reference: Reference) -> None:
    """For every layout, pruning and k of the file.

    The authors' sort is unstable: which of several equally near units it takes is open. Rows whose last
    edge has no equal outside have to agree exactly; all others in the lengths of their edges.
    """
    names = reference.part("graph/adjacency")
    assert names

    for name, theirs in names.items():
        layout, prune, k = name.split("-")
        grid = reference[f"graph/{layout}_xy"].numpy()
        length = np.sqrt(((grid[:, None] - grid[None]) ** 2).sum(axis=-1))
        others = np.sort(np.where(np.eye(len(grid)), np.inf, length), axis=1)
        sure = (others[:, int(k)] > others[:, int(k) - 1]) | (
            (prune == "Grid") & (others[:, int(k) - 1] > GRID_REACH)
        )

        ours = adjacency(grid, int(k), prune)

        np.testing.assert_array_equal(ours[sure], theirs.numpy()[sure], err_msg=name)
        edges = [np.sort(np.where(a > 0, length, np.inf), axis=1) for a in (ours, theirs.numpy())]
        np.testing.assert_array_equal(*edges, err_msg=name)


def test_patches_and_sizes_are_laid_out_as_the_authors(reference: Reference) -> None:
    image, radius = reference["layout/image"], reference.facts["layout/radius"]
    cut = [
        image[y - radius : y + radius, x - radius : x + radius]
        for x, y in reference["layout/pixel_xy"].tolist()
    ]
    counts = reference["layout/counts"]

    patches = x_first(torch.stack(cut).permute(0, 3, 1, 2))

    assert torch.equal(patches.float(), reference["layout/patches"])
    assert_output(counts.sum(dim=1) / typical_total(counts.numpy()), reference["layout/scale"])


def test_a_unit_without_neighbours_harms_no_other(reference: Reference) -> None:
    """The authors' network gives NaN for all units then; ours is finite, and exact for the rest."""
    window, net = _window(reference), _net(reference)
    neighbours = window.neighbours.clone()
    neighbours[0] = 0
    assert len(reference["nan_rows_if_spot_0_has_no_neighbour"]) == len(neighbours)

    with torch.no_grad():
        predicted = net(*window._replace(neighbours=neighbours))

    assert torch.isfinite(predicted).all()
    neighbours[0, 0] = 1
    assert_output(predicted, net(*window._replace(neighbours=neighbours)).detach())


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors = reference.part("state_dict")
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"vit.extra.weight": torch.zeros(1)})

    del tensors["vit.transformer.jknet.0.bias_hh_l1"]
    with pytest.raises(DataError, match=r"1 tensors missing.*memory\.bias_hh_l1"):
        load_official(tensors)
    with pytest.raises(DataError, match="no Hist2ST checkpoint"):
        load_official({})


def test_optional_heads_are_there_where_the_checkpoint_has_them(reference: Reference) -> None:
    heads = ("mean.", "disp.", "pi.", "coef.")
    tensors = {k: v for k, v in reference.part("state_dict").items() if not k.startswith(heads)}

    net = load_official(tensors, heads=reference.facts["config/heads"])

    assert not net.counts
    assert net.trust is None
    with torch.no_grad():
        assert_output(net(*_window(reference)), reference["output"])


def test_a_run_starts_from_the_authors_checkpoint(
    reference: Reference, planted: list[Planted], tmp_path: Path
) -> None:
    """Genes and the number of table rows may differ; a rate of 0 leaves what was loaded."""
    save_file(reference.part("state_dict"), tmp_path / "official.safetensors")
    facts = reference.facts
    plan = Plan(
        map_side=facts["config/fig_size"] // facts["config/patch_size"],
        channels=facts["config/channel"],
        kernel=facts["config/kernel_size"],
        mixers=facts["config/depth1"],
        depth=facts["config/depth2"],
        rounds=facts["config/depth3"],
        heads=facts["config/heads"],
    )
    loss = LossWeights(copies=1)
    px = facts["config/fig_size"]
    model = Hist2ST(Hist2STConfig(epochs=1, learning_rate=0.0, input_px=px, plan=plan, loss=loss))
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path, weights=tmp_path / "official.safetensors")

    model.fit([planted[2].slide.take(planted[2].slide.blocks()[0])], [], context)

    loaded = OFFICIAL.rename(reference.part("state_dict"))
    for name, value in model.net.named_parameters():
        if name.startswith("places."):
            rows = min(len(value), facts["config/n_pos"])
            assert torch.equal(value[:rows], loaded[name][:rows])
        elif not name.startswith(("head.1.", "counts.")):
            assert torch.equal(value, loaded[name]), name
