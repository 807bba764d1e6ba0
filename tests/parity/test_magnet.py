"""The released MagNet is the authors' network, number for number, node mix-up included."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from parity.files import Reference, assert_gradients, assert_loss, assert_output, load_reference
from torch import Tensor, nn
from torch.nn import functional

from hdstbench.errors import DataError
from hdstbench_magnet.graph import edges_of_slide, edges_within
from hdstbench_magnet.loss import correlation_loss
from hdstbench_magnet.network import MagNetwork
from hdstbench_magnet.official import OFFICIAL, PUBLISHED, joined, load_official

LEVELS = {"region": "512", "spot": "224"}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("magnet")


def _net(reference: Reference) -> MagNetwork:
    heads = reference.facts["meta/options/heads"]
    return load_official(reference.part("state_dict"), heads=heads).eval()


def _edges(adjacency: Tensor) -> Tensor:
    """The authors' matrix marks the neighbours of a row; ours go from neighbour to node."""
    return adjacency.nonzero().T.flip(0)


def _forward(net: MagNetwork, reference: Reference) -> dict[str, Tensor]:
    inputs = reference.part("inputs")
    views = {level: inputs[f"feature_{px}"][:, None] for level, px in LEVELS.items()}
    nodes = {level: inputs[f"graph_{px}"] for level, px in LEVELS.items()}
    nodes["unit"] = net.fuse(inputs["x"], views)
    edges = {level: _edges(inputs[f"adj_{px}"]) for level, px in LEVELS.items()}
    return net.predict(nodes, {}, edges | {"unit": _edges(inputs["adj"])})


def test_sizes_are_read_from_the_tensors(reference: Reference) -> None:
    net, tensors = _net(reference), reference.part("state_dict")
    without_effect = ("att_weight", "encoder_layer", "lstm", "gene_head_512", "gene_head_224")

    used = [value.numel() for name, value in tensors.items() if not any(w in name for w in without_effect)]

    assert sum(p.numel() for p in net.parameters()) == sum(used)
    assert sum(value.numel() for value in tensors.values()) == reference.facts["meta/parameters"]


def test_all_levels_are_predicted_as_by_the_authors(reference: Reference) -> None:
    with torch.no_grad():
        out = _forward(_net(reference), reference)

    for ours, theirs in (("unit", "bin"), ("region", "region"), ("spot", "spot")):
        assert_output(out[ours], reference[f"outputs/{theirs}"])


