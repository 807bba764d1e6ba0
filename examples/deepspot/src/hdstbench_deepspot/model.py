"""DeepSpot on slides: frozen features of tiles, looked up by unit, and the deep set on top.

Paper: Nonchev et al., medRxiv 2025, doi:10.1101/2025.02.09.25321567.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hdstbench.arrays import BoolArray, FloatArray
from hdstbench.plugins.kept import Kept
from hdstbench.plugins.plugin import ModelPlugin, RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import Batch, BatchLabels, unit_batches
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench.torchkit.trainer import TorchModel
from torch import Tensor, nn

from hdstbench_deepspot.config import RECIPES, DeepSpotConfig
from hdstbench_deepspot.network import DeepSet

UNIT = "unit"


@dataclass(frozen=True, slots=True)
class Tiles:
    """Features of all N prepared units of a slide: their tiles [N, E], sub-tiles and tiles around."""

    tile: FloatArray
    inside: FloatArray
    around: FloatArray
    there: BoolArray


class DeepSpot(TorchModel):
    """Predict each unit from three sets of frozen features."""

    net: DeepSet

    def __init__(self, config: DeepSpotConfig) -> None:
        super().__init__(config)
        self.config = config
        self.features = 0
        self._tiles: dict[str, Tiles] = {}

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        """Train on labelled slides."""
        self._tiles, self.context = {}, context
        self.features = self._of(train[0]).tile.shape[1]
        super().fit(train, val, context)

    def build(self, genes: int) -> nn.Module:
        """Make the network."""
        c = self.config
        return DeepSet(self.features, genes, c.width, c.members, c.dropout)

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Let the last layers start at the training mean."""
        mean = self.training_mean(train)
        with torch.no_grad():
            for network in self.net.all.networks:
                network[-1].weight.zero_()
                network[-1].bias.copy_(mean)

    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        """Cut a slide into batches of features; shuffled if there is a generator."""
        tiles, rows = self._of(slide), slide.rows(UNIT)
        order = None if rng is None else rng.permutation(len(slide))
        for batch in unit_batches(slide, self.config.batch_size, order):
            mine = rows[batch.index]
            for name in ("tile", "inside", "around", "there"):
                values = np.asarray(getattr(tiles, name)[mine], np.float32)
                batch.inputs[name] = torch.from_numpy(values).to(self.device)
            yield batch

    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        """Mean squared error."""
        return nn.functional.mse_loss(self.infer(batch), labels.target)

    def infer(self, batch: Batch) -> Tensor:
        """Predict the targets of a batch, [B, G]."""
        out: Tensor = self.net(**batch.inputs)
        return out

    def keep(self) -> Kept:
        """The width of the encoder's features, which the network is built with."""
        return Kept(numbers={"features": self.features})

    def restore(self, kept: Kept) -> None:
        """Take it back."""
        self.features, self._tiles = kept.numbers["features"], {}

    def _of(self, slide: Slide) -> Tiles:
        """Features of a slide's tiles, computed once for all models that want the same."""
        if slide.key not in self._tiles:
            c, whole = self.config, slide.whole()
            own = FeatureSpec(encoder=c.encoder, level=UNIT, input_px=c.input_px)
            inside = FeatureSpec(encoder=c.encoder, level=UNIT, input_px=c.input_px, grid=c.sub_tiles)
            around = FeatureSpec(encoder=c.encoder, level=UNIT, input_px=c.input_px, around=c.around)
            assert self.context is not None
            values = [frozen_features([whole], spec, self.context)[0] for spec in (own, inside, around)]
            there = whole.tiles_inside(np.arange(len(whole)), c.around)
            there[:, c.around**2 // 2] = False  # the unit's own tile is a set of its own
            self._tiles[slide.key] = Tiles(*values, there)
        return self._tiles[slide.key]


PLUGIN = ModelPlugin(
    name="deepspot",
    kind="model",
    context="slide",
    recipes=RECIPES,
    build=DeepSpot,
    paper="doi:10.1101/2025.02.09.25321567 (medRxiv 2025)",
    licence="Apache-2.0; written from the paper's description",
    notes=(
        "One network takes tile, sub-tiles and neighbours, as released; sub-tiles are added up, of "
        "neighbours the maximum counts; ten networks of each kind, of which the median and the mean count. "
        "Unlike it: neighbours are the eight tiles around a unit's own, cut from the image, not the "
        "neighbouring spots, so that they are there at any bin; sub-tiles are 3 x 3 parts of the tile's own "
        "feature map, not tiles encoded on their own; what lies outside the image is left out of the "
        "maximum; the last layer starts at the training mean and has no dropout behind it; targets are not "
        "scaled. quick: width 64, two networks of each kind, ten epochs."
    ),
)
