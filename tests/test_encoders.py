"""Vision transformers, encoders of pathology by their cards, and gradient checkpointing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted, type_command
from safetensors.torch import save_file
from torch import Tensor, nn

from hdstbench.errors import DataError, MissingError
from hdstbench.plugins.plugin import RunContext
from hdstbench.plugins.weights import HUBS, find_weights
from hdstbench.torchkit import encoders as encoders_module
from hdstbench.torchkit.compat import import_timm
from hdstbench.torchkit.encoders import Encoder, make_encoder
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench.torchkit.pathology import PATHOLOGY, Known

SMALL_VIT = "test_vit"
"""timm's smallest: 160 px, patches of 16, 64 wide."""

PARAMETERS = {
    "uni": 303_350_784,
    "uni2": 681_394_176,
    "virchow": 631_229_184,
    "virchow2": 631_239_424,
    "h-optimus-0": 1_134_774_272,
    "h-optimus-1": 1_134_774_272,
}
"""As published. Virchow's card says 632 M, UNI2-h's 681 M, those of H-optimus 1.1 B."""
CONCH = 395_232_769
"""All of CONCH: its two text towers, its image tower, poolers and a scale."""


def patches(count: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return PATHOLOGY[name].make()


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> dict[str, Known]:
    """The published encoders with two narrow layers and small inputs; all else is what it is."""
    narrow = {"depth": 2, "embed_dim": 48, "num_heads": 4, "patch_size": 14}
    widths = {"class": 48, "class+mean": 96, "pooler": 512}
    small = {
        name: replace(known, arguments={**known.arguments, **narrow}, input_px=56, width=widths[known.reads])
        for name, known in PATHOLOGY.items()
    }
    monkeypatch.setattr(encoders_module, "PATHOLOGY", small)
    return small


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_published_encoder_has_the_parameters_of_its_card(name: str) -> None:
    assert count(on_meta(name)) == PARAMETERS[name]


def test_the_image_tower_of_conch_is_what_its_text_towers_leave() -> None:
    """Towers by `conch_ViT-B-16.json` and `transformer.py` of github.com/mahmoodlab/CONCH."""
    width, words, length, joint, queries = 768, 32_007, 128, 512, 256
    block = 12 * width**2 + 13 * width
    text = words * width + (length + 1) * width + 12 * block + 2 * width + width * joint
    decoder = 24 * block + 12 * 2 * width + 2 * width + width * words
    captions = queries * width + 4 * width**2 + 4 * width + 4 * width + 2 * width

    image = count(on_meta("conch"))

    assert image + joint**2 + captions + text + decoder + 1 == CONCH


def test_tensors_are_named_as_in_the_released_files() -> None:
    block = {f"blocks.0.{n}" for n in ("norm1.weight", "attn.qkv.bias", "ls1.gamma", "mlp.fc1.weight")}
    uni2 = on_meta("uni2").state_dict()
    virchow2 = on_meta("virchow2").state_dict()
    conch = on_meta("conch").state_dict()

    assert {"cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"} | block <= set(
        uni2
    )
    assert uni2["pos_embed"].shape == (1, 256, 1536)
    assert uni2["blocks.23.mlp.fc1.weight"].shape == (8192, 1536)
    assert virchow2["trunk.pos_embed"].shape == (1, 261, 1280)
    assert virchow2["trunk.blocks.31.mlp.fc2.weight"].shape == (1280, 3416)
    pooler = {k.removeprefix("attn_pool_contrast.") for k in conch if k.startswith("attn_pool_contrast.")}
    assert {"query", "attn.q_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "ln_k.bias"} <= pooler
    assert conch["attn_pool_contrast.attn.k_proj_weight"].shape == (512, 768)


def test_every_published_encoder_says_where_its_weights_are(tmp_path: Path) -> None:
    assert set(HUBS) == set(PATHOLOGY)
    with pytest.raises(MissingError, match=r"weights of uni2 \(from huggingface.co/MahmoodLab/UNI2-h, whose"):
        find_weights("uni2", "pretrained")


@pytest.mark.parametrize("name", PATHOLOGY)
def test_a_published_encoder_reads_patches_of_any_size_and_their_places(
    name: str, shrunk: dict[str, Known]
) -> None:
    encoder = make_encoder(name, None).eval()

    with torch.inference_mode():
        for size in (28, 56, 80):
            assert encoder(patches(2, size)).shape == (2, shrunk[name].width)
        grid = encoder.grid(patches(2, 80), 2)

    assert encoder.prepare(patches(1, 80)).shape == (1, 3, 56, 56)
    assert grid.shape == (2, 4, encoder.width)
    assert not torch.allclose(grid[:, 0], grid[:, 3], atol=1e-4)


def test_own_channels_are_used(shrunk: dict[str, Known]) -> None:
    white = torch.full((1, 3, 56, 56), 255, dtype=torch.uint8)

    pixels = make_encoder("h-optimus-1", None).prepare(white)

    wanted = (1 - np.array([0.707223, 0.578729, 0.703617])) / np.array([0.211883, 0.230117, 0.177517])
    np.testing.assert_allclose(pixels[0, :, 5, 7], wanted, rtol=1e-5)


def test_virchow_is_the_class_token_beside_the_mean_patch_token(shrunk: dict[str, Known]) -> None:
    encoder, images = make_encoder("virchow2", None).eval(), patches(2, 56)

    with torch.inference_mode():
        tokens = encoder.net.trunk(encoder.prepare(images))  # type: ignore[union-attr, operator]
        out, grid = encoder(images), encoder.grid(images, 2)

    assert tokens.shape == (2, 1 + 4 + 16, 48)
    torch.testing.assert_close(out, torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1))
    torch.testing.assert_close(grid.mean(dim=1), out)
    first = tokens[:, 5:].reshape(2, 4, 4, 48)[:, :2, :2].mean(dim=(1, 2))
    torch.testing.assert_close(grid[:, 0, 48:], first)


def test_conch_is_its_pooler_before_the_projection(shrunk: dict[str, Known]) -> None:
    """Against torch's own attention, sequence first as the authors call it."""
    encoder, images = make_encoder("conch", None).eval(), patches(3, 56)
    net = encoder.net
    theirs = nn.MultiheadAttention(512, 8, kdim=48, vdim=48)
    theirs.load_state_dict(net.attn_pool_contrast.attn.state_dict())  # type: ignore[union-attr]

    with torch.inference_mode():
        tokens = net.attn_pool_contrast.ln_k(net.trunk.forward_features(encoder.prepare(images)))  # type: ignore[union-attr, operator]
        query = net.attn_pool_contrast.ln_q(net.attn_pool_contrast.query)  # type: ignore[union-attr, operator]
        keys = tokens.transpose(0, 1)
        pooled = theirs.eval()(query[:, None].repeat(1, 3, 1), keys, keys)[0][0]
        wanted = net.ln_contrast(pooled)  # type: ignore[operator]

        torch.testing.assert_close(encoder(images), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["uni", "virchow", "conch"])
def test_weights_come_from_a_file_and_nothing_of_the_network_is_left_random(
    name: str, shrunk: dict[str, Known], tmp_path: Path
) -> None:
    made, images = make_encoder(name, None).eval(), patches(2, 56)
    state = {k.removeprefix("trunk."): v for k, v in made.net.state_dict().items()}
    if name == "conch":
        state = {f"visual.{k}": v for k, v in made.net.state_dict().items()}
        extra = (
            "visual.proj_contrast",
            "visual.ln_caption.weight",
            "text.cls_emb",
            "text_decoder.x",
            "logit_scale",
        )
        state |= {k: torch.zeros(3) for k in extra}
    torch.save({k: v.half() for k, v in state.items()}, tmp_path / "w.bin")

    loaded = make_encoder(name, tmp_path / "w.bin").eval()

    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in loaded.parameters())
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), made(images), atol=0.02, rtol=0.02)


