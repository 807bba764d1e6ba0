"""MagNet as a model of the suite: batches of whole blocks, or of random units; cached frozen levels."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.plugins.kept import Kept
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.rng import seed_of, stream
from hdstbench.torchkit.batch import (
    SYMMETRIES,
    Batch,
    BatchLabels,
    block_batches,
    to_tensor,
    turn,
    unit_batches,
)
from hdstbench.torchkit.encoders import Encoder, make_encoder
from hdstbench.torchkit.trainer import TorchModel
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.frozen import FrozenLevels
from hdstbench_magnet.graph import edges_of_slide, edges_within
from hdstbench_magnet.loss import magnet_loss
from hdstbench_magnet.network import UNIT, MagNetwork


class MagNetModule(nn.Module):
    """The trained encoder of units, if there is one, projections to one width, and the network behind."""

    def __init__(
        self, encoder: nn.Module | None, features: int, body: MagNetwork, config: MagNetConfig
    ) -> None:
        super().__init__()
        self.encoder, self.body = encoder, body
        if config.basis == "trained":
            named = (UNIT, *body.coarse)
            self.project = nn.ModuleDict({name: _projection(features, config.width) for name in named})
        else:  # coarse features come projected; the unit's layer is the last one of the released encoder
            self.project = nn.ModuleDict({UNIT: nn.Linear(features, config.width)})

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict every level of a batch, [N, G] of units and [M, G] of coarser levels."""
        levels = (UNIT, *self.body.coarse)
        unit = inputs[UNIT] if self.encoder is None else self.encoder(inputs[UNIT])
        return self.body(
            self.project[UNIT](unit),
            {name: self._keys(name, inputs[f"{name}/keys"]) for name in self.body.coarse},
            {name: inputs[f"{name}/parent"] for name in self.body.coarse},
            {name: inputs[f"{name}/edges"] for name in levels},
        )

    def _keys(self, level: str, keys: Tensor) -> Tensor:
        out: Tensor = self.project[level](keys) if level in self.project else keys
        return out


def _projection(features: int, width: int) -> nn.Module:
    """Frozen features of any scale to the network's width."""
    return nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))


