"""TRIPLEX: a unit's patch, the 5 x 5 tiles around it and its whole slide, fused by attention.

Paper: Chung et al., "Accurate Spatial Gene Expression Prediction by Integrating Multi-Resolution
Features", CVPR 2024, arXiv:2403.07592.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.plugins.kept import Kept
from hdstbench.plugins.plugin import Cost, ModelPlugin, RunContext
from hdstbench.plugins.weights import OFFLINE
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import SYMMETRIES, Batch, BatchLabels, to_tensor, turn, unit_batches
from hdstbench.torchkit.encoders import make_encoder, read_weights
from hdstbench.torchkit.features import FeatureSpec
from hdstbench.torchkit.official import for_frozen
from hdstbench.torchkit.trainer import TUNED, TorchModel
from hdstbench_baselines.triplex_config import TriplexConfig
from hdstbench_baselines.triplex_network import Outputs, Triplex, triplex_loss
from hdstbench_baselines.triplex_official import OFFICIAL, load_official, stacks_of
from hdstbench_baselines.triplex_slide import Known, Wanted, look_up, part_for
from hdstbench_baselines.triplex_whole import Stack

__all__ = ["PLUGIN", "TriplexConfig", "TriplexModel", "load_official"]

UNIT = "unit"


class TriplexModel(TorchModel):
    """Regress each unit from three views; a batch is of one slide, which goes through as a whole."""

    net: Triplex

    def __init__(self, config: TriplexConfig) -> None:
        super().__init__(config)
        self.config = config
        self.known: dict[str, Known] = {}
        self.features = 0
        """Width of the frozen features, where there is no training slide to ask."""

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        self.first, self.known = train[0], {}
        super().fit(train, val, context)

    @override
    def keep(self) -> Kept:
        width = 0 if self.config.train_encoder else self._known(self.first).features.shape[1]
        return Kept(numbers={"features": width})

    @override
    def restore(self, kept: Kept) -> None:
        self.features, self.known = kept.numbers["features"], {}

    @override
    def build(self, genes: int) -> nn.Module:
        c, context = self.config, self._context()
        tensors = read_weights(context.weights) if context.weights else {}
        known = OFFICIAL.knows(tensors)
        self.frozen = for_frozen(context, "TRIPLEX", c.encoder, c.weights) if known else context
        stacks = (c.fusion, c.whole, c.around)
        if known:
            stacks = stacks_of(OFFICIAL.need(tensors), stacks)
        encoder = make_encoder(c.encoder, self.frozen.weights) if c.train_encoder else None
        net = Triplex(
            encoder,
            encoder.width if encoder else self.features or self._known(self.first).features.shape[1],
            c.width,
            genes,
            stacks,
            own_tiles=c.neighbours == "tiles",
        )
        if known:
            OFFICIAL.start(net, tensors)
        return net

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Start the heads at the mean target, if that is wanted."""
        if self.config.start_at_mean:
            mean = self.training_mean(train)
            with torch.no_grad():
                for head in self.net.heads():
                    head.weight.zero_()
                    head.bias.copy_(mean)

    @override
    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        known, rows = self._known(slide), slide.rows(UNIT)
        order = None if rng is None else rng.permutation(len(slide))
        context = self._of_slide(known) if rng is None else {}
        for batch in unit_batches(slide, self.config.batch_size, order):
            mine = rows[batch.index]
            batch.inputs |= {
                "rows": torch.from_numpy(mine).to(self.device),
                "target": self._target(batch, known, rng),
                "inside": torch.from_numpy(known.inside[mine]).to(self.device),
                **context,
            }
            if known.tiles is None:
                batch.inputs["near"] = torch.from_numpy(known.near[mine]).to(self.device)
            else:
                batch.inputs["tiles"] = torch.from_numpy(known.tiles[mine].astype(np.float32)).to(self.device)
            yield batch

    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        """Seven squared errors; the slide goes through with gradients, as far as it matters here."""
        known, near = self._known(batch.slide), batch.inputs.get("near")
        part = part_for(known, batch.inputs["rows"], near, deep=self.config.whole.depth > 1)
        entered = self.net.enter_whole(known.features[part.units])
        whole = self.net.whole(entered, part.places, part.keys, part.rows)
        around = batch.inputs["tiles"] if near is None else entered[part.number[near]]
        out = self._forward(batch, around, whole)
        return triplex_loss(out, labels.target, detach_fusion=self.config.detach_fusion)

    def infer(self, batch: Batch) -> Tensor:
        """What the fusion says."""
        near, inputs = batch.inputs.get("near"), batch.inputs
        around = inputs["tiles"] if near is None else inputs["entered"][near]
        return self._forward(batch, around, inputs["whole"][inputs["rows"]]).fused

    def _of_slide(self, known: Known) -> dict[str, Tensor]:
        """All units of a slide as they enter the global branch and as they leave it, each [N, D]."""
        with self.autocast():
            entered = self.net.enter_whole(known.features)
            return {"entered": entered, "whole": self.net.whole(entered, known.places, known.keys)}

    def _forward(self, batch: Batch, around: Tensor, whole: Tensor) -> Outputs:
        target, inside = batch.inputs["target"], batch.inputs["inside"]
        if self.net.encoder is not None:
            target = self.net.target_tokens(self.net.encoder.prepare(target))
        out: Outputs = self.net(target, around * inside[:, :, None], inside, whole)
        return out

    def _target(self, batch: Batch, known: Known, rng: np.random.Generator | None) -> Tensor:
        if known.target is not None:
            rows = batch.slide.rows(UNIT)[batch.index]
            return torch.from_numpy(known.target[rows]).to(self.device)
        patches = to_tensor(batch.slide.patches(UNIT, batch.index), self.device, self.config.input_px)
        if rng is None:
            return patches
        return turn(patches, torch.from_numpy(rng.integers(SYMMETRIES, size=len(patches))).to(self.device))

    def _known(self, slide: Slide) -> Known:
        """Look a slide up, read once."""
        if slide.key not in self.known:
            c = self.config
            spec = FeatureSpec(encoder=c.encoder, level=UNIT, input_px=c.input_px)
            wanted = Wanted(
                spec=spec,
                target_grid=None if c.train_encoder else c.target_grid,
                tiles=c.neighbours == "tiles",
                global_keys=c.global_keys,
            )
            self.known[slide.key] = look_up(slide.whole(), wanted, self.frozen)
        return self.known[slide.key]


