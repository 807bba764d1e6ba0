"""BLEEP: patches and expression in one space; a prediction is the mean of the nearest training units.

Paper: Xie et al., "Spatially Resolved Gene Expression Prediction from H&E Histology Images via
Bi-modal Contrastive Learning", NeurIPS 2023, arXiv:2306.01859.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.errors import DataError
from hdstbench.plugins.kept import Kept
from hdstbench.plugins.plugin import Cost, ModelPlugin, RunContext
from hdstbench.plugins.weights import OFFLINE
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import (
    SYMMETRIES,
    Batch,
    BatchLabels,
    some_blocks,
    to_tensor,
    turn,
    unit_batches,
)
from hdstbench.torchkit.encoders import make_encoder, read_weights
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench.torchkit.trainer import TUNED, Optimiser, TorchModel, Training
from hdstbench_baselines.bleep_network import (
    OFFICIAL,
    BLEEPNetwork,
    Combine,
    combined,
    contrastive,
    load_official,
)
from hdstbench_baselines.retrieval import Bank, one_source, sources_of

__all__ = ["BLEEP", "OFFICIAL", "PLUGIN", "BLEEPConfig", "load_official"]

CHUNK = 2**16
"""Training units that are embedded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BLEEPConfig(Training):
    """The authors' settings.

    Attributes:
        frozen: Take cached features of the encoder instead of training it.
        input_px: Side to which patches are resized; 0 for as they are.
        embedding: Width E of the space of patches and expression.
        temperature: By which similarities are divided.
        detach_targets: Let no gradient flow through the soft targets.
        neighbours: Training units that a prediction is made of.
        bank_units: Training units that may be retrieved, whole blocks of each slide; 0 for all.
        combine: Their mean, the nearest alone, or a mean that weighs by distance.
    """

    encoder: str = "resnet50"
    weights: str = "pretrained"
    epochs: int = 150
    batch_size: int = 128
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    patience: int = 15
    frozen: bool = False
    input_px: int = 0
    embedding: int = 256
    dropout: float = 0.1
    temperature: float = 1.0
    detach_targets: bool = False
    neighbours: int = 50
    bank_units: int = 0
    combine: Combine = "average"


