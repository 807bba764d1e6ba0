"""Hist2ST ("His2ST"): HisToGene's transformer behind convolutions and before a graph of neighbours.

Paper: Zeng et al., Briefings in Bioinformatics 2022, doi:10.1093/bib/bbac297.

Differences from the authors' code are listed in PLUGIN.notes, so the leaderboard shows them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.arrays import CSR
from hdstbench.plugins.kept import Kept
from hdstbench.plugins.plugin import Cost, ModelPlugin, RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import Batch, BatchLabels, to_tensor
from hdstbench.torchkit.schedule import Schedule
from hdstbench.torchkit.space import SpaceName
from hdstbench.torchkit.trainer import TUNED, Optimiser, TorchModel, Training
from hdstbench_baselines.grid_graph import Prune, adjacency
from hdstbench_baselines.his2st_loss import (
    LossWeights,
    Truth,
    Window,
    augment,
    draw_copies,
    his2st_loss,
    his2st_terms,
)
from hdstbench_baselines.his2st_network import OFFICIAL, Hist2STNetwork, Plan, load_official, plan_of
from hdstbench_baselines.pixels import start_head, x_first
from hdstbench_baselines.positions import PositionMap
from hdstbench_baselines.windows import window_batches
from hdstbench_baselines.zinb import typical_total

__all__ = ["PLUGIN", "Hist2ST", "Hist2STConfig", "load_official"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hist2STConfig(Training):
    """The authors' settings for HER2+, without pruning of the graph.

    Attributes:
        batch_size: Means nothing: a step takes one window.
        weights: "none", or the authors' checkpoint; there is no image encoder.
        input_px: Side to which patches are resized first; 0 for as they are. The stem is as wide as
            makes a map of `plan.map_side`, and patches are brought to the nearest multiple of that.
        position_steps: Rows of the position tables, that array indices are divided among; 0 for a row
            an index.
        start_at_mean: Let the head start at the training mean, with zero weights; the authors' starts
            at random.
        standardise: Standardise colours by their mean and deviation over training patches; the authors
            take pixels as they are.
        neighbours: k nearest units of the window that a unit is joined to.
        prune: Which edges are left out again.
        self_loop: Make each unit a neighbour of itself; not so in the authors' code, where a unit's own
            state comes back on paths of two edges only.
        plan: Sizes of the network; its stem follows from the patches.
        loss: Weights of the loss.
    """

    weights: str = "none"
    epochs: int = 350
    batch_size: int = 1
    optimiser: Optimiser = "adam"
    learning_rate: float = 1e-5
    schedule: Schedule = "steps"
    patience: int = 20
    space: SpaceName = "log10"
    input_px: int = 0
    position_steps: int = 0
    start_at_mean: bool = False
    standardise: bool = False
    neighbours: int = 4
    prune: Prune = "NA"
    self_loop: bool = False
    plan: Plan = field(default_factory=Plan)
    loss: LossWeights = field(default_factory=LossWeights)


class Hist2ST(TorchModel):
    """Regress the units of a spatial window together, and the distribution of their counts."""

    net: Hist2STNetwork

    def __init__(self, config: Hist2STConfig) -> None:
        super().__init__(config)
        self.config = config
        self.stem, self.map_side, self.places = 1, config.plan.map_side, PositionMap(1)
        self.counts: dict[str, CSR] = {}
        self.typical: dict[str, float] = {}

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        px = self.config.input_px or train[0].patch_px["unit"]
        self.stem, self.map_side = stem_of(px, self.config.plan.map_side), self.config.plan.map_side
        self.places = PositionMap.of([*train, *val], self.config.position_steps)
        super().fit(train, val, context)

    @override
    def keep(self) -> Kept:
        sizes = {"stem": self.stem, "map_side": self.map_side, "extent": self.places.extent}
        return Kept(numbers=sizes)

    @override
    def restore(self, kept: Kept) -> None:
        self.stem, self.map_side = kept.numbers["stem"], kept.numbers["map_side"]
        self.places = PositionMap(kept.numbers["extent"], self.config.position_steps)

    @override
    def build(self, genes: int) -> nn.Module:
        loss, tensors = self.config.loss, OFFICIAL.read(self._context().weights)
        plan = replace(self.config.plan, stem=self.stem)
        if tensors is not None:
            plan = plan_of(OFFICIAL.need(tensors), plan)
            self.stem, self.map_side = plan.stem, plan.map_side
        plan = replace(plan, counts=loss.counts > 0, distils=loss.copies > 0)
        net = Hist2STNetwork(plan, self.places.rows, genes)
        if tensors is not None:
            OFFICIAL.start(net, tensors)
        return net

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Read counts and what is typical of each slide; start the network as wanted."""
        if self.config.standardise:
            self.net.scale.fit(train, self.side)
        if self.config.start_at_mean:
            start_head(self.net.head, self.training_mean(train))
        for slide in train:
            counts = slide.need_labels().counts()
            self.counts[slide.id] = counts
            self.typical[slide.id] = typical_total(counts)

    @override
    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        c = self.config
        for batch, view, members in window_batches(slide, rng):
            patches = to_tensor(view.patches("unit", members), self.device, self.side)
            grid = batch.inputs["grid"].numpy()
            graph = adjacency(grid, c.neighbours, c.prune, self_loop=c.self_loop)
            batch.inputs["patches"] = x_first(patches)
            batch.inputs["positions"] = self.places(grid).to(self.device)
            batch.inputs["neighbours"] = torch.from_numpy(graph).to(self.device)
            if rng is not None:
                batch.inputs["draws"] = draw_copies(rng, c.loss.copies)
            yield batch

    def labels(self, batch: Batch) -> BatchLabels:
        """Targets of a batch, and raw counts for the likelihood."""
        labels = super().labels(batch)
        counts = self.counts[batch.slide.id][batch.index].toarray()
        labels.counts = torch.from_numpy(counts.astype(np.float32)).to(self.device)
        return labels

    @override
    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        assert labels.counts is not None
        window, weights = _window(batch), self.config.loss
        scale = labels.counts.sum(dim=1) / self.typical[batch.slide.id]
        truth = Truth(labels.target, labels.counts, scale)
        copies = (augment(window.patches, draw) for draw in batch.inputs["draws"])
        return his2st_loss(his2st_terms(self.net, window, copies, truth, weights), weights)

    @override
    def infer(self, batch: Batch) -> Tensor:
        return self.net(*_window(batch))[batch.inputs["kept"].to(self.device)]

    @property
    def side(self) -> int:
        """Side of patches as the network takes them."""
        return self.stem * self.map_side


