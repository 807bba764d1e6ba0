"""The released MagNet in the suite: it predicts other nodes' profiles, from random batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Planted
from safetensors.torch import save_file

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench_magnet import PUBLISHED_PLUGIN
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.official import OFFICIAL
from hdstbench_magnet.published import PublishedMagNet

TINY: MagNetConfig = PUBLISHED_PLUGIN.recipes["tiny"]


def _context(folder: Path, weights: Path | None = None) -> RunContext:
    return RunContext(seed=0, scratch=folder, cache=folder / "cache", weights=weights)


def _official_names(model: PublishedMagNet) -> dict[str, torch.Tensor]:
    """The state dict of a fitted model as its authors would have saved it."""
    out: dict[str, torch.Tensor] = {}
    for name, value in model.net.state_dict().items():
        for level, px in (("spot", "224"), ("region", "512"), ("unit", "112")):
            name = name.replace(f"body.rounds.{level}.", f"gat_layer_{px}.")  # noqa: PLW2901
            name = name.replace(f"body.attend.{level}.attention.", f"cross_attention_{px}.")  # noqa: PLW2901
        name = name.replace(".project.weight", ".weight").replace("project.unit.", "encoder.fc.")  # noqa: PLW2901
        name = name.replace("encoder.net.", "encoder.").replace("body.heads.all.", "gene_head_250.")  # noqa: PLW2901
        name = name.replace("body.mixer.place", "transformer.positional_encoding")  # noqa: PLW2901
        name = name.replace("body.mixer.layers.", "transformer.transformer_encoder.")  # noqa: PLW2901
        out[name] = value
    for name in [name for name in out if ".in_proj_" in name]:
        stem, kind = name.split(".in_proj_")
        if stem.startswith("cross_attention"):
            for part, value in zip(("query", "key", "value"), out.pop(name).chunk(3), strict=True):
                out[f"{stem}.{part}_proj.{kind}"] = value.clone()
    return {name: value for name, value in out.items() if name not in ("encoder.mean", "encoder.std")}


def test_a_unit_is_predicted_from_others(
    planted: list[Planted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a unit's own patch shows hardly matters; what all others show does."""
    slide = planted[0].slide.hidden()
    model = PublishedMagNet(replace(TINY, epochs=1))
    model.fit([planted[0].slide], [], _context(tmp_path))
    own, true = np.arange(len(slide)) < 32, Slide.patches
    whole = model.predict(slide)

    def black(which: np.ndarray) -> np.ndarray:
        def patches(view: Slide, level: str, index: np.ndarray) -> np.ndarray:
            out = true(view, level, index)
            out[which[index]] = 0
            return out

        monkeypatch.setattr(Slide, "patches", patches)
        return np.abs(model.predict(slide) - whole)[own].mean()

    assert black(~own) > 3 * black(own) > 0


def test_it_starts_from_a_checkpoint_of_the_released_network(planted: list[Planted], tmp_path: Path) -> None:
    slide = planted[0].slide
    first = PublishedMagNet(replace(TINY, epochs=1))
    first.fit([slide], [], _context(tmp_path))
    path = tmp_path / "magnet.safetensors"
    save_file(_official_names(first), path)

    again = PublishedMagNet(replace(TINY, epochs=0))
    again.fit([slide], [], _context(tmp_path, path))

    before, after = first.net.state_dict(), again.net.state_dict()
    anew = {name for name in before if name.startswith("body.heads.all.1.")}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - anew)


def test_a_checkpoint_of_another_size_is_refused(planted: list[Planted], tmp_path: Path) -> None:
    slide = planted[0].slide
    first = PublishedMagNet(replace(TINY, epochs=1))
    first.fit([slide], [], _context(tmp_path))
    path = tmp_path / "magnet.safetensors"
    save_file(_official_names(first), path)

    with pytest.raises(DataError, match="no MagNet checkpoint of the wanted size"):
        PublishedMagNet(replace(TINY, width=32)).fit([slide], [], _context(tmp_path, path))


def test_every_random_draw_has_its_seed(planted: list[Planted], tmp_path: Path) -> None:
    slide = planted[0].slide
    out = []
    for _ in range(2):
        model = PublishedMagNet(replace(TINY, epochs=1))
        model.fit([slide], [], _context(tmp_path))
        out.append(model.predict(slide.hidden()))

    np.testing.assert_array_equal(*out)


def test_the_basis_of_coarse_features_differs_from_slide_to_slide(
    planted: list[Planted], tmp_path: Path
) -> None:
    """As in the released feature script; so what is learnt of them carries nowhere."""
    model = PublishedMagNet(TINY)
    bases = [model.frozen._basis(p.slide, "spot", 16, _context(tmp_path))[0] for p in planted[:2]]

    assert not np.allclose(*bases)
    assert "body.mixer.place" in OFFICIAL.rename({"transformer.positional_encoding": torch.zeros(1)})