class MagNet(TorchModel):
    """Predict units together with their neighbours, each with the spot and region it lies in."""

    net: MagNetModule

    def __init__(self, config: MagNetConfig) -> None:
        super().__init__(config)
        self.config = config
        self.coarse: tuple[str, ...] = ()
        self.frozen = FrozenLevels(config)
        self.graphs: dict[tuple[str, str, bytes], Tensor] = {}

    @override
    def build(self, genes: int) -> nn.Module:
        context, c = self._context(), self.config
        torch.manual_seed(seed_of("frozen", c.encoder, context.seed))
        encoder = make_encoder(c.encoder, context.weights, checkpoint=c.checkpoint and c.train_encoder)
        if c.train_encoder and not c.pretrained_unit:
            torch.manual_seed(seed_of("magnet-encoder", context.seed))
            encoder = _from_scratch(c.encoder, checkpoint=c.checkpoint)
        torch.manual_seed(seed_of("magnet", context.seed))
        body = MagNetwork(self.coarse, genes, c)
        return MagNetModule(encoder if c.train_encoder else None, encoder.width, body, c)

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        self.coarse = tuple(name for name in train[0].levels[1:] if name in self.config.levels)
        super().fit(train, val, context)

    @override
    def keep(self) -> Kept:
        return Kept(words={"coarse": self.coarse})

    @override
    def restore(self, kept: Kept) -> None:
        self.coarse = kept.words["coarse"]

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Let the heads start at the training mean."""
        if self.config.start_at_mean:
            self.net.body.set_start(self.training_mean(train))

    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        """Cut a slide into whole blocks, or into random units beside all coarser ones of the slide."""
        frozen = {
            name: self.frozen(slide, name, self._context())
            for name in (UNIT, *self.coarse)
            if name != UNIT or not self.config.train_encoder
        }
        if self.config.sampler == "block":
            for batch in block_batches(slide, self.config.batch_size, rng):
                self._add_units(batch, frozen, rng, slide.block_of[batch.index])
                for name in self.coarse:
                    self._add_own(batch, name, frozen[name])
                yield batch
            return
        above = {name: self._whole(slide, name, frozen[name]) for name in self.coarse}
        for batch in unit_batches(slide, self.config.batch_size, self._order(slide, rng)):
            self._add_units(batch, frozen, rng, np.zeros(len(batch.index), np.int64))
            for name, inputs in above.items():
                batch.inputs |= inputs
                parents = slide.parents(name)[batch.index]
                batch.inputs[f"{name}/parent"] = torch.from_numpy(parents).to(self.device)
            yield batch

    def labels(self, batch: Batch) -> BatchLabels:
        """Targets of units and of the spots and regions beside them."""
        labels = super().labels(batch)
        for name in self.coarse:
            target, valid = batch.slide.need_labels().coarse(name)
            rows = batch.inputs[f"{name}/rows"].cpu().numpy()
            pair = (torch.from_numpy(self.space.inward(target[rows])), torch.from_numpy(valid[rows]))
            labels.coarse[name] = (pair[0].to(self.device), pair[1].to(self.device))
        return labels

    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        """The paper's loss, or the code's."""
        parent = {name: batch.inputs[f"{name}/parent"] for name in self.coarse}
        return magnet_loss(self.net(batch.inputs), parent, labels, self.config)

    def infer(self, batch: Batch) -> Tensor:
        """Predictions of the units."""
        out: Tensor = self.net(batch.inputs)[UNIT]
        return out

    def _order(self, slide: Slide, rng: np.random.Generator | None) -> IntArray:
        """A random order of the units; at test it is drawn once and for all."""
        drawn = rng or stream("magnet-order", self._context().seed, slide.id)
        return drawn.permutation(len(slide))

    def _add_units(
        self,
        batch: Batch,
        frozen: Mapping[str, FloatArray],
        rng: np.random.Generator | None,
        graph: IntArray,
    ) -> None:
        """Add the units' patches or features, and the edges among those of one graph."""
        slide, index, c = batch.slide, batch.index, self.config
        if UNIT in frozen:
            batch.inputs[UNIT] = torch.from_numpy(frozen[UNIT][index]).to(self.device)
        else:
            patches = to_tensor(slide.patches(UNIT, index), self.device, c.input_px)
            batch.inputs[UNIT] = self._turned(slide, patches, rng)
        edges = edges_within(slide.grid[index], graph, c.neighbours, loops=c.self_loops)
        batch.inputs[f"{UNIT}/edges"] = edges.to(self.device)

    def _turned(self, slide: Slide, patches: Tensor, rng: np.random.Generator | None) -> Tensor:
        """Turn patches, [N, 3, S, S]; at test none is turned, unless each is, as in the released loader."""
        units, drawn = len(patches), rng
        if self.config.turns == "patch":
            drawn = drawn or stream("magnet-turns", self._context().seed, slide.id)
            return turn(patches, torch.from_numpy(drawn.integers(SYMMETRIES, size=units)).to(self.device))
        if drawn is None:
            return patches
        # one symmetry for the whole batch: its graph stays what it is
        return turn(patches, torch.full((units,), int(drawn.integers(SYMMETRIES)), device=self.device))

    def _add_own(self, batch: Batch, level: str, frozen: FloatArray) -> None:
        """Add the spots or regions of each block: a block has its own, so that no batch mate counts."""
        slide = batch.slide
        block, parents = slide.block_of[batch.index], slide.parents(level)[batch.index]
        pairs, parent = np.unique(np.stack([block, parents], axis=1), axis=0, return_inverse=True)
        rows, c = pairs[:, 1], self.config
        edges = edges_within(slide.grid_of(level)[rows], pairs[:, 0], c.neighbours, loops=c.self_loops)
        batch.inputs |= self._coarse(level, frozen[rows], rows, edges)
        batch.inputs[f"{level}/parent"] = torch.from_numpy(parent.reshape(-1)).to(self.device)

    def _whole(self, slide: Slide, level: str, frozen: FloatArray) -> dict[str, Tensor]:
        """All spots or regions of the slide."""
        c, key = self.config, (slide.key, level, slide.rows(level).tobytes())
        if key not in self.graphs:
            self.graphs[key] = edges_of_slide(slide.grid_of(level), c.neighbours, loops=c.self_loops)
        return self._coarse(level, frozen, np.arange(len(frozen)), self.graphs[key])

    def _coarse(self, level: str, keys: FloatArray, rows: IntArray, edges: Tensor) -> dict[str, Tensor]:
        return {
            f"{level}/keys": torch.from_numpy(keys).to(self.device),
            f"{level}/rows": torch.from_numpy(rows),
            f"{level}/edges": edges.to(self.device),
        }


def _from_scratch(name: str, *, checkpoint: bool) -> Encoder:
    """A random encoder, every normalisation at one: the released class starts no branch at zero."""
    encoder = make_encoder(name, None, checkpoint=checkpoint)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    return encoder
