"""HisToGene: raw pixels and array places of a window's units, mixed by a transformer.

Paper: Pang, Su, Li, bioRxiv 2021.11.28.470212.

Differences from the authors' code are listed in PLUGIN.notes, so the leaderboard shows them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.plugins.kept import Kept
from hdstbench.plugins.plugin import Cost, ModelPlugin, RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import Batch, BatchLabels, to_tensor
from hdstbench.torchkit.space import SpaceName
from hdstbench.torchkit.trainer import TUNED, Optimiser, TorchModel, Training
from hdstbench_baselines.his_to_gene_network import OFFICIAL, HisToGeneNetwork, Plan, load_official, sizes_of
from hdstbench_baselines.pixels import flat_pixels, start_head
from hdstbench_baselines.positions import PositionMap
from hdstbench_baselines.windows import window_batches

__all__ = ["PLUGIN", "HisToGene", "HisToGeneConfig", "load_official"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HisToGeneConfig(Training):
    """The authors' settings, those of their tutorial where their files differ.

    Attributes:
        batch_size: Means nothing: a step takes one window.
        weights: "none", or the authors' checkpoint; there is no image encoder.
        input_px: Side to which patches are resized; 0 for as they are, which is what the authors'
            argument for the patch size does.
        position_steps: Rows of the position tables, that array indices are divided among; 0 for a row
            an index.
        start_at_mean: Let the head start at the training mean, with zero weights; the authors' starts
            at random.
        standardise: Standardise colours by their mean and deviation over training patches; the authors
            take pixels as they are.
        plan: Sizes of the network.
    """

    weights: str = "none"
    epochs: int = 100
    batch_size: int = 1
    optimiser: Optimiser = "adam"
    learning_rate: float = 1e-5
    patience: int = 10
    space: SpaceName = "log10"
    input_px: int = 0
    position_steps: int = 0
    start_at_mean: bool = False
    standardise: bool = False
    plan: Plan = field(default_factory=Plan)


class HisToGene(TorchModel):
    """Regress the units of a spatial window together."""

    net: HisToGeneNetwork

    def __init__(self, config: HisToGeneConfig) -> None:
        super().__init__(config)
        self.config = config
        self.px, self.places = config.input_px, PositionMap(1)

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        self.px = self.config.input_px or train[0].patch_px["unit"]
        self.places = PositionMap.of([*train, *val], self.config.position_steps)
        super().fit(train, val, context)

    @override
    def keep(self) -> Kept:
        return Kept(numbers={"px": self.px, "extent": self.places.extent})

    @override
    def restore(self, kept: Kept) -> None:
        self.px = kept.numbers["px"]
        self.places = PositionMap(kept.numbers["extent"], self.config.position_steps)

    @override
    def build(self, genes: int) -> nn.Module:
        plan, tensors = self.config.plan, OFFICIAL.read(self._context().weights)
        if tensors is not None:
            plan, self.px = sizes_of(OFFICIAL.need(tensors), plan)
        net = HisToGeneNetwork(plan, self.px, self.places.rows, genes)
        if tensors is not None:
            OFFICIAL.start(net, tensors)
        return net

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Standardise colours and start the head at the mean target, where that is wanted."""
        if self.config.standardise:
            self.net.scale.fit(train, self.px)
        if self.config.start_at_mean:
            start_head(self.net.head, self.training_mean(train))

    @override
    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        for batch, view, members in window_batches(slide, rng):
            patches = to_tensor(view.patches("unit", members), self.device, self.px)
            batch.inputs["pixels"] = flat_pixels(patches)
            batch.inputs["positions"] = self.places(batch.inputs["grid"].numpy()).to(self.device)
            yield batch

    @override
    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        return nn.functional.mse_loss(self._forward(batch), labels.target)

    @override
    def infer(self, batch: Batch) -> Tensor:
        return self._forward(batch)[batch.inputs["kept"].to(self.device)]

    def _forward(self, batch: Batch) -> Tensor:
        return self.net(batch.inputs["pixels"], batch.inputs["positions"])


OFFICIAL_RECIPE = HisToGeneConfig()
PLUGIN = ModelPlugin(
    name="his-to-gene",
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
            epochs=6,
            epoch_units=6_000,
            validation_units=3_000,
            optimiser="adamw",
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="cosine",
            patience=0,
            input_px=28,
            start_at_mean=True,
            standardise=True,
            plan=Plan(width=128, depth=2, heads=4, head_width=32),
        ),
        "tiny": replace(
            OFFICIAL_RECIPE,
            epochs=6,
            optimiser="adamw",
            learning_rate=3e-3,
            patience=0,
            input_px=14,
            start_at_mean=True,
            standardise=True,
            plan=Plan(width=32, depth=1, heads=2, head_width=16),
        ),
    },
    build=HisToGene,
    paper="doi:10.1101/2021.11.28.470212",
    licence="MIT",
    notes=(
        "A step and a prediction take one spatial window, not a whole slide: a sampling block, or a tile of "
        "16 x 16 places of the array for native spots; an epoch so has more steps. Position tables have a "
        "row an array index up to the largest of the training slides (the authors: 64, an error beyond); an "
        "index beyond counts as the last. Depth 8 and rate 1e-5 of the authors' tutorial. Patches of 224 px "
        "are taken as they are, as the authors' argument for the patch size does: the first layer then has "
        "154 M parameters. Pixels stay 0 to 255; patches over the image's edge are padded with white. The "
        "target is the task's in base 10: counts are scaled by all genes, not by the panel. The epoch is "
        "chosen on inner validation blocks; the authors keep the last of 100. Super-resolution is left out. "
        "quick: width 128, 2 blocks, 28 px, colours standardised, head from the training mean, AdamW at "
        "2e-3, 6 epochs."
    ),
    proven=(
        "Predictions, loss, all gradients and one step of Adam equal those of the authors' network of small "
        "size for the same state dict; so do the order of pixels, the array places and the raster of their "
        "super-resolution. The number of parameters is theirs. Checkpoints load by name, none missing or "
        "extra."
    ),
    published=(
        "No: the paper's numbers leave out sections, not patients, on other genes, and could not be checked; "
        "the released checkpoint lies on a file-sharing drive that could not be reached."
    ),
    cost=Cost(parameters=106_046_714, gflop=0.22, memory_mb=425, batch=256),
)
