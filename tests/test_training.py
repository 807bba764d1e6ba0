"""The training loop: batches that fit, a schedule that ends, runs that fail out loud."""

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from helpers import Planted
from torch import nn

from hdstbench.plugins.plugin import Model, RunContext
from hdstbench.plugins.registry import found, load_model
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import block_batches, some_blocks, unit_batches
from hdstbench.torchkit.trainer import TUNED, TorchModel, Training, _Loop

TRAINED = [name for name in sorted(found()) if isinstance(load_model(name).recipes["common"], Training)]


def _context(folder: Path) -> RunContext:
    (folder / "scratch").mkdir()
    return RunContext(seed=0, scratch=folder / "scratch", cache=folder / "cache")


@pytest.mark.parametrize(("units", "sizes"), [(64, [64]), (65, [65]), (66, [64, 2]), (1, [1])])
def test_no_unit_is_trained_on_alone(planted: list[Planted], units: int, sizes: list[int]) -> None:
    slide = planted[0].slide

    batches = list(unit_batches(slide, 64, np.arange(units)))

    assert [len(b.index) for b in batches] == sizes


@pytest.mark.parametrize("size", [10, 64, 100, 128, 200])
def test_a_batch_of_blocks_is_no_larger_than_asked(planted: list[Planted], size: int) -> None:
    slide = planted[0].slide

    for batch in block_batches(slide, size, np.random.default_rng(0)):
        assert len(batch.index) <= max(size, 64)


def test_st_net_trains_where_a_batch_would_end_with_one_unit(planted: list[Planted], tmp_path: Path) -> None:
    plugin = load_model("st-net")
    model = plugin.build(replace(plugin.recipes["quick"], epochs=1))

    model.fit([planted[0].slide.take(np.arange(65))], [], _context(tmp_path))

    assert np.isfinite(model.predict(planted[1].slide.hidden())).all()


def test_the_error_of_the_kept_epoch_is_told(planted: list[Planted], tmp_path: Path) -> None:
    plugin = load_model("st-net")
    model, blind = (plugin.build(plugin.recipes["tiny"]) for _ in range(2))
    a, b, _ = (p.slide for p in planted)

    model.fit([a], [b], _context(tmp_path))
    (tmp_path / "blind").mkdir()
    blind.fit([a.take(np.arange(65))], [], _context(tmp_path / "blind"))

    error = model.predict(b.hidden()).astype(float) - b.need_labels().target()
    assert isinstance(model, TorchModel)
    assert model.validation == pytest.approx(np.mean(error**2))
    assert isinstance(blind, TorchModel)
    assert blind.validation is None


@pytest.mark.parametrize(
    ("name", "with_validation"), [*((name, True) for name in TRAINED), ("st-net", False)]
)
def test_a_training_that_diverges_fails(
    planted: list[Planted], tmp_path: Path, name: str, *, with_validation: bool
) -> None:
    plugin = load_model(name)
    wild = replace(plugin.recipes["tiny"], optimiser="sgd", learning_rate=1e12)
    a, b, c = (p.slide.take(np.concatenate(p.slide.blocks()[:4])) for p in planted)
    val: list[Slide] = [c] if with_validation else []

    with pytest.raises(ValueError, match=r"error is|loss is"):
        plugin.build(wild).fit([a, b], val, _context(tmp_path))


@pytest.mark.parametrize("name", ["st-net", "his-to-gene"])
def test_the_cosine_ends_near_one_per_cent(
    planted: list[Planted], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = load_model(name)
    rates = []
    step = _Loop._one_step

    def watched(self: _Loop, batch: object, labels: object, epoch: int) -> object:
        rates.append(self._factor())
        return step(self, batch, labels, epoch)  # type: ignore[arg-type]

    monkeypatch.setattr(_Loop, "_one_step", watched)
    config = replace(plugin.recipes["tiny"], schedule="cosine", epochs=5, batch_size=100, patience=0)

    train = [p.slide.take(np.concatenate(p.slide.blocks()[:4])) for p in planted[:2]]

    plugin.build(config).fit(train, [], _context(tmp_path))

    assert rates[0] == 1.0
    last = 1 - 100 / (5 * sum(map(len, train)))
    assert rates[-1] <= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * last))


def test_common_is_one_setting_for_all_trained_models() -> None:
    settings = {
        name: {f.name: getattr(load_model(name).recipes["common"], f.name) for f in fields(Training)}
        for name in TRAINED
    }

    assert len(settings) >= 2
    assert all(values == settings[TRAINED[0]] for values in settings.values()), settings


def _rates(model: Model) -> list[float]:
    assert isinstance(model, TorchModel)
    return [float(p.detach().abs().mean()) for p in model.net.parameters()]


def test_tuned_keeps_the_rate_that_validates_best(planted: list[Planted], tmp_path: Path) -> None:
    """A rate that hardly moves and one that diverges are tried beside a good one, which is kept."""
    plugin = load_model("st-net")
    tiny = replace(plugin.recipes["tiny"], patience=0)
    train, val = [planted[0].slide], [planted[1].slide]
    models = []
    for number, rates in enumerate([(1e-6, 1.0, 1e12), (1.0,)]):
        (tmp_path / str(number)).mkdir()
        model = plugin.build(replace(tiny, rates=rates))
        model.fit(train, val, _context(tmp_path / str(number)))
        models.append(model)

    assert _rates(models[0]) == _rates(models[1])


def test_rates_are_not_tried_without_validation_units(planted: list[Planted], tmp_path: Path) -> None:
    plugin, steps = load_model("st-net"), []
    config = replace(plugin.recipes["tiny"], rates=(1e-6, 1.0), epochs=1)
    context = replace(_context(tmp_path), report=steps.append)

    plugin.build(config).fit([planted[0].slide.take(np.arange(64))], [], context)

    assert steps[-1].share == 1.0
    assert {s.stage for s in steps} == {"epoch 1"}


@pytest.mark.parametrize("name", sorted(found()))
def test_tuned_is_official_with_three_rates(name: str) -> None:
    recipes = load_model(name).recipes

    if isinstance(recipes["official"], Training):
        assert recipes["tuned"] == replace(recipes["official"], rates=TUNED)
    else:
        assert recipes["tuned"] == recipes["official"]


def test_quick_validation_looks_at_whole_blocks_spread_over_each_slide(planted: list[Planted]) -> None:
    slides = [p.slide for p in planted[:2]]
    half = some_blocks(slides, sum(map(len, slides)) // 2)

    for slide, part in zip(slides, half, strict=True):
        blocks = {tuple(slide.rows("unit")[block]) for block in slide.blocks()}
        taken = {tuple(part.rows("unit")[block]) for block in part.blocks()}
        assert taken < blocks
        assert 0.3 * len(slide) < len(part) < 0.7 * len(slide)
    assert some_blocks(slides, 0) == slides
    assert [len(s) for s in some_blocks(slides, 10**6)] == [len(s) for s in slides]
    assert all(len(s.blocks()) == 1 for s in some_blocks(slides, 1))


def test_a_network_is_compiled_only_if_asked_for(
    planted: list[Planted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    plugin = load_model("st-net")
    plain = _context(tmp_path)
    for asked in (False, True):
        context = replace(plain, compile=asked)
        plugin.build(replace(plugin.recipes["tiny"], epochs=1)).fit([planted[0].slide], [], context)

    assert compiled == ["STNetwork"]
