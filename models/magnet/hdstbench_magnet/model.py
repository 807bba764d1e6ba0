"""MagNet as a model of the suite: batches of whole blocks, cached frozen levels."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.rng import seed_of
from hdstbench.torchkit.batch import SYMMETRIES, Batch, BatchLabels, block_batches, to_tensor, turn
from hdstbench.torchkit.encoders import make_encoder
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench.torchkit.graph import nearest_edges
from hdstbench.torchkit.trainer import TorchModel
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.loss import magnet_loss
from hdstbench_magnet.network import MagNetwork

UNIT = "unit"


class MagNetModule(nn.Module):
    """The trained encoder of units, if there is one, and the network behind it."""

    def __init__(self, encoder: nn.Module | None, body: MagNetwork) -> None:
        super().__init__()
        self.encoder, self.body = encoder, body


class MagNet(TorchModel):
    """Predict the units of a block together, each with the spot and region it lies in."""

    net: MagNetModule

    def __init__(self, config: MagNetConfig) -> None:
        super().__init__(config)
        self.config = config
        self.levels: tuple[str, ...] = (UNIT,)
        self.features: dict[tuple[str, str], FloatArray] = {}

    @override
    def build(self, genes: int) -> nn.Module:
        context = self._context()
        torch.manual_seed(seed_of("frozen", self.config.encoder, context.seed))
        encoder = make_encoder(self.config.encoder, context.weights)
        torch.manual_seed(seed_of("magnet", context.seed))
        body = MagNetwork(self.levels, encoder.width, genes, self.config)
        return MagNetModule(encoder if self.config.train_encoder else None, body)

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        self.levels = train[0].levels
        super().fit(train, val, context)

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Let the heads start at the training mean."""
        self.net.body.set_start(self.training_mean(train))

    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        """Cut a slide into whole blocks, so that a graph never crosses a batch's border."""
        coarse = {name: slide.parents(name) for name in self.levels[1:]}
        frozen = {name: self._frozen(slide, name) for name in self.levels if not self._trained(name)}
        for batch in block_batches(slide, self.config.batch_size, rng):
            self._add_units(batch, frozen, rng)
            for name in self.levels[1:]:
                self._add_coarse(batch, name, coarse[name], frozen[name])
            yield batch

    def labels(self, batch: Batch) -> BatchLabels:
        """Targets of units and of the spots and regions that they lie in."""
        labels = super().labels(batch)
        for name in self.levels[1:]:
            target, valid = batch.slide.need_labels().coarse(name)
            rows = batch.inputs[f"{name}/rows"].cpu().numpy()
            pair = (torch.from_numpy(self.space.inward(target[rows])), torch.from_numpy(valid[rows]))
            labels.coarse[name] = (pair[0].to(self.device), pair[1].to(self.device))
        return labels

    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        """The paper's loss."""
        parent = {name: batch.inputs[f"{name}/parent"] for name in self.levels[1:]}
        return magnet_loss(self._forward(batch), parent, labels, self.config.loss)

    def infer(self, batch: Batch) -> Tensor:
        """Predictions of the units."""
        return self._forward(batch)[UNIT]

    def _forward(self, batch: Batch) -> dict[str, Tensor]:
        inputs = batch.inputs
        unit = inputs["unit"] if self.net.encoder is None else self.net.encoder(inputs["unit"])
        names = self.levels[1:]
        return self.net.body(
            unit,
            {name: inputs[f"{name}/keys"] for name in names},
            {name: inputs[f"{name}/parent"] for name in names},
            {name: inputs[f"{name}/edges"] for name in self.levels},
        )

    def _trained(self, level: str) -> bool:
        return level == UNIT and self.config.train_encoder

    def _frozen(self, slide: Slide, level: str) -> FloatArray:
        """Cached features of all prepared units of a level of this view, read once."""
        key = (slide.key, level)
        if key not in self.features:
            grid = 0 if level == UNIT else self.config.key_grid
            px = self.config.input_px if level == UNIT else 0
            spec = FeatureSpec(encoder=self.config.encoder, level=level, input_px=px, grid=grid)
            self.features[key] = frozen_features([slide.whole()], spec, self._context())[0]
        return self.features[key][slide.rows(level)]

    def _add_units(
        self, batch: Batch, frozen: dict[str, FloatArray], rng: np.random.Generator | None
    ) -> None:
        slide, index = batch.slide, batch.index
        if UNIT in frozen:
            batch.inputs[UNIT] = torch.from_numpy(frozen[UNIT][index]).to(self.device)
        else:
            patches = to_tensor(slide.patches(UNIT, index), self.device, self.config.input_px)
            if rng is not None:  # one symmetry for the whole batch: its graph stays what it is
                chosen = torch.full((len(index),), int(rng.integers(SYMMETRIES)), device=self.device)
                patches = turn(patches, chosen)
            batch.inputs[UNIT] = patches
        batch.inputs["unit/edges"] = self._edges(slide.grid[index], slide.block_of[index])

    def _add_coarse(self, batch: Batch, level: str, parents: IntArray, frozen: FloatArray) -> None:
        """Add the spots or regions of each block: a block has its own, so that no batch mate counts."""
        block = batch.slide.block_of[batch.index]
        pairs, parent = np.unique(
            np.stack([block, parents[batch.index]], axis=1), axis=0, return_inverse=True
        )
        rows = pairs[:, 1]
        batch.inputs[f"{level}/keys"] = torch.from_numpy(frozen[rows]).to(self.device)
        batch.inputs[f"{level}/parent"] = torch.from_numpy(parent.reshape(-1)).to(self.device)
        batch.inputs[f"{level}/rows"] = torch.from_numpy(rows)
        batch.inputs[f"{level}/edges"] = self._edges(batch.slide.grid_of(level)[rows], pairs[:, 0])

    def _edges(self, grid: IntArray, block: IntArray) -> Tensor:
        """Edges among the members of each block, members in the order given."""
        parts = []
        for name in np.unique(block):
            members = np.flatnonzero(block == name)
            parts.append(members[nearest_edges(grid[members], self.config.neighbours)])
        return torch.from_numpy(np.concatenate(parts, axis=1)).to(self.device)
