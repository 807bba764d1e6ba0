"""EGN: a patch seen with the help of the training units that look most like it.

Paper: Yang et al., "Exemplar Guided Deep Neural Network for Spatial Transcriptomics Analysis of Gene
Expression Prediction", WACV 2023, doi:10.1109/WACV56688.2023.00501.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.arrays import IntArray
from hdstbench.errors import DataError
from hdstbench.plugins.kept import Kept
from hdstbench.plugins.plugin import Cost, ModelPlugin, RunContext
from hdstbench.plugins.weights import OFFLINE
from hdstbench.protocol.inner import split_part
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import Batch, BatchLabels, some_blocks, to_tensor, unit_batches
from hdstbench.torchkit.encoders import read_weights
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench.torchkit.official import for_frozen
from hdstbench.torchkit.schedule import Schedule
from hdstbench.torchkit.space import SpaceName
from hdstbench.torchkit.trainer import TUNED, Optimiser, TorchModel, Training
from hdstbench_baselines.egn_network import EGNetwork, EGNShape, egn_loss
from hdstbench_baselines.egn_official import OFFICIAL, load_official
from hdstbench_baselines.retrieval import Bank, Source, one_source, sources_of

__all__ = ["EGN", "OFFICIAL", "PLUGIN", "EGNConfig", "load_official"]

MEAN, STD = (0.5476, 0.5218, 0.6881), (0.2461, 0.2101, 0.1649)
"""Of the channels of the authors' images."""
AUTHORS_ENCODER, HALF = "resnet50", (0.5, 0.5, 0.5)
"""Retrieval sees pixels in [-1, 1] with the authors' encoder; any other has its own statistics."""
PREDICTED = 128
"""Units of a batch that is predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EGNConfig(Training):
    """The authors' settings.

    Attributes:
        encoder: Frozen; its features say which training units are alike, and describe them.
        input_px: Side to which patches are resized; 0 for the next multiple of `grid`.
        exemplars: How many a unit gets; 9 in the paper's text, 6 in the authors' example command.
        bank_units: Training units that may be exemplars, whole blocks of each slide; 0 for all.
        paper_update: See `EGNShape`; so for the other sizes.
    """

    encoder: str = AUTHORS_ENCODER
    weights: str = "pretrained"
    epochs: int = 50
    batch_size: int = 32
    optimiser: Optimiser = "adamw"
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    schedule: Schedule = "restarts"
    patience: int = 5
    space: SpaceName = "minmax"
    input_px: int = 0
    exemplars: int = 9
    bank_units: int = 0
    grid: int = 8
    width: int = 1024
    depth: int = 8
    heads: int = 16
    head_width: int = 64
    hidden: int = 4096
    exemplar_heads: int = 8
    exemplar_width: int = 64
    projector_layers: int = 2
    paper_update: bool = False


class _View:
    """Features of the units of a view, [N, M], and their exemplars, looked up when they are first wanted."""

    def __init__(self, features: Tensor, bank: Bank, source: str | None, k: int) -> None:
        self.features, self._bank, self._source, self._k = features, bank, source, k
        self._found: IntArray | None = None

    def exemplars(self, index: IntArray) -> IntArray:
        """Numbers of the exemplars of some units, [B, k]."""
        if self._found is None or (self._found[index, 0] < 0).any():
            self._look_up(index)
        assert self._found is not None
        return self._found[index]

    def _look_up(self, index: IntArray) -> None:
        new = index if self._found is None else index[self._found[index, 0] < 0]
        found = self._bank.nearest(self.features[new], self._source, self._k)
        if self._found is None:
            self._found = np.full((len(self.features), found.shape[1]), -1, np.int64)
        self._found[new] = found


STRIPES = 4
"""Parts of a training slide that stand for slides where it is the only one."""


class EGN(TorchModel):
    """Regress each unit from its patch and from its exemplars among the training units."""

    net: EGNetwork

    def __init__(self, config: EGNConfig) -> None:
        super().__init__(config)
        self.config = config
        self._width = 0
        """Of features, where there is no training slide to ask."""

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        self._alone = len({slide.id for slide in train}) == 1
        train = _stripes(train) if self._alone else train
        self._patch_px, self._tested = train[0].patch_px["unit"], False
        self._first = train[0]
        super().fit(train, val, context)

    @override
    def keep(self) -> Kept:
        return Kept(
            arrays={"values": self._values.cpu().numpy(), "rows": self._bank.rows.cpu().numpy()},
            numbers={"patch_px": self._patch_px, "width": self._bank.rows.shape[1]},
        )

    @override
    def restore(self, kept: Kept) -> None:
        self._patch_px, self._width = kept.numbers["patch_px"], kept.numbers["width"]
        self._values = torch.from_numpy(kept.arrays["values"]).to(self.device)
        rows = torch.from_numpy(kept.arrays["rows"]).to(self.device)
        self._bank, self._tested = Bank(rows, one_source(rows), measured=True), True

    @override
    def build(self, genes: int) -> nn.Module:
        c, context = self.config, self._context()
        tensors = read_weights(context.weights) if context.weights else {}
        if known := OFFICIAL.knows(tensors):
            patch = math.isqrt(tensors["to_patch_embedding.1.weight"].shape[1] // 3)
        else:
            patch = -(-(c.input_px or self._patch_px) // c.grid)
        self._frozen = for_frozen(context, "EGN", c.encoder, c.weights) if known else context
        self._side = patch * c.grid
        features = self._width or self._features(self._first).shape[1]
        sizes = {f.name: getattr(c, f.name) for f in fields(EGNShape) if hasattr(c, f.name)}
        net = EGNetwork(EGNShape(genes=genes, patch=patch, features=features, **sizes))
        if known:
            OFFICIAL.start(net, tensors)
        return net

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Make the bank; exemplars of units that training and validation see again are kept."""
        kept = some_blocks(train, self.config.bank_units)
        targets = np.concatenate([slide.need_labels().target() for slide in kept])
        self._values = torch.from_numpy(self.space.inward(targets)).to(self.device)
        rows = torch.cat([self._features(slide) for slide in kept])
        sources, self._tested = sources_of(kept), False
        if self._alone:
            sources = [Source(f"{s.slide} {i}", f"{s.patient} {i}", s.units) for i, s in enumerate(sources)]
        self._bank = Bank(rows.to(self.device), sources)
        self._views = {
            _name(s): self._look(s, source.slide) for s, source in zip(train, sources, strict=True)
        }

    def finish(self, train: Sequence[Slide]) -> None:
        """Let all training units be exemplars of whatever is predicted from here on."""
        self._tested, self._views = True, {}

    @override
    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        order = None if rng is None else rng.permutation(len(slide))
        view = self._view(slide)
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (MEAN, STD))
        size = max(self.config.batch_size, PREDICTED if rng is None else 0)
        for batch in unit_batches(slide, size, order):
            patches = to_tensor(slide.patches("unit", batch.index), self.device, self._side)
            chosen = torch.from_numpy(view.exemplars(batch.index)).to(self.device)
            batch.inputs["pixels"] = (patches.float() / 255 - mean) / std
            batch.inputs["query"] = view.features[batch.index].to(self.device)
            batch.inputs["exemplars"] = self._bank.rows[chosen]
            batch.inputs["values"] = self._values[chosen]
            yield batch

    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        """Squared error and correlation within the batch."""
        return egn_loss(self.net(**batch.inputs), labels.target)

    def infer(self, batch: Batch) -> Tensor:
        """Predict from patch and exemplars."""
        out: Tensor = self.net(**batch.inputs)
        return out

    def _features(self, slide: Slide) -> Tensor:
        encoder = self.config.encoder
        scale = HALF if encoder == AUTHORS_ENCODER else None
        spec = FeatureSpec(encoder=encoder, level="unit", mean=scale, std=scale)
        return torch.from_numpy(frozen_features([slide], spec, self._frozen)[0])

    def _view(self, slide: Slide) -> _View:
        """A view; while the model is trained, what validation sees is kept too."""
        if self._tested:
            return self._look(slide, None)
        name = _name(slide)
        if name not in self._views:
            self._views[name] = self._look(slide, slide.id)
        return self._views[name]

    def _look(self, slide: Slide, source: str | None) -> _View:
        return _View(self._features(slide), self._bank, source, self.config.exemplars)