def test_places_of_conch_are_brought_to_the_input_size(shrunk: dict[str, Known], tmp_path: Path) -> None:
    state = {f"visual.{k}": v for k, v in make_encoder("conch", None).net.state_dict().items()}
    state["visual.trunk.pos_embed"] = torch.full((1, 1 + 9, 48), 0.25)  # 3 x 3 places, 4 x 4 wanted
    save_file(state, tmp_path / "w.safetensors")

    loaded = make_encoder("conch", tmp_path / "w.safetensors").net.state_dict()["trunk.pos_embed"]

    torch.testing.assert_close(loaded, torch.full((1, 17, 48), 0.25))


def test_a_file_of_another_network_is_refused_in_one_line(shrunk: dict[str, Known], tmp_path: Path) -> None:
    save_file(make_encoder("uni", None).net.state_dict(), tmp_path / "w.safetensors")

    with pytest.raises(DataError, match=r"w.safetensors does not fit uni2: \d+ tensors missing") as caught:
        make_encoder("uni2", tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"does not fit conch: \d+ tensors missing"):
        make_encoder("conch", tmp_path / "w.safetensors")


def test_no_hub_is_asked() -> None:
    with pytest.raises(DataError, match="no hub is ever asked"):
        make_encoder("hf-hub:MahmoodLab/uni", None)


def test_a_transformer_of_timm_takes_its_own_size_and_has_a_real_grid() -> None:
    encoder = make_encoder(SMALL_VIT, None).eval()
    images = patches(2, 64)

    with torch.inference_mode():
        tokens = encoder.net.forward_features(encoder.prepare(images))  # type: ignore[operator]
        grid, own = encoder.grid(images, 5), encoder.places(encoder.prepare(images))

    assert encoder.input_px == 160
    assert own.shape == (2, 100, encoder.width)
    torch.testing.assert_close(own, tokens[:, 1:])
    torch.testing.assert_close(grid[:, 24], tokens[:, 1:].reshape(2, 10, 10, -1)[:, 8:, 8:].mean(dim=(1, 2)))