_SGD = TriplexConfig(
    epochs=50,
    batch_size=256,
    optimiser="sgd",
    momentum=0.9,
    weight_decay=1e-4,
    schedule="cosine",
    patience=10,
    space="task",
)
_SMALL = Stack(depth=1, heads=4, ratio=1, dropout=0.0)

PLUGIN = ModelPlugin(
    name="triplex",
    kind="model",
    context="slide",
    recipes={
        "official": TriplexConfig(),
        "tuned": TriplexConfig(rates=TUNED),
        "common": _SGD,
        "quick": TriplexConfig(
            encoder=OFFLINE,
            train_encoder=False,
            target_grid=0,
            width=64,
            fusion=_SMALL,
            whole=_SMALL,
            around=_SMALL,
            neighbours="units",
            global_keys=256,
            start_at_mean=True,
            epochs=5,
            epoch_units=3_000,
            validation_units=3_000,
            batch_size=128,
            optimiser="adamw",
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="cosine",
            patience=0,
        ),
        "tiny": TriplexConfig(
            encoder="tiny",
            weights="none",
            width=16,
            fusion=Stack(depth=1, heads=2, ratio=1, dropout=0.0),
            whole=Stack(depth=2, heads=2, ratio=1, dropout=0.0),
            around=Stack(depth=1, heads=2, ratio=1, dropout=0.0),
            global_keys=200,
            start_at_mean=True,
            epochs=3,
            batch_size=32,
            optimiser="adamw",
            learning_rate=1e-2,
            schedule="cosine",
        ),
    },
    build=TriplexModel,
    paper="arXiv:2403.07592 (CVPR 2024)",
    licence="none stated",
    notes=(
        "The network of the CVPR release, her2st settings (its later code differs). Unlike it: tokens of "
        "the slide follow their units in any order; units that share an array cell stand there as their "
        "mean; all-zero features and a single row or column do no harm; all dropout is off in prediction; "
        "attention is fused, which gives the same numbers; the bias of tiles is never stale. A batch is of "
        "one slide, so that the slide goes through once a step; in prediction once a slide, whatever part "
        "of it is asked for. The slide is all its prepared units, in training too, without labels; so the "
        "slide and the tiles around a unit show pixels of validation and, within slides, of tested units, "
        "never their labels. In a slide of more than `global_keys` units all look at that many, spread over "
        "its array. Tiles are as large as a unit's patch; frozen features of tiles are kept in half "
        "precision; the middle tile always counts. `pretrained` is whatever ResNet-18 the weights folder "
        "holds, where the authors have one trained on histology. The target is log1p of counts per 10,000 "
        "over all genes divided by ln 10, not over the panel, and not smoothed over neighbours. Adam and "
        "its schedule as published, in full precision unless asked otherwise; the epoch is chosen by "
        "squared error on inner validation blocks, not by correlation on the test fold. Where the encoder "
        "is not as wide as the network, each branch has a linear layer in front. quick: EfficientNet-Lite0 "
        "(ImageNet) frozen in all branches, one token a patch, width 64, one block a branch, no dropout, "
        "256 keys, heads that start at the training mean, and for each tile the nearest prepared unit "
        "within half a tile in place of its own pixels."
    ),
    proven=(
        "Four outputs of a whole slide and of a part of it, the position layer, the training loss over two "
        "slides and all its gradients, on the authors' module at small size with dropout at 0; the number "
        "of parameters of its three published settings. Checkpoints load by name, none missing or extra."
    ),
    published=(
        "None was reproduced: the published numbers are of smoothed labels, checkpoints chosen on the test "
        "fold, and a ResNet-18 trained on histology whose weights are not in the suite."
    ),
    cost=Cost(parameters=43_206_584, gflop=1.75, memory_mb=2_619, batch=128),
)
