"""EGN: exemplars from other slides, patches of any size, a loss that stays finite."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from safetensors.torch import save_file

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.inner import split_inner, split_part
from hdstbench.protocol.slide import Slide
from hdstbench.rng import seed_of
from hdstbench.torchkit.encoders import make_encoder
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench_baselines.egn import EGN, HALF, PLUGIN
from hdstbench_baselines.egn_network import EGNetwork, EGNShape, correlation, egn_loss

TINY = PLUGIN.recipes["tiny"]
UNTRAINED = replace(TINY, epochs=0)


def _context(folder: Path, weights: Path | None = None) -> RunContext:
    return RunContext(seed=0, scratch=folder, cache=folder / "cache", weights=weights)


def _parted(planted: list[Planted]) -> tuple[list[Slide], list[Slide]]:
    """Training and validation views of two slides of two patients."""
    parts = [split_inner(p.slide) for p in planted[:2]]
    return [train for train, _ in parts], [val for _, val in parts]


@pytest.fixture(scope="module")
def untrained(planted: list[Planted], tmp_path_factory: pytest.TempPathFactory) -> EGN:
    model = EGN(UNTRAINED)
    model.fit(*_parted(planted), _context(tmp_path_factory.mktemp("egn")))
    return model


@pytest.mark.parametrize(("patch", "parameters"), [(32, 133_356_794), (14, 130_813_178), (28, 132_619_514)])
def test_the_network_is_as_large_as_the_authors_less_its_dead_layers(patch: int, parameters: int) -> None:
    dead = 4 * (512 * 1024 + 1024)

    with torch.device("meta"):
        net = EGNetwork(EGNShape(genes=250, patch=patch, features=2048))

    assert sum(p.numel() for p in net.parameters()) == parameters - dead


def test_exemplars_are_of_other_patients_in_training_and_validation(
    planted: list[Planted], untrained: EGN
) -> None:
    train, val = _parted(planted)
    border = len(train[0])

    for slide in (train[0], val[0]):
        assert (untrained._look(slide, slide.id).exemplars(np.arange(len(slide))) >= border).all()
    for slide in (train[1], val[1]):
        assert (untrained._look(slide, slide.id).exemplars(np.arange(len(slide))) < border).all()


def test_a_test_unit_may_have_exemplars_of_any_training_slide(planted: list[Planted], untrained: EGN) -> None:
    found = untrained._look(planted[2].slide.hidden(), None).exemplars(np.arange(len(planted[2].slide)))

    border = len(_parted(planted)[0][0])
    assert found.shape == (len(planted[2].slide), TINY.exemplars)
    assert (found < border).any()
    assert (found >= border).any()


def test_what_a_unit_measured_does_not_reach_its_own_prediction_in_training(
    planted: list[Planted], untrained: EGN
) -> None:
    slide, untrained._tested = _parted(planted)[0][0], False
    before = untrained.predict(slide.hidden())
    own = torch.arange(len(slide))

    kept = untrained._values[own].clone()
    untrained._values[own] = 1e6
    after = untrained.predict(slide.hidden())
    untrained._values[own], untrained._tested = kept, True

    np.testing.assert_array_equal(before, after)


def test_a_test_unit_of_a_slide_that_is_trained_on_has_exemplars_there(
    planted: list[Planted], untrained: EGN
) -> None:
    """As in splits within slides: the training units themselves are their own best exemplars."""
    slide = _parted(planted)[0][0]

    untrained.predict(slide.hidden())

    next(untrained.batches(slide, None))
    found = untrained._look(slide, None).exemplars(np.arange(len(slide)))
    np.testing.assert_array_equal(found[:, 0], np.arange(len(slide)))


def test_stripes_stand_for_slides_where_one_is_trained_on(planted: list[Planted], tmp_path: Path) -> None:
    slide, model = planted[0].slide, EGN(UNTRAINED)
    stripe = np.empty(len(slide), int)
    for number in range(4):
        rows = split_part(slide, 4, number)[1].rows("unit")
        stripe[np.isin(slide.rows("unit"), rows)] = number

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EGN, "finish", lambda *_: None)
        model.fit([slide], [], _context(tmp_path))

    assert len(model._views) == 4
    sizes = np.bincount(stripe)
    bank_stripe = np.repeat(np.arange(4), sizes)
    for number, view in enumerate(model._views.values()):
        assert len(view.features) == sizes[number]
        assert (bank_stripe[view.exemplars(np.arange(len(view.features)))] != number).all()


def test_a_single_block_alone_is_refused(planted: list[Planted], tmp_path: Path) -> None:
    slide = planted[0].slide

    with pytest.raises(DataError, match="only training slide a is one block; train on two slides"):
        EGN(TINY).fit([slide.take(slide.blocks()[0])], [], _context(tmp_path))


@pytest.mark.parametrize(("grid", "input_px", "side"), [(8, 0, 16), (4, 0, 16), (8, 112, 112), (8, 50, 56)])
def test_patches_are_cut_into_the_same_grid_whatever_their_size(
    planted: list[Planted], tmp_path: Path, grid: int, input_px: int, side: int
) -> None:
    model = EGN(replace(UNTRAINED, grid=grid, input_px=input_px))
    train = [p.slide.take(np.arange(8)) for p in planted[:2]]

    model.fit(train, [], _context(tmp_path))

    assert planted[0].slide.patch_px["unit"] == 14
    assert next(model.batches(train[0], None)).inputs["pixels"].shape == (8, 3, side, side)
    assert np.isfinite(model.predict(train[0].hidden())).all()


def test_a_batch_of_one_unit_has_a_finite_loss_and_gradient() -> None:
    predicted = torch.tensor([[0.3, 0.7]], requires_grad=True)

    loss = egn_loss(predicted, torch.tensor([[0.1, 0.9]]))
    loss.backward()

    assert loss.item() == pytest.approx(0.04 + 0.5)
    assert predicted.grad is not None
    torch.testing.assert_close(predicted.grad, torch.tensor([[0.2, -0.2]]))


def test_a_gene_that_is_the_same_everywhere_has_no_correlation_and_a_finite_gradient() -> None:
    predicted = torch.tensor([[0.5, 1.0], [0.5, 2.0], [0.5, 4.0]], requires_grad=True)
    measured = torch.tensor([[1.0, 2.0], [1.0, 4.0], [1.0, 8.0]])

    r = correlation(predicted, measured)
    egn_loss(predicted, measured).backward()

    torch.testing.assert_close(r, torch.tensor([0.0, 1.0]))
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


def test_the_papers_update_is_another_network() -> None:
    torch.manual_seed(0)
    shape = EGNShape(genes=3, patch=2, features=5, grid=2, width=8, depth=2, heads=2, head_width=4, hidden=8)
    coded, paper = EGNetwork(shape), EGNetwork(replace(shape, paper_update=True))
    paper.load_state_dict(coded.state_dict())
    inputs = torch.randn(4, 3, 4, 4), torch.randn(4, 5), torch.randn(4, 6, 5), torch.randn(4, 6, 3)

    assert not torch.allclose(coded(*inputs), paper(*inputs))


def test_features_can_see_other_channel_statistics_than_the_encoders_own(
    planted: list[Planted], tmp_path: Path
) -> None:
    slide, context = planted[2].slide.take(np.arange(5)), _context(tmp_path)
    spec = FeatureSpec(encoder="tiny", level="unit", mean=HALF, std=HALF)

    features = frozen_features([slide], spec, context)[0]

    torch.manual_seed(seed_of("frozen", "tiny", context.seed))
    net = make_encoder("tiny", None).net
    pixels = torch.from_numpy(slide.patches("unit", np.arange(5))).permute(0, 3, 1, 2)
    with torch.no_grad():
        np.testing.assert_allclose(features, net(pixels / 127.5 - 1), atol=1e-5)


def test_a_checkpoint_needs_the_encoders_own_weights_too(planted: list[Planted], tmp_path: Path) -> None:
    path = tmp_path / "egn.safetensors"
    tensors = {"transformer.encoder.proe.weight": torch.zeros(4, 5)}
    save_file(tensors | {"to_patch_embedding.1.weight": torch.zeros(4, 12)}, path)
    model = EGN(replace(TINY, weights="pretrained"))

    with pytest.raises(
        DataError, match=r"EGN checkpoint does not hold the frozen encoder tiny.*tiny\.safetensors"
    ):
        model.fit([p.slide for p in planted[:2]], [], _context(tmp_path, path))
