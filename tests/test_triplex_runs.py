"""TRIPLEX on slides: tiles and units around a unit, any order, size and kind of unit, checkpoints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spots
import torch
from helpers import MPP, Planted, make_slide
from safetensors.torch import save_file
from torch import Tensor, nn

from hdstbench.data.card import SampleCard
from hdstbench.data.levels import native
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.target import find_target
from hdstbench.rng import seed_of
from hdstbench.torchkit.encoders import make_encoder, read_weights
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench_baselines.triplex import PLUGIN, TriplexModel
from hdstbench_baselines.triplex_config import TriplexConfig
from hdstbench_baselines.triplex_network import Triplex, as_tokens
from hdstbench_baselines.triplex_official import OFFICIAL
from hdstbench_baselines.triplex_slide import nearest_units
from hdstbench_baselines.triplex_whole import Stack

TINY: TriplexConfig = PLUGIN.recipes["tiny"]
SMALL = Stack(depth=2, heads=2, ratio=1, dropout=0.0)


def _context(folder: Path, **change: object) -> RunContext:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return replace(RunContext(seed=0, scratch=folder / "scratch", cache=folder / "cache"), **change)


def _fit(config: TriplexConfig, train: Slide, folder: Path, **change: object) -> TriplexModel:
    model = TriplexModel(replace(config, epochs=1))
    model.fit([train], [], _context(folder, **change))
    return model


def test_features_of_tiles_are_those_of_their_pixels(tmp_path: Path) -> None:
    slide = make_slide(tmp_path, "a", side_um=256, turn=0.785).slide
    context = _context(tmp_path)
    spec = FeatureSpec(encoder="tiny", level="unit", around=5)

    whole = frozen_features([slide], spec, context)[0]
    part = frozen_features([slide.take(np.array([7, 3]))], spec, context)[0]

    inside, tiles = slide.tiles_inside(np.arange(len(slide))), slide.tiles_around(np.arange(len(slide)))
    with torch.random.fork_rng():
        torch.manual_seed(seed_of("frozen", "tiny", 0))
        encoder = make_encoder("tiny", None).eval()
    with torch.inference_mode():
        wanted = encoder(torch.from_numpy(tiles[inside]).permute(0, 3, 1, 2)).numpy()
    assert whole.dtype == np.float16
    assert isinstance(whole, np.memmap)
    assert 0.5 < inside.mean() < 1
    np.testing.assert_allclose(whole[inside], wanted, atol=1e-3)
    assert (whole[~inside] == 0).all()
    np.testing.assert_array_equal(part, whole[[7, 3]])


def test_a_unit_stands_for_a_tile_whose_centre_is_near(planted: list[Planted]) -> None:
    slide = planted[1].slide

    near, inside = nearest_units(slide)

    place = np.arange(25)
    step = np.stack([place % 5 - 2, place // 5 - 2], axis=1) * 28.0
    gap = np.linalg.norm(slide.xy_um[near] - slide.xy_um[:, None] - step, axis=2)
    least = np.linalg.norm(slide.xy_um[:, None, None] + step[:, None] - slide.xy_um, axis=-1).min(axis=-1)
    np.testing.assert_array_equal(inside, least <= 14 + 1e-6)
    np.testing.assert_allclose(gap[inside], least[inside], atol=1e-9)
    np.testing.assert_array_equal(near[:, 12], np.arange(len(slide)))
    assert 0.5 < inside.mean() < 1


@pytest.mark.parametrize("res", ["8um", "55um"])
def test_it_runs_at_other_resolutions(tmp_path: Path, res: str) -> None:
    slide = make_slide(tmp_path, "t", res=res, side_um=256).slide
    some = slide.take(np.concatenate(slide.blocks()[:2]))

    model = _fit(TINY, some, tmp_path)

    _check_views(model, some.hidden())


def _check_views(model: TriplexModel, slide: Slide) -> None:
    """A single unit, and units in another order, are predicted as they are among all."""
    predicted = model.predict(slide)
    order = np.random.default_rng(0).permutation(len(slide))
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(model.predict(slide.take(order)), predicted[order], atol=2e-5)
    np.testing.assert_allclose(model.predict(slide.take(order[:1])), predicted[order[:1]], atol=2e-5)


@pytest.mark.parametrize("neighbours", ["tiles", "units"])
def test_it_runs_on_native_spots(tmp_path: Path, neighbours: str) -> None:
    """Spots lie further apart than tiles: nothing but the own unit can stand for one."""
    made = spots.make("A", spots.Array(side=5, hexagonal=True))
    dataset = spots.imported(spots.write_h5ad(tmp_path, made), tmp_path / "out")
    sample = spots.sample_of(dataset, "A")
    folder = tmp_path / "prepared"
    folder.mkdir()
    recipe = Recipe(res=native("100um", 28.0, 100.0), mpp=MPP)
    write_slide(folder, sample, sample, SampleCard(id="A", patient="p", path=""), recipe)
    slide = open_slide(folder, ("ENSG0000", "ENSG0002"), find_target("log1p-cp10k"))

    model = _fit(replace(TINY, neighbours=neighbours), slide, tmp_path)

    _check_views(model, slide.hidden())
    inside = model._known(slide).inside
    assert inside.all() if neighbours == "tiles" else (inside == (np.arange(25) == 12)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"train_encoder": False, "target_grid": 2, "neighbours": "units"},
        {},
    ],
)
def test_frozen_patches_and_half_precision_work(tmp_path: Path, change: dict[str, object]) -> None:
    slide = make_slide(tmp_path, "t", side_um=128).slide

    model = _fit(replace(TINY, **change), slide, tmp_path, precision="fp32" if change else "bf16")

    assert np.isfinite(model.predict(slide.hidden())).all()


def test_tokens_are_the_places_of_a_map_row_by_row_however_an_encoder_lays_it_out() -> None:
    tokens = torch.randn(2, 6, 5)
    channels_last = tokens.reshape(2, 2, 3, 5)

    for maps in (tokens, channels_last, channels_last.permute(0, 3, 1, 2)):
        assert torch.equal(as_tokens(maps, 5), tokens)


def test_a_view_of_more_units_than_are_computed_at_once_is_the_same(
    planted: list[Planted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = planted[0].slide
    model = _fit(TINY, slide, tmp_path)
    whole = model.predict(slide.hidden())

    monkeypatch.setattr("hdstbench_baselines.triplex_whole.ROWS_AT_ONCE", 100)

    np.testing.assert_allclose(model.predict(slide.hidden()), whole, atol=2e-5)


def _official(net: nn.Module) -> dict[str, Tensor]:
    """A network's tensors under the authors' names."""
    ours = {name: value for name, value in net.state_dict().items() if name not in OFFICIAL.constant}
    theirs = {}
    for name, value in ours.items():
        theirs[_their_name(name)] = value.contiguous()
    assert OFFICIAL.rename(theirs).keys() == ours.keys()
    return theirs


def _their_name(name: str) -> str:
    resnet = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    for ours, theirs in resnet.items():
        name = name.replace(f"encoder.net.{ours}.", f"target_encoder.{theirs}.")
    for ours, theirs in (
        ("attention_norm", "0.norm"),
        ("attention.qkv", "0.fn.to_qkv"),
        ("attention.q.", "0.fn.to_q."),
        ("attention.kv", "0.fn.to_kv"),
        ("attention.out", "0.fn.to_out.0"),
        ("feed_norm", "1.norm"),
        ("feed.wide", "1.fn.net.0"),
        ("feed.narrow", "1.fn.net.3"),
        ("around.bias.0", "neighbor_encoder.layer.layers.0.0.fn.attention_biases"),
        ("around.blocks", "neighbor_encoder.layer.layers"),
        ("whole.first", "global_encoder.layer1.layers.0"),
        ("whole.rest", "global_encoder.layer2.layers"),
        ("fusion.blocks", "fusion_encoder.fusion_layer.layers"),
        ("whole.position.conv", "global_encoder.pos_layer.proj1"),
        ("around.norm", "neighbor_encoder.norm"),
        ("whole.norm", "global_encoder.norm"),
        ("fusion.norm", "fusion_encoder.norm"),
        ("head_target", "fc_target"),
        ("head_around", "fc_neighbor"),
        ("head_whole", "fc_global"),
        ("head_fused", "fc"),
    ):
        name = name.replace(ours, theirs)
    return name


def test_a_run_can_start_from_a_checkpoint_for_other_genes(tmp_path: Path) -> None:
    slide = make_slide(tmp_path, "t", side_um=128).slide
    one = replace(SMALL, depth=1)
    config = replace(TINY, encoder="resnet18", weights="pretrained", width=512, whole=SMALL, around=one)
    config = replace(config, neighbours="units")
    encoder = make_encoder("resnet18", None)
    made = Triplex(encoder, 512, 512, 7, (config.fusion, config.whole, config.around))
    save_file(_official(made), tmp_path / "checkpoint.safetensors")
    save_file(encoder.net.state_dict(), tmp_path / "resnet18.safetensors")
    model = TriplexModel(replace(config, learning_rate=0.0))

    with pytest.raises(DataError, match=r"does not hold the frozen encoder resnet18; put its weights"):
        model.fit([slide], [], _context(tmp_path, weights=tmp_path / "checkpoint.safetensors"))
    files = {
        "weights": tmp_path / "checkpoint.safetensors",
        "encoder_weights": tmp_path / "resnet18.safetensors",
    }
    model.fit([slide], [], _context(tmp_path, **files))

    for name in ("whole.first.attention.qkv.weight", "encoder.net.layer4.1.conv2.weight", "around.bias.0"):
        assert torch.equal(model.net.state_dict()[name], made.state_dict()[name]), name
    assert model.net.head_fused.weight.shape == (3, 512)


def test_wrappers_around_an_encoders_names_come_off(tmp_path: Path) -> None:
    """As in the self-supervised ResNet-18 that the authors start from."""
    made = make_encoder("resnet18", None).net.state_dict()
    head = {"model.resnet.fc.1.weight": torch.zeros(2, 2)}
    wrapped = {f"model.resnet.{name}": value for name, value in made.items()} | head
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "tenpercent.ckpt")
    save_file(wrapped, tmp_path / "tenpercent.safetensors")

    for name in ("tenpercent.ckpt", "tenpercent.safetensors"):
        assert read_weights(tmp_path / name).keys() == {*made, "fc.1.weight"}
        loaded = make_encoder("resnet18", tmp_path / name).net.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in made.items())