def stem_of(px: int, map_side: int) -> int:
    """Side of the stem that makes a map of a patch: 7 at 112 px, 14 at 224 px, for a map of 16."""
    return max(1, int(px / map_side + 0.5))


def _window(batch: Batch) -> Window:
    inputs = batch.inputs
    return Window(inputs["patches"], inputs["positions"], inputs["neighbours"])


OFFICIAL_RECIPE = Hist2STConfig()
SMALL = Plan(map_side=4, channels=32, mixers=1, depth=1, rounds=1, heads=2, head_width=16, dropout=0.0)
PLUGIN = ModelPlugin(
    name="his2st",
    kind="model",
    context="slide",
    recipes={
        "official": OFFICIAL_RECIPE,
        "tuned": replace(OFFICIAL_RECIPE, rates=TUNED),
        "common": replace(
            OFFICIAL_RECIPE,
            epochs=50,
            optimiser="sgd",
            learning_rate=1e-4,
            weight_decay=1e-4,
            schedule="cosine",
            patience=10,
            batch_size=256,
            space="task",
        ),
        "quick": replace(
            OFFICIAL_RECIPE,
            epochs=4,
            epoch_units=6_000,
            validation_units=3_000,
            optimiser="adamw",
            learning_rate=3e-3,
            weight_decay=1e-2,
            schedule="cosine",
            patience=0,
            input_px=16,
            start_at_mean=True,
            standardise=True,
            plan=SMALL,
            loss=LossWeights(counts=0.01, copies=1),
        ),
        "tiny": replace(
            OFFICIAL_RECIPE,
            epochs=6,
            optimiser="adamw",
            learning_rate=2e-2,
            patience=0,
            start_at_mean=True,
            standardise=True,
            neighbours=2,
            self_loop=True,
            plan=SMALL,
            loss=LossWeights(counts=1e-3, copies=1),
        ),
    },
    build=Hist2ST,
    paper="doi:10.1093/bib/bbac297",
    licence="none stated",
    notes=(
        "A step and a prediction take one spatial window, not a whole slide: a sampling block, or a tile of "
        "16 x 16 places of the array for native spots; the graph joins units of a window. No edge is pruned "
        "(the authors prune on HER2+, not on cSCC); equally near units are ranked by row, then column, where "
        "the authors' sort leaves it open; a unit without neighbours is its own, where theirs gives NaN for "
        "all. Position tables have a row an array index up to the largest of the training slides (the "
        "authors: 64, an error beyond); an index beyond counts as the last. The stem is as wide as makes a "
        "map of 16 x 16, so 14 px at 224 px, where the authors' 7 would make a network of 760 M parameters; "
        "patches of other sides are resized to the nearest multiple of 16. Pixels stay 0 to 255; patches "
        "over the image's edge are padded with white. The target is the task's in base 10: counts are scaled "
        "by all genes, not by the panel. Sizes of units in the ZINB term are totals of the panel by the "
        "median over the slide's training units, or by 1 where that is less. The epoch is chosen on inner "
        "validation blocks; the authors keep the last of 350, having watched the test slide. "
        "quick: map 4 x 4 of 16 px, width 64, one block and one graph layer, one augmented copy, ZINB "
        "weight 0.01 (with 0.25 some folds learn nothing in so few steps), colours standardised, head from "
        "the training mean, AdamW at 3e-3, 4 epochs. tiny: ZINB weight 0.001, self-loops, 2 neighbours."
    ),
    proven=(
        "States, predictions, the three parameters of the counts, the terms of the loss, all gradients, one "
        "step of Adam and the statistics of batch normalisation equal those of the authors' network of small "
        "size for the same state dict; so do both likelihoods, graphs of two layouts under three prunings "
        "(up to ties), pixels and sizes of units. How copies are augmented is written from the description "
        "and not shown equal."
    ),
    published=(
        "No: the paper's numbers leave out sections, not patients, and watched the test section; one stored "
        "output (0.289 on section B1) needs data that the suite does not hold."
    ),
    cost=Cost(parameters=73_543_085, gflop=0.26, memory_mb=3_062, batch=256),
)
