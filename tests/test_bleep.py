"""BLEEP: a bank by the weights at hand, retrieval from other slides, checkpoints, a loss with options."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from safetensors.torch import save_file

from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.encoders import make_encoder
from hdstbench_baselines.bleep import BLEEP, PLUGIN, BLEEPConfig
from hdstbench_baselines.bleep_network import BLEEPNetwork, Combine, contrastive

TINY = replace(PLUGIN.recipes["tiny"], epochs=1)


def _fit(
    planted: list[Planted], folder: Path, config: BLEEPConfig, weights: Path | None = None
) -> tuple[BLEEP, list[Slide]]:
    train = [planted[0].slide.take(np.arange(150)), planted[1].slide.take(np.arange(100))]
    model = BLEEP(config)
    model.fit(train, [], RunContext(seed=0, scratch=folder, cache=folder / "cache", weights=weights))
    return model, train


def _targets(slides: list[Slide]) -> np.ndarray:
    return np.concatenate([slide.need_labels().target() for slide in slides])


def test_the_network_is_as_large_as_the_authors() -> None:
    with torch.device("meta"):
        net = BLEEPNetwork(make_encoder("resnet50", None), 2048, 250)

    assert sum(p.numel() for p in net.parameters()) == 24_229_440


def test_a_prediction_is_the_mean_of_all_where_there_are_fewer_than_are_wanted(
    planted: list[Planted], tmp_path: Path
) -> None:
    model, train = _fit(planted, tmp_path, replace(TINY, neighbours=9999))

    predicted = model.predict(planted[2].slide.hidden())

    np.testing.assert_allclose(predicted - _targets(train).mean(axis=0), 0, atol=1e-5)


def test_a_training_slide_is_predicted_from_other_patients_in_validation_and_from_all_in_a_test(
    planted: list[Planted], tmp_path: Path
) -> None:
    model, train = _fit(planted, tmp_path, replace(TINY, neighbours=9999))

    tested = model.predict(train[0].hidden())
    model._tested = False
    judged = model.predict(train[0].hidden())

    np.testing.assert_allclose(tested - _targets(train).mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(judged - _targets(train[1:]).mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize(("how", "shares"), [("simple", 1), ("average", 4)])
def test_neighbours_are_combined_as_asked(
    planted: list[Planted], tmp_path: Path, how: Combine, shares: int
) -> None:
    model, train = _fit(planted, tmp_path, replace(TINY, neighbours=4, combine=how))
    slide = planted[2].slide.take(np.arange(20)).hidden()

    predicted = model.predict(slide)

    batch = next(model.batches(slide, None))
    with torch.no_grad():
        found = model._bank.nearest(model.net(batch.inputs["image"]), slide.id, shares)  # type: ignore[union-attr]
    np.testing.assert_allclose(predicted, _targets(train)[found].mean(axis=1), atol=1e-5)


def test_after_a_step_the_bank_is_made_anew_by_the_weights_at_hand(
    planted: list[Planted], tmp_path: Path
) -> None:
    model, train = _fit(planted, tmp_path, TINY)
    after_fit = model._keys.clone()
    batch = next(model.batches(train[0], np.random.default_rng(0)))

    model.loss(batch, model.labels(batch))
    with torch.no_grad():
        model.net.spot.first.weight.mul_(-1)
    model.predict(planted[2].slide.take(np.arange(3)).hidden())

    with torch.no_grad():
        torch.testing.assert_close(model._keys, model.net.spot(model._values))
    assert not torch.allclose(model._keys, after_fit)


def test_after_training_the_bank_is_of_the_weights_that_were_kept(
    planted: list[Planted], tmp_path: Path
) -> None:
    model, _ = _fit(planted, tmp_path, TINY)

    with torch.no_grad():
        torch.testing.assert_close(model._keys, model.net.spot(model._values))


def test_weights_that_are_not_finite_show_in_the_prediction(planted: list[Planted], tmp_path: Path) -> None:
    model, _ = _fit(planted, tmp_path, TINY)

    with torch.no_grad():
        model.net.image.first.bias[0] = torch.nan

    assert np.isnan(model.predict(planted[2].slide.hidden())).all()


def test_a_frozen_encoder_is_no_part_of_the_network(planted: list[Planted], tmp_path: Path) -> None:
    trained, _ = _fit(planted, tmp_path, TINY)
    frozen, _ = _fit(planted, tmp_path, replace(TINY, frozen=True))

    assert frozen.net.encoder is None
    encoder = sum(p.numel() for p in make_encoder("tiny", None).parameters())
    assert trained.parameters == frozen.parameters + encoder
    assert np.isfinite(frozen.predict(planted[2].slide.hidden())).all()


def test_detached_targets_change_the_gradient_and_not_the_loss() -> None:
    torch.manual_seed(0)
    image, spot = torch.randn(6, 8, requires_grad=True), torch.randn(6, 8)

    losses = [contrastive(image, spot, 4.0, detach=detach) for detach in (False, True)]
    gradients = [torch.autograd.grad(loss, image)[0] for loss in losses]

    torch.testing.assert_close(losses[0], losses[1])
    assert not torch.allclose(*gradients)


def test_pairs_that_find_each_other_cost_less() -> None:
    torch.manual_seed(0)
    spot = torch.nn.functional.layer_norm(torch.randn(16, 64), (64,))

    together, apart = contrastive(spot, spot), contrastive(spot, spot.roll(1, dims=0))

    assert together < 0.01 * apart


def test_a_run_starts_from_a_checkpoint_with_other_genes(planted: list[Planted], tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = BLEEPNetwork(make_encoder("tiny", None), 16, 7, embedding=TINY.embedding)
    names = (
        ("encoder.net.", "image_encoder.model."),
        ("image.", "image_projection."),
        ("spot.", "spot_projection."),
        (".first.", ".projection."),
        (".second.", ".fc."),
        (".norm.", ".layer_norm."),
    )
    tensors = {}
    for name, value in theirs.state_dict().items():
        for ours, official in names[:1] if name.startswith("encoder.") else names[1:]:
            name = name.replace(ours, official)  # noqa: PLW2901 - one name, part by part
        if name not in ("encoder.mean", "encoder.std"):
            tensors[name] = value
    save_file(tensors, tmp_path / "bleep.safetensors")

    model, _ = _fit(planted, tmp_path, replace(TINY, epochs=0), tmp_path / "bleep.safetensors")

    torch.testing.assert_close(model.net.image.first.weight, theirs.image.first.weight)
    torch.testing.assert_close(model.net.spot.second.weight, theirs.spot.second.weight)
    assert model.net.spot.first.weight.shape == (TINY.embedding, 3)