def test_every_stage_is_the_authors(reference: Reference) -> None:
    net, seen = _net(reference), dict[str, list[Tensor]]()
    for name, module in _stages(net):
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.setdefault(name, []).append(out))

    with torch.no_grad():
        _forward(net, reference)

    wanted = {name: value for name, value in reference.part("stages").items() if "encoder" not in name}
    order = {"transformer": "210", "gene_head_250": "210"}  # ours: spot, region, unit; theirs the other way
    found = {
        f"{name}/{number}": out
        for name, outs in seen.items()
        for number, out in zip(order.get(name, "0"), outs, strict=True)
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_output(found[name], value)


def _stages(net: MagNetwork) -> Iterator[tuple[str, nn.Module]]:
    """Our modules by the authors' names."""
    yield "transformer", net.mixer
    yield "gene_head_250", net.heads["all"]
    for level, px in (("unit", "112"), *LEVELS.items()):
        if level != "unit":
            yield f"cross_attention_{px}", net.attend[level]
        for number, one in enumerate(net.rounds[level]):
            yield f"gat_layer_{px}.{number}", one


def test_all_gradients_are_the_authors(reference: Reference) -> None:
    """The probe is a fixed weighting of all outputs, found from the last layer's gradient alone."""
    net, grads = _net(reference), reference.part("grads")
    inside: list[Tensor] = []
    net.heads["all"][0].register_forward_hook(lambda _m, _i, out: inside.append(out.detach()))
    out = _forward(net, reference)
    rows = torch.cat(inside).double()  # spot, region, unit
    wanted = grads["gene_head_250.1.weight"].double()
    weights = torch.linalg.lstsq(rows.T, wanted.T).solution.float()

    probe = (weights * torch.cat([out["spot"], out["region"], out["unit"]])).sum()
    probe.backward()

    assert_loss(probe, reference["scalar"])
    ours = OFFICIAL.rename(joined(grads))
    _without_slope(net, ours)
    assert_gradients(_Whole(net), ours)


class _Whole(nn.Module):
    def __init__(self, body: MagNetwork) -> None:
        super().__init__()
        self.body = body


def _without_slope(net: MagNetwork, wanted: dict[str, Tensor]) -> None:
    """Queries and keys of attention over one key have gradients of rounding alone: see that, set it aside."""
    width = net.mixer.place.shape[1]
    for level in LEVELS:
        attention = net.attend[level].attention
        for name, found in (("weight", attention.in_proj_weight.grad), ("bias", attention.in_proj_bias.grad)):
            assert found is not None
            theirs = wanted[f"body.attend.{level}.attention.in_proj_{name}"]
            for part in (found, theirs):
                assert part[: 2 * width].abs().max() <= 1e-5 * part.abs().max()
                part[: 2 * width] = 0


def test_outputs_are_rows_of_the_wrong_nodes(reference: Reference) -> None:
    """Which is the point: unit i is made of rows 3 i to 3 i + 2 of the stacked rounds."""
    net = _net(reference)
    n, width = len(reference["inputs/x"]), net.mixer.place.shape[1]
    rounds = [torch.randn(n, width, requires_grad=True) for _ in range(3)]

    net.mixer(rounds)[1].sum().backward()

    touched = [(t, i) for t, r in enumerate(rounds) for i in range(n) if r.grad[i].abs().max() > 0]  # type: ignore[index]
    assert touched == [divmod(flat, n) for flat in (3, 4, 5)]


def test_losses_are_the_authors(reference: Reference) -> None:
    losses = reference.part("losses")
    predicted, target = losses["prediction"], losses["target"]

    correlation = correlation_loss(predicted, target)

    assert_loss(correlation, losses["pcc_loss"])
    assert_loss(1 - correlation, losses["calculate_pcc"])
    assert_loss(functional.mse_loss(predicted, target), losses["mse_loss_for_block"])
    both = 0.5 * functional.mse_loss(predicted, target) + 0.5 * correlation
    assert_loss(both, losses["combined_loss"])


def _matrix(edges: Tensor, nodes: int) -> np.ndarray:
    out = np.zeros((nodes, nodes), np.float32)
    out[edges[1], edges[0]] = 1
    return out


def _as_grid(points: Tensor) -> np.ndarray:
    """Places on a grid so fine that no distance changes its rank."""
    return np.asarray((points * 1e6).round().to(torch.int64))


def test_graphs_are_the_authors(reference: Reference) -> None:
    k = reference.facts["graph/k"]
    points = _as_grid(reference["graph/points"])
    edges = edges_within(points, np.zeros(len(points), np.int64), k, loops=False)
    np.testing.assert_array_equal(_matrix(edges, len(points)), reference["graph/knn"])
    for level, px in LEVELS.items():
        places = _as_grid(reference[f"points/{level}"])

        both_ways = edges_of_slide(places, k, loops=False)

        np.testing.assert_array_equal(_matrix(both_ways, len(places)), reference[f"inputs/adj_{px}"])


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors = reference.part("state_dict")
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"transformer.extra": torch.zeros(1)})
    del tensors["cross_attention_512.key_proj.bias"]
    with pytest.raises(DataError, match="1 tensors missing, 0 unknown"):
        load_official(tensors)


def test_the_released_choices_are_the_scripts() -> None:
    assert (PUBLISHED.tokens, PUBLISHED.keys, PUBLISHED.fusion) == ("mixed", "single", "sum")
    assert (PUBLISHED.graph_attention, PUBLISHED.rounds, PUBLISHED.self_loops) == ("mean", "parallel", False)
    assert (PUBLISHED.sampler, PUBLISHED.batch_size, PUBLISHED.epochs) == ("random", 256, 51)
    loss = PUBLISHED.loss
    assert (loss.error, loss.unit, loss.spot, loss.region) == (0.75, 0.1, 0.05, 0.05)
    assert replace(PUBLISHED, width=64).token_count == 3
