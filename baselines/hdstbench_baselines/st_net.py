"""ST-Net: a DenseNet-121 that sees one patch and predicts its unit.

Paper: He et al., Nature Biomedical Engineering 2020, doi:10.1038/s41551-020-0578-x.

Differences from the authors' code are listed in PLUGIN.notes, so the leaderboard shows them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.plugins.plugin import Cost, ModelPlugin
from hdstbench.protocol.slide import Slide
from hdstbench.rng import stream
from hdstbench.torchkit.batch import SYMMETRIES, Batch, BatchLabels, to_tensor, turn, unit_batches
from hdstbench.torchkit.encoders import Encoder, make_encoder
from hdstbench.torchkit.official import Official, Tensors
from hdstbench.torchkit.trainer import TUNED, Optimiser, TorchModel, Training

STATISTICS_UNITS = 384
"""Training patches for the channel statistics: 12 batches of 32, as in the authors' code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class STNetConfig(Training):
    """The authors' settings; their rate of 1e-6 is for a loss summed over a batch of 32.

    Attributes:
        input_px: Side to which patches are resized; 0 for as they are.
        test_symmetries: Views of a patch, of the square's eight, that a prediction is the mean of.
    """

    encoder: str = "densenet121"
    weights: str = "pretrained"
    epochs: int = 50
    batch_size: int = 32
    optimiser: Optimiser = "sgd"
    learning_rate: float = 3.2e-5
    input_px: int = 0
    test_symmetries: int = SYMMETRIES
    patience: int = 5


class STNetwork(nn.Module):
    """An image encoder and a linear layer that starts at the training mean."""

    def __init__(self, encoder: Encoder, genes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.width, genes)
        nn.init.zeros_(self.head.weight)

    def forward(self, patches: Tensor) -> Tensor:
        """Predict, uint8 [B, 3, S, S] -> [B, G]."""
        out: Tensor = self.head(self.encoder(patches))
        return out


OFFICIAL = Official(
    model="ST-Net",
    mark=r"features\.conv0\.weight",
    rules=((r"features\.(.*)", r"encoder.net.features.\1"), (r"classifier\.(.*)", r"head.\1")),
    constant=("encoder.mean", "encoder.std"),
    anew=(r"head\..*",),
)


def load_official(state_dict: Tensors) -> STNetwork:
    """Make the network of an official checkpoint, for as many genes as it has.

    Its input is standardised by the statistics of the training patches, which the checkpoint does not
    hold: set them with `net.encoder.standardise`.

    Raises:
        DataError: If a tensor is missing, extra or of another shape.
    """
    genes = len(OFFICIAL.need(state_dict)["head.bias"])
    net = STNetwork(make_encoder("densenet121", None), genes)
    OFFICIAL.load(net, state_dict)
    return net.eval()


class STNet(TorchModel):
    """Regress each unit from the patch around it, units being independent."""

    net: STNetwork

    def __init__(self, config: STNetConfig) -> None:
        super().__init__(config)
        self.config = config

    @override
    def build(self, genes: int) -> nn.Module:
        encoder = make_encoder(self.config.encoder, self._context().weights)
        return STNetwork(encoder, genes)

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Start the head at the mean target; standardise channels as in the training slides."""
        with torch.no_grad():
            self.net.head.bias.copy_(self.training_mean(train))
        share = -(-STATISTICS_UNITS // len(train))
        pixels = torch.cat([self._some(slide, share) for slide in train]).float() / 255
        self.net.encoder.standardise(pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3)))

    @override
    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        order = None if rng is None else rng.permutation(len(slide))
        for batch in unit_batches(slide, self.config.batch_size, order):
            patches = to_tensor(slide.patches("unit", batch.index), self.device, self.config.input_px)
            if rng is not None:
                chosen = torch.from_numpy(rng.integers(SYMMETRIES, size=len(patches)))
                patches = turn(patches, chosen.to(self.device))
            batch.inputs["patch"] = patches
            yield batch

    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        """Mean squared error."""
        return nn.functional.mse_loss(self.net(batch.inputs["patch"]), labels.target)

    def infer(self, batch: Batch) -> Tensor:
        """Mean over symmetries of the square."""
        patches = batch.inputs["patch"]
        views = [
            self.net(turn(patches, torch.full((len(patches),), s, device=patches.device)))
            for s in range(self.config.test_symmetries)
        ]
        return torch.stack(views).mean(dim=0)

    def _some(self, slide: Slide, count: int) -> Tensor:
        rng = stream("channel-statistics", slide.id, self._context().seed)
        index = np.sort(rng.choice(len(slide), min(count, len(slide)), replace=False))
        return to_tensor(slide.patches("unit", index), self.device, self.config.input_px)


PLUGIN = ModelPlugin(
    name="st-net",
    kind="model",
    context="unit",
    recipes={
        "official": STNetConfig(),
        "tuned": STNetConfig(rates=TUNED),
        "common": STNetConfig(
            batch_size=256, learning_rate=1e-4, weight_decay=1e-4, schedule="cosine", patience=10
        ),
        "quick": STNetConfig(
            encoder="densenet-small",
            weights="none",
            epochs=3,
            epoch_units=3_000,
            validation_units=3_000,
            batch_size=64,
            optimiser="adamw",
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="cosine",
            input_px=48,
            test_symmetries=1,
            patience=0,
        ),
        "tiny": STNetConfig(
            encoder="tiny",
            weights="none",
            epochs=2,
            batch_size=32,
            optimiser="adamw",
            learning_rate=1e-2,
            test_symmetries=2,
        ),
    },
    build=STNet,
    paper="doi:10.1038/s41551-020-0578-x",
    licence="none stated (MIT in the authors' packaging metadata)",
    notes=(
        "Panel, channel statistics and head bias come from training slides alone; the epoch is chosen on "
        "inner validation blocks, not by transfer from an inner cross-validation; the target is the task's, "
        "not the log of a smoothed share; the rate is given for the mean of the squared error. quick: a "
        "DenseNet of 16 layers from random weights on patches of 48 px, no test-time mean."
    ),
    proven=(
        "Features and outputs at 112 and 224 px equal those of the authors' DenseNet-121 for the same state "
        "dict of 727 tensors, loaded by name with none missing or extra. Their loss summed over a batch of "
        "32 at a rate of 1e-6 is the mean used here at 3.2e-5; gradients are not in the reference tensors."
    ),
    published=(
        "No: the 23-patient data set cannot be prepared from what is public, since its tables of annotated "
        "spots are missing, and the headline counts genes by a sign test that the suite does not make."
    ),
    cost=Cost(parameters=7_210_106, gflop=11.2, memory_mb=984, batch=32),
)