class BLEEP(TorchModel):
    """Find the training units whose expression lies nearest to a unit's patch."""

    net: BLEEPNetwork

    def __init__(self, config: BLEEPConfig) -> None:
        super().__init__(config)
        self.config = config
        self._bank: Bank | None = None
        self._width = 0

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        """Train; where the encoder is frozen, its features say how wide they are."""
        self.context = context
        self._width = self._features(train[0]).shape[1] if self.config.frozen else 0
        super().fit(train, val, context)

    @override
    def keep(self) -> Kept:
        bank = {"values": self._values.cpu().numpy(), "keys": self._keys.cpu().numpy()}
        return Kept(arrays=bank, numbers={"width": self._width})

    @override
    def restore(self, kept: Kept) -> None:
        self._width, self._tested = kept.numbers["width"], True
        self._values = torch.from_numpy(kept.arrays["values"]).to(self.device)
        self._keys = torch.from_numpy(kept.arrays["keys"]).to(self.device)
        self._bank = Bank(self._keys, one_source(self._keys), "cosine")

    @override
    def build(self, genes: int) -> nn.Module:
        c, weights = self.config, self._context().weights
        tensors = read_weights(weights) if weights else {}
        known = OFFICIAL.knows(tensors)
        if known and c.frozen:
            msg = (
                f"{weights} is a BLEEP checkpoint, and this recipe trains no encoder: take --recipe official"
            )
            raise DataError(msg)
        encoder = None if c.frozen else make_encoder(c.encoder, None if known else weights)
        width = encoder.width if encoder else self._width
        net = BLEEPNetwork(encoder, width, genes, embedding=c.embedding, dropout=c.dropout)
        if known:
            OFFICIAL.start(net, tensors)
        return net

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Keep what the training units measured: predictions are means of it."""
        kept = some_blocks(train, self.config.bank_units)
        targets = np.concatenate([slide.need_labels().target() for slide in kept])
        self._values = torch.from_numpy(self.space.inward(targets)).to(self.device)
        self._sources, self._bank, self._tested = sources_of(kept), None, False

    def finish(self, train: Sequence[Slide]) -> None:
        """Embed the training units by the weights that were kept; all may be retrieved from here on."""
        self.net.eval()
        self._tested = True
        self._embed()

    @override
    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        order = None if rng is None else rng.permutation(len(slide))
        features = self._features(slide) if self.config.frozen else None
        for batch in unit_batches(slide, self.config.batch_size, order):
            if features is not None:
                batch.inputs["image"] = features[batch.index].to(self.device)
            else:
                batch.inputs["image"] = self._patches(batch, rng)
            yield batch

    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        """Contrast patches with expressions; the bank is of older weights from here on."""
        self._bank, c = None, self.config
        image, spot = self.net(batch.inputs["image"]), self.net.spot(labels.target)
        with torch.autocast(self.device, enabled=False):  # similarities are too large for bfloat16
            return contrastive(image.float(), spot.float(), c.temperature, detach=c.detach_targets)

    def infer(self, batch: Batch) -> Tensor:
        """Combine what the nearest training units measured; NaN where an embedding is not finite."""
        query, bank = self.net(batch.inputs["image"]).float(), self._bank or self._embed()
        if not (query.isfinite().all() and self._keys.isfinite().all()):
            return query.new_full((len(query), self._values.shape[1]), torch.nan)
        own = None if self._tested else batch.slide.id
        found = torch.from_numpy(bank.nearest(query, own, self.config.neighbours))
        found = found.to(query.device)
        return combined(self.config.combine, self._values[found], query, self._keys[found])

    def _embed(self) -> Bank:
        """Make the bank of all training units by the weights as they are."""
        with torch.no_grad(), torch.autocast(self.device, enabled=False):
            self._keys = torch.cat([self.net.spot(values) for values in self._values.split(CHUNK)])
        self._bank = Bank(self._keys, self._sources, "cosine")
        return self._bank

    def _features(self, slide: Slide) -> Tensor:
        spec = FeatureSpec(encoder=self.config.encoder, level="unit", input_px=self.config.input_px)
        return torch.from_numpy(frozen_features([slide], spec, self._context())[0])

    def _patches(self, batch: Batch, rng: np.random.Generator | None) -> Tensor:
        patches = to_tensor(batch.slide.patches("unit", batch.index), self.device, self.config.input_px)
        if rng is None:
            return patches
        chosen = torch.from_numpy(rng.integers(SYMMETRIES, size=len(patches)))
        return turn(patches, chosen.to(self.device))


_OFFICIAL = BLEEPConfig()

PLUGIN = ModelPlugin(
    name="bleep",
    kind="model",
    context="unit",
    recipes={
        "official": _OFFICIAL,
        "tuned": replace(_OFFICIAL, rates=TUNED),
        "common": replace(
            _OFFICIAL,
            epochs=50,
            batch_size=256,
            optimiser="sgd",
            learning_rate=1e-4,
            weight_decay=1e-4,
            schedule="cosine",
            patience=10,
        ),
        "quick": replace(
            _OFFICIAL,
            encoder=OFFLINE,
            frozen=True,
            epochs=4,
            epoch_units=20_000,
            validation_units=3_000,
            bank_units=20_000,
            temperature=16.0,
            schedule="cosine",
            patience=0,
        ),
        "tiny": replace(
            _OFFICIAL,
            encoder="tiny",
            weights="none",
            epochs=12,
            batch_size=64,
            learning_rate=5e-3,
            schedule="cosine",
            embedding=32,
            neighbours=10,
        ),
    },
    build=BLEEP,
    paper="arXiv:2306.01859",
    licence="Apache-2.0",
    notes=(
        "The spot head takes the panel's targets of the task instead of 3,467 genes after Harmony, whose "
        "choice and correction saw the test slice. Images are RGB with ImageNet statistics, where the "
        "authors' loader gives BGR. Batches are of 128 units, what one of the authors' four processes sees, "
        "drawn at random over one slide, since the loop goes slide by slide; they are drawn anew each "
        "epoch. At most 150 epochs; the epoch is chosen on inner validation blocks by the squared error of "
        "retrieval, not by the loss on spots between training spots. A validation unit retrieves from other "
        "patients, or other slides where there is one patient, or where there is one slide from its "
        "training blocks; a test unit from all training units. Ties go to the smaller number. Soft targets "
        "are not detached and not normalised anew after transposing, as in the code; `detach_targets` stops "
        "their gradients. quick: frozen cached features of EfficientNet-Lite0, heads trained for 4 epochs "
        "without augmentation, temperature 16, "
        "retrieval from 20,000 training units."
    ),
    proven=(
        "Embeddings of patches and expression, the loss and the heads' gradients at every temperature of "
        "the reference, the units retrieved, and the predictions by average, nearest and weighted mean "
        "equal those of the authors' code for the same state dict, with a ResNet-50 of an eighth of the "
        "width. The number of parameters at 250 genes is theirs."
    ),
    published=(
        "No: GSE240429 is not prepared by the suite, and the published number is after a correction that "
        "saw the test slice."
    ),
    cost=Cost(parameters=24_229_440, gflop=2.15, memory_mb=668, batch=32),
)