def test_maps_with_channels_last_are_pooled() -> None:
    net = import_timm().create_model(
        "swin_tiny_patch4_window7_224", embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1,) * 4
    )
    encoder = Encoder(net, int(net.num_features), (0.5,) * 3, (0.5,) * 3, 224).eval()

    with torch.inference_mode():
        grid = encoder.grid(patches(1, 100), 7)
        maps = net.forward_features(encoder.prepare(patches(1, 100)))

    torch.testing.assert_close(grid, maps.flatten(1, 2))


def test_frozen_features_have_the_encoders_size_and_are_shared(
    planted: list[Planted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file whatever model or fold asks, by the content of weights and slide, not by where they lie."""
    slide = planted[2].slide
    made = make_encoder(SMALL_VIT, None)
    save_file(made.net.state_dict(), tmp_path / "a.safetensors")
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    cache, spec = tmp_path / "features", FeatureSpec(encoder=SMALL_VIT, level="unit")
    context = RunContext(seed=0, scratch=tmp_path, cache=cache, weights=tmp_path / "a.safetensors")
    elsewhere = replace(context, seed=5, scratch=tmp_path / "x", weights=tmp_path / "b.safetensors")

    values = frozen_features([slide], spec, context)[0]
    again = frozen_features([slide.take(np.array([3, 1]))], spec, elsewhere)[0]

    assert values.shape == (len(slide), made.width)
    np.testing.assert_array_equal(again, values[[3, 1]])
    assert len(list(cache.glob("*.npy"))) == 1
    state = {k: v + 0.01 for k, v in made.net.state_dict().items()}
    save_file(state, tmp_path / "b.safetensors")
    frozen_features([slide], spec, elsewhere)
    assert len(list(cache.glob("*.npy"))) == 2
    frozen_features([planted[1].slide], spec, elsewhere)
    assert len(list(cache.glob("*.npy"))) == 3


def test_the_size_asked_for_does_not_matter_to_an_encoder_with_its_own(
    planted: list[Planted], tmp_path: Path, shrunk: dict[str, Known]
) -> None:
    context = RunContext(seed=0, scratch=tmp_path, cache=tmp_path / "features")

    one, two = (
        frozen_features([planted[2].slide], FeatureSpec(encoder="uni", level="unit", input_px=px), context)[0]
        for px in (0, 28)
    )

    np.testing.assert_array_equal(one, two)
    assert len(list((tmp_path / "features").glob("*.npy"))) == 1


@pytest.mark.slow
def test_a_run_takes_a_transformer_from_a_file_and_refuses_another_networks(
    cohort_folder: Path, tmp_path: Path
) -> None:
    save_file(make_encoder(SMALL_VIT, None).net.state_dict(), tmp_path / "vit.safetensors")
    words = f"run -m ridge,mean -d demo -r 16um --folds 0 --workers 1 --encoder {SMALL_VIT}"
    places = {"cwd": tmp_path, "cache": tmp_path / "cache", "data": cohort_folder.parent}

    done = type_command(*words.split(), "--weights", "vit.safetensors", **places)
    save_file(make_encoder("tiny", None).net.state_dict(), tmp_path / "tiny.safetensors")
    wrong = type_command(*words.split(), "--weights", "tiny.safetensors", "-o", "runs/wrong", **places)

    assert done.returncode == 0, done.stderr
    rows = {r["model"]: r for r in json.loads((tmp_path / "runs/default/demo-16um.json").read_text())["rows"]}
    assert rows["ridge"]["encoder"].startswith(f"{SMALL_VIT} (sha256:")
    assert {"other-encoder", "named-weights"} <= set(rows["ridge"]["flags"])
    assert rows["ridge"]["pcc"]["value"] > 0.1
    assert wrong.returncode == 1
    (line,) = [text for text in wrong.stdout.splitlines() if text.startswith("ridge: fold 0:")]
    assert f"tiny.safetensors does not fit {SMALL_VIT}: " in line


@pytest.mark.parametrize("name", [SMALL_VIT, "resnet18", "densenet-small", "efficientnet-lite0"])
def test_checkpointing_changes_neither_gradients_nor_running_statistics(name: str) -> None:
    kept, repeated = make_encoder(name, None), make_encoder(name, None, checkpoint=True)
    repeated.load_state_dict(kept.state_dict())

    for step in range(2):
        images = patches(3, 64, step)
        for encoder in (kept, repeated):
            encoder.train()
            torch.manual_seed(0)
            encoder(images).square().mean().backward()

    for (key, a), b in zip(kept.named_parameters(), repeated.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-6, msg=key)
    for (key, a), b in zip(kept.named_buffers(), repeated.buffers(), strict=True):
        assert torch.equal(a, b), key


def test_checkpointing_keeps_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(encoder: Encoder) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
            encoder(patches(4, 64))
        return sum(sizes)

    encoder = make_encoder("resnet18", None).train()
    before = kept(encoder)

    encoder.set_checkpointing()
    assert kept(encoder) < before / 2

    encoder.set_checkpointing(enable=False)
    assert kept(encoder) == before


def test_a_network_without_checkpointing_says_so() -> None:
    with pytest.raises(DataError, match="encoder _Tiny has no gradient checkpointing"):
        make_encoder("tiny", None, checkpoint=True)
