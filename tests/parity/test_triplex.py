"""TRIPLEX is the authors' network of the CVPR release, number for number."""

import pytest
import torch
from parity.files import Reference, assert_gradients, assert_loss, assert_output, load_reference
from torch import Tensor

from hdstbench.errors import DataError
from hdstbench_baselines.triplex_network import Outputs, Triplex, triplex_loss
from hdstbench_baselines.triplex_official import OFFICIAL, load_official
from hdstbench_baselines.triplex_whole import find_places


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("triplex")


@pytest.fixture
def net(reference: Reference) -> Triplex:
    fusion, whole, around = (reference.facts[f"config/num_heads{i}"] for i in (1, 2, 3))
    return load_official(reference.part("state_dict"), heads=(fusion, whole, around))


def _whole(net: Triplex, reference: Reference, slide: int, order: Tensor | None = None) -> Tensor:
    """Tokens of a slide's units, in the order of the file or another."""
    features, grid = reference[f"inputs/slides/{slide}/0"], reference[f"inputs/slides/{slide}/1"]
    if order is not None:
        features, grid = features[order], grid[order]
    return net.whole(features, find_places(grid.numpy(), reference.facts["config/kernel_size"]))


def _predict(net: Triplex, reference: Reference, part: str, whole: Tensor, rows: Tensor) -> Outputs:
    image, around, mask = (reference[f"{part}/{name}"][rows] for name in ("img", "neighbor", "mask"))
    return net(net.target_tokens(image), around, mask.bool(), whole)


def _predict_slide(net: Triplex, reference: Reference, rows: Tensor) -> Outputs:
    return _predict(net, reference, "inputs", _whole(net, reference, 0)[rows], rows)


def test_predictions_of_a_whole_slide_are_the_authors(reference: Reference, net: Triplex) -> None:
    everything = torch.arange(len(reference["inputs/img"]))

    with torch.no_grad():
        found = _predict_slide(net, reference, everything)

    for value, name in zip(found, ("pred", "target", "neighbor", "global"), strict=True):
        assert_output(value, reference[f"outputs/slide/{name}"])


def test_predictions_of_some_units_are_the_authors(reference: Reference, net: Triplex) -> None:
    """Which units they are shows in the predictions of all."""
    wanted = reference["outputs/slide/pred_some"]
    rows = torch.cdist(wanted, reference["outputs/slide/pred"]).argmin(dim=1)

    with torch.no_grad():
        found = _predict_slide(net, reference, rows)

    assert len(set(rows.tolist())) == len(wanted)
    assert_output(found.fused, wanted)


def test_the_position_layer_is_the_authors(reference: Reference, net: Triplex) -> None:
    features, grid = reference["inputs/slides/0/0"], reference["inputs/slides/0/1"]
    places = find_places(grid.numpy(), reference.facts["config/kernel_size"])

    with torch.no_grad():
        found = net.whole.position(features, places)

    assert_output(found, reference["outputs/slide/position_layer"][0])


def test_unlike_the_authors_each_unit_keeps_its_token_in_any_order(
    reference: Reference, net: Triplex
) -> None:
    order = torch.randperm(len(reference["inputs/slides/0/0"]), generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        shuffled, sorted_ = _whole(net, reference, 0, order), _whole(net, reference, 0)

    assert reference.facts["position_layer_follows_row_order"] is False
    assert_output(shuffled, sorted_[order])


def test_the_loss_of_a_batch_of_two_slides_and_its_gradients_are_the_authors(
    reference: Reference, net: Triplex
) -> None:
    slide, unit = reference["inputs/train/pid"], reference["inputs/train/sid"]
    tokens = [_whole(net, reference, number) for number in range(int(slide.max()) + 1)]
    whole = torch.stack([tokens[p][s] for p, s in zip(slide.tolist(), unit.tolist(), strict=True)])

    out = _predict(net.train(), reference, "inputs/train", whole, torch.arange(len(slide)))
    loss = triplex_loss(out, reference["inputs/train/label"])
    loss.backward()  # type: ignore[no-untyped-call]

    assert reference.facts["unused_parameters"] == []
    assert_loss(loss, reference["outputs/train_loss"])
    assert_gradients(net, OFFICIAL.rename(reference.part("grads")))


def test_a_state_dict_that_lacks_a_tensor_or_has_one_more_is_refused(reference: Reference) -> None:
    tensors = reference.part("state_dict")
    with pytest.raises(DataError, match="0 tensors missing, 1 unknown"):
        load_official(tensors | {"target_linear.weight": torch.zeros(1)})

    del tensors["global_encoder.norm.bias"]
    with pytest.raises(DataError, match=r"1 tensors missing.*whole\.norm\.bias"):
        load_official(tensors)
