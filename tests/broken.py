"""A plain model that keeps the contract, and ways to break it on purpose."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.spatial import cKDTree

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.prepared import load_images
from hdstbench.plugins.plugin import AnyPlugin, Model, ModelPlugin, Progress, RunContext
from hdstbench.protocol.labels import Labels
from hdstbench.protocol.slide import Slide


@dataclass(frozen=True)
class Config:
    """Share of the training units that is drawn, and whatever."""

    share: float = 0.5
    more: object = None


@dataclass
class Thawed:
    """A configuration that can be changed."""

    share: float = 0.5


class Honest:
    """A line a gene on the mean brightness of the unit's patch, fitted on units drawn by seed."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        x = np.concatenate([self.cached(slide, context) for slide in train])
        y = np.concatenate([slide.need_labels().target() for slide in train])
        drawn = self.draw(len(x), context)
        self.lines = np.polyfit(x[drawn], y[drawn], 1)
        context.report(Progress(share=1.0, stage="fitted"))

    def draw(self, count: int, context: RunContext) -> IntArray:
        rng = np.random.default_rng(context.seed)
        return rng.choice(count, int(count * self.config.share), replace=False)

    def predict(self, slide: Slide) -> FloatArray:
        return self.apply(brightness(slide))

    def apply(self, x: FloatArray) -> FloatArray:
        return (x[:, None] * self.lines[0] + self.lines[1]).astype(np.float32)

    def cached(self, slide: Slide, context: RunContext) -> FloatArray:
        """Brightness of a slide's units by way of the cache folder."""
        path = context.cache / f"{slide.key}-{len(slide)}.npy"
        if not path.is_file():
            context.cache.mkdir(parents=True, exist_ok=True)
            np.save(path, brightness(slide))
        return np.load(path)

    def save(self, folder: Path) -> None:
        np.save(folder / "lines.npy", self.lines)

    def load(self, folder: Path, context: RunContext) -> None:
        self.lines = np.load(folder / "lines.npy")


def brightness(slide: Slide) -> FloatArray:
    """Of the patch of each unit, in [0, 1], [N]."""
    return slide.patches("unit", np.arange(len(slide))).mean(axis=(1, 2, 3)) / 255


def plugin(build: Callable[[Config], Model] = Honest, **changed: Any) -> AnyPlugin:  # noqa: ANN401
    """A plugin of a model, with some fields changed."""
    made = ModelPlugin(
        name="made-up",
        kind="model",
        context="unit",
        recipes={"tiny": Config()},
        build=build,
        paper="none",
        licence="none",
        notes="A model of the tests.",
    )
    return dataclasses.replace(made, **changed)


def predicts(change: Callable[[Slide, FloatArray], object]) -> type[Honest]:
    """A model whose predictions of a slide are changed."""

    class Changed(Honest):
        def predict(self, slide: Slide) -> FloatArray:
            return change(slide, super().predict(slide))  # type: ignore[return-value]

    return Changed


def fits(change: Callable[[Sequence[Slide], Sequence[Slide], RunContext], object]) -> type[Honest]:
    """A model that does something more once it is fitted."""

    class Changed(Honest):
        def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
            super().fit(train, val, context)
            change(train, val, context)

    return Changed


def draws(choose: Callable[[int, RunContext], IntArray]) -> type[Honest]:
    """A model that draws its training units in another way."""

    class Changed(Honest):
        def draw(self, count: int, context: RunContext) -> IntArray:
            return choose(count, context)

    return Changed


def fail(text: str) -> None:
    """Raise, where a statement cannot stand."""
    raise RuntimeError(text)


class Nearest(Honest):
    """Predicts the mean of the nearest training units of the same slide; sees no picture."""

    save = load = None

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        self.known = {}
        for slide in train:
            drawn = self.draw(len(slide), context)
            self.known[slide.id] = cKDTree(slide.xy_um[drawn]), slide.need_labels().target(drawn)

    def predict(self, slide: Slide) -> FloatArray:
        tree, target = self.known[slide.id]
        return target[tree.query(slide.xy_um, 6)[1]].mean(axis=1)


class RemembersTheLastSlide(Honest):
    """Predicts a slide otherwise after another one."""

    last = ""

    def predict(self, slide: Slide) -> FloatArray:
        other, self.last = self.last not in ("", slide.id), slide.id
        return super().predict(slide) + np.float32(1e-3 * other)


class KeepsTraining(Honest):
    """As with batch normalisation that was left in training mode: every prediction changes the model."""

    def predict(self, slide: Slide) -> FloatArray:
        self.lines = self.lines * 0.999
        return super().predict(slide)