def _stripes(views: Sequence[Slide]) -> list[Slide]:
    """Cut the only training slide into stripes of whole blocks.

    Raises:
        DataError: If it is too small for that.
    """
    parts = [split_part(view, STRIPES, number)[1] for view in views for number in range(STRIPES)]
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        msg = (
            f"egn takes exemplars from elsewhere, and the only training slide {views[0].id} is one block; "
            "train on two slides"
        )
        raise DataError(msg)
    return parts


def _name(slide: Slide) -> tuple[str, bytes]:
    """What tells views apart: the slide's pixels and the units that are seen of it."""
    return slide.key, slide.rows("unit").tobytes()


_OFFICIAL = EGNConfig()
_QUICK = EGNConfig(
    encoder=OFFLINE,
    epochs=2,
    epoch_units=3_000,
    validation_units=3_000,
    bank_units=20_000,
    learning_rate=1e-3,
    schedule="cosine",
    patience=0,
    input_px=64,
    grid=4,
    width=96,
    depth=2,
    heads=4,
    head_width=24,
    hidden=192,
    exemplar_heads=4,
    exemplar_width=16,
)

PLUGIN = ModelPlugin(
    name="egn",
    kind="model",
    context="unit",
    recipes={
        "official": _OFFICIAL,
        "tuned": replace(_OFFICIAL, rates=TUNED),
        "common": replace(
            _OFFICIAL,
            batch_size=256,
            optimiser="sgd",
            learning_rate=1e-4,
            weight_decay=1e-4,
            schedule="cosine",
            patience=10,
            space="task",
        ),
        "quick": _QUICK,
        "tiny": replace(
            _QUICK,
            encoder="tiny",
            weights="none",
            epochs=3,
            epoch_units=0,
            validation_units=0,
            bank_units=0,
            batch_size=32,
            learning_rate=2e-3,
            input_px=0,
            width=32,
            heads=2,
            head_width=16,
            hidden=64,
            exemplar_heads=2,
            exemplar_width=8,
        ),
    },
    build=EGN,
    paper="doi:10.1109/WACV56688.2023.00501",
    licence="none stated",
    notes=(
        "Version 1 of the repository. Exemplars come from training slides of other patients, or of other "
        "slides where there is one patient, in training and inner validation, and where there is one slide "
        "from its other stripes, four across its longer side; from all training units for a test unit. Ties "
        "go to the smaller number. There are 9, as in the paper's text (6 in the example command). A patch "
        "is cut into 8 x 8 squares whatever its size, resized to a multiple of 8 px first; it is white "
        "outside of the image, where the authors' windows end. A batch is of one slide, since the loop goes "
        "slide by slide, so the correlation in the loss is within a slide. The last incomplete batch is "
        "trained on and all units are predicted. The target is the task's, scaled to [0, 1] by training "
        "slides alone and mapped back; genes come from training slides. The warm-up of a cycle is at most "
        "half of it. The epoch is chosen on inner validation blocks by squared error, not on the test fold "
        "by correlation. The query is updated as in the code; `paper_update` follows the paper. Retrieval "
        "features see pixels in [-1, 1] with resnet50, as the authors' do; another encoder has its own "
        "statistics; weights are those that the run is given, not torchvision's. A checkpoint of the "
        "authors has its patches resized to its own size and starts the gene-sized layers anew. The dead "
        "output layer of an exemplar block is left out. quick: 4 x 4 squares of 16 px, two blocks of width "
        "96, retrieval by EfficientNet-Lite0, AdamW 1e-3, cosine, "
        "exemplars from 20,000 training units."
    ),
    proven=(
        "Features, predictions, loss and its parts, correlation per gene and all gradients equal those of "
        "the authors' network of small size for the same state dict; layers that they leave without a "
        "gradient have none. The number of parameters at three sizes is theirs."
    ),
    published="No: the STNet and 10x breast data are not prepared by the suite, and the latter's folds leak.",
    cost=Cost(parameters=128_711_930, gflop=14.1, memory_mb=1_665, batch=32),
)