class RoundsCached(Honest):
    """Takes from the cache what differs from what it put there."""

    def cached(self, slide: Slide, context: RunContext) -> FloatArray:
        warm = (context.cache / f"{slide.key}-{len(slide)}.npy").is_file()
        found = super().cached(slide, context)
        return found.round(1) if warm else found


class RoundsSaved(Honest):
    """Loads what differs from what it saved."""

    def load(self, folder: Path, context: RunContext) -> None:
        super().load(folder, context)
        self.lines = self.lines.astype(np.float16)


class SavesAlone(Honest):
    """Cannot be loaded."""

    load = None


class ChangesConfig(Honest):
    """Works around the freezing of its configuration."""

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        super().fit(train, val, context)
        object.__setattr__(self.config, "share", 0.25)


class Flat(Honest):
    """Predicts the same everywhere."""

    def apply(self, x: FloatArray) -> FloatArray:
        return super().apply(np.full(len(x), 0.5))


def swapped(slide: Slide, out: FloatArray) -> FloatArray:
    other = {"NOISE": "CONSTANT", "CONSTANT": "NOISE"}
    return out[:, [slide.genes.index(other.get(gene, gene)) for gene in slide.genes]]


def not_a_number(slide: Slide, out: FloatArray) -> FloatArray:
    out[:, slide.genes.index("CONSTANT")] = np.nan
    return out


def of_disk(slide: Slide, out: FloatArray) -> FloatArray:
    labels = Labels.open(
        slide._folder.parent / "labels", ("NOISE",), slide.target, {"unit": slide.rows("unit")}
    )
    out[:, slide.genes.index("NOISE")] = labels.target()[:, 0]
    return out


def of_labels(slide: Slide, out: FloatArray) -> FloatArray:
    return out if slide.labels is None else (out + slide.labels.target()) / 2


def of_surroundings(slide: Slide, out: FloatArray) -> FloatArray:
    tiles = slide.tiles_around(np.arange(len(slide)), 3)
    return (out + 0.3 * tiles.mean(axis=(1, 2, 3, 4))[:, None] / 255).astype(np.float32)


def of_blocks(slide: Slide, out: FloatArray) -> FloatArray:
    whole = slide.whole()
    mean = {int(whole.block_of[b[0]]): brightness(whole.take(b)).mean() for b in whole.blocks()}
    return out + np.array([[mean[int(block)]] for block in slide.block_of], np.float32).reshape(-1, 1)


def of_slide(slide: Slide, out: FloatArray) -> FloatArray:
    return out + np.float32(brightness(slide.whole()).mean())


def of_memory(slide: Slide, out: FloatArray) -> FloatArray:
    """The test slide's noise by heart: what a leak anywhere would amount to."""
    column, places = slide.genes.index("NOISE"), map(tuple, slide.grid.tolist())
    out[:, column] = [TRUTH.get((slide.id, *place), 7.0) for place in places]
    return out


TRUTH: dict[tuple[str, int, int], float] = {}
"""Target of NOISE by slide, row and column."""


def known_panel(slide: Slide, out: FloatArray) -> FloatArray:
    """Right with one panel, wrong with any other."""
    return out[:, [slide.genes.index(gene) for gene in ("NOISE", "BRIGHT", "CONSTANT")]]


def of_batch(_: Slide, out: FloatArray) -> FloatArray:
    return out - out[:, 1:2].sum() / max(len(out), 1) + 8


def of_order(slide: Slide, out: FloatArray) -> FloatArray:
    return out + np.float32(0.001 * (np.diff(slide.rows("unit")) < 0).any())


def of_pixels(slide: Slide, out: FloatArray) -> FloatArray:
    return out + np.float32(load_images(slide._folder, "unit").mean() / 255)


def into_slide(slide: Slide, out: FloatArray) -> FloatArray:
    (slide._folder / "mine").touch()
    return out


def change_rows(_: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
    if val:
        val[1].rows("unit")[0] = val[1].rows("unit")[1]


def lock(*_: object) -> None:
    Path("lock").touch()
    Path("lock").unlink()


def tell(share: float, loss: float | None = None) -> Callable[..., None]:
    return lambda t, v, c: c.report(Progress(share=share, stage="half", loss=loss))


def unseeded(count: int, _: RunContext) -> IntArray:
    return np.random.default_rng().choice(count, count // 2)


BAD_PLUGINS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "has no paper": ({"paper": " "}, {"plugin"}),
    "is of no kind": ({"kind": "network"}, {"plugin"}),
    "has a recipe that can be changed": ({"recipes": {"tiny": Thawed()}}, {"recipes"}),
    "has a recipe that cannot be sent": (
        {"recipes": {"tiny": Config(), "big": Config(more=lambda: 0)}},
        {"recipes"},
    ),
    "excepts what is no check": ({"exceptions": {"signall": "typo"}}, {"exceptions"}),
    "excepts without a reason": ({"build": Flat, "exceptions": {"signal": " "}}, {"exceptions"}),
    "excepts what it passes": ({"exceptions": {"noise": "it used to"}}, {"noise"}),
    "looks at the slide, says block": ({"build": predicts(of_slide), "context": "block"}, {"context"}),
}
BAD_PREDICTIONS: dict[str, tuple[Callable[[Slide, FloatArray], object], set[str]]] = {
    "gives doubles": (lambda s, out: out.astype(float), {"dtype"}),
    "gives NaN for a gene": (not_a_number, {"finite"}),
    "swaps two genes": (swapped, {"columns"}),
    "sorts genes": (lambda s, out: out[:, np.argsort(s.genes)], {"columns", "signal"}),
    "knows one panel": (known_panel, {"columns"}),
    "fails on one unit": (lambda s, out: out if len(s) != 1 else fail("one"), {"sizes"}),
    "squeezes one unit": (lambda s, out: out.squeeze(), {"sizes"}),
    "fails on no units": (lambda s, out: out if len(s) else fail("none"), {"sizes"}),
    "fails on more units": (lambda s, out: out[:800], {"sizes", "earlier-slides"}),
    "sees whether a view is whole": (lambda s, out: out + 0.001 * (len(s) < len(s.whole())), {"parts"}),
    "looks at batch mates": (of_batch, {"parts", "context"}),
    "looks at the order": (of_order, {"order"}),
    "looks at other units": (of_slide, {"context"}),
    "looks at its block's units": (of_blocks, {"context"}),
    "looks around": (of_surroundings, {"context"}),
    "looks at all pixels": (of_pixels, {"context"}),
    "takes labels that are given": (of_labels, {"labels"}),
    "reads labels from the disk": (of_disk, {"labels", "noise", "context"}),
    "knows the test slide": (of_memory, {"noise"}),
    "writes into a slide": (into_slide, {"inputs"}),
}
BAD_FITS: dict[str, tuple[Callable[..., object], set[str]]] = {
    "tells percent": (tell(50.0), {"progress"}),
    "tells a loss that is none": (tell(0.5, np.nan), {"progress"}),
    "changes counts": (lambda t, v, c: t[0].labels.library.__setitem__(0, 1), {"inputs"}),
    "changes rows": (change_rows, {"inputs"}),
    "writes where it is": (lambda t, v, c: np.save("top.npy", np.ones(1)), {"writes"}),
    "writes and tidies": (lock, {"writes"}),
    "writes by compiled code": (lambda t, v, c: h5py.File("x.h5", "w").close(), {"writes"}),
    "writes beside scratch": (lambda t, v, c: (c.scratch.parents[1] / "state").touch(), {"writes"}),
}
BAD_DRAWS: dict[str, tuple[Callable[[int, RunContext], IntArray], set[str]]] = {
    "draws without a seed": (unseeded, {"same-seed", "warm-cache"}),
    "knows a folder's name": (lambda n, c: np.arange(c.seed + (c.cache.name == "cold"), n), {"same-seed"}),
    "ignores the seed": (lambda n, c: np.arange(n), {"other-seed"}),
}
PREDICTED_AGAIN = {
    "parts",
    "order",
    "context",
    "labels",
    "earlier-slides",
    "same-seed",
    "warm-cache",
    "save-load",
}
BAD_MODELS: dict[str, tuple[type[Honest], set[str]]] = {
    "learns nothing": (Flat, {"signal"}),
    "remembers the last slide": (RemembersTheLastSlide, {"earlier-slides"}),
    "keeps training": (KeepsTraining, PREDICTED_AGAIN),
    "fits otherwise with a warm cache": (RoundsCached, {"warm-cache"}),
    "loads something else": (RoundsSaved, {"save-load"}),
    "saves and does not load": (SavesAlone, {"save-load"}),
    "changes its configuration": (ChangesConfig, {"inputs"}),
}
BROKEN: dict[str, tuple[AnyPlugin, set[str]]] = {
    **{name: (plugin(**fields), wanted) for name, (fields, wanted) in BAD_PLUGINS.items()},
    **{name: (plugin(predicts(change)), wanted) for name, (change, wanted) in BAD_PREDICTIONS.items()},
    **{name: (plugin(fits(change)), wanted) for name, (change, wanted) in BAD_FITS.items()},
    **{name: (plugin(draws(choose)), wanted) for name, (choose, wanted) in BAD_DRAWS.items()},
    **{name: (plugin(model), wanted) for name, (model, wanted) in BAD_MODELS.items()},
}
"""What is wrong with a model, and the checks that fail because of it."""
