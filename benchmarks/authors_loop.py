"""A step of MagNet's `common` recipe against one of the authors' loop: `python benchmarks/authors_loop.py`.

The loop is rebuilt from what is known of its design, none of its code: a batch is 256 bins drawn at random,
each patch a PNG of its own that is opened, turned and normalised on its own; a dense adjacency among those
bins is made for each batch; each spot and region tile of the slide, 2,500 and 500 of them, goes through graph
and transformer in every step, over dense adjacencies. The network has the released sizes. Ours cuts patches
from the slide, has the features of spots and regions cached, and takes along those of its batch alone. Both
train ResNet-50 on the same simulated bins of 8 um, patches of 112 px, 250 genes. `--part N` takes one in N
of the bins and of the tiles.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from cost import GENES, slides
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from hdstbench.arrays import IntArray
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import Batch, BatchLabels
from hdstbench.torchkit.encoders import make_encoder
from hdstbench_magnet import PLUGIN
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.loss import magnet_loss
from hdstbench_magnet.model import MagNet, MagNetModule
from hdstbench_magnet.network import MagNetwork
from hdstbench_magnet.official import PUBLISHED

TILES = {"spot": (50, 50), "region": (25, 20)}
"""Rows and columns of a slide's tiles: 2,500 spots and 500 regions."""
NEIGHBOURS, TURNED, FEW = 8, 0.5, 8
MEAN, SD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))


class DenseRound(nn.Module):
    """A released round over a dense adjacency, [N, N]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, width, bias=False)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        """Nodes [N, D] -> [N, D]."""
        around = (adjacency / adjacency.sum(dim=1, keepdim=True)) @ nodes
        return functional.normalize(functional.relu(self.project(around)), dim=1)


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of one step: to make its input, and to compute."""

    batch: float
    step: float


def adjacency(place: Tensor) -> Tensor:
    """Ones from each node to its 8 nearest, [N, N]."""
    nearest = torch.cdist(place, place).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]
    return torch.zeros(len(place), len(place)).scatter_(1, nearest, 1.0)


def write_patches(slide: Slide, folder: Path) -> list[Path]:
    """A PNG a bin."""
    paths = [folder / f"{i}.png" for i in range(len(slide))]
    for path, patch in zip(paths, slide.patches("unit", np.arange(len(slide))), strict=True):
        Image.fromarray(patch).save(path)
    return paths


def open_patch(path: Path, rng: np.random.Generator) -> Tensor:
    """One bin's patch, flipped both ways and turned with even chances, [3, S, S]."""
    picture = Image.open(path).convert("RGB")
    for how in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_90):
        if rng.random() < TURNED:
            picture = picture.transpose(how)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    return (pixels - MEAN[:, None, None]) / SD[:, None, None]


class Authors:
    """Network, tiles and optimiser of the rebuilt loop."""

    def __init__(self, slide: Slide, folder: Path, sides: dict[str, tuple[int, int]]) -> None:
        torch.manual_seed(0)
        encoder, self.config = make_encoder(PUBLISHED.encoder, None), PUBLISHED
        encoder.standardise(torch.zeros(3), torch.ones(3))  # patches come normalised
        self.net = MagNetModule(
            encoder, encoder.width, MagNetwork(tuple(TILES), GENES, self.config), self.config
        )
        for rounds in self.net.body.rounds.values():
            for number in range(self.config.graph_depth):
                rounds[number] = DenseRound(self.config.width)  # type: ignore[index,operator]
        self.optimiser = torch.optim.SGD(self.net.parameters(), lr=1e-4, momentum=0.9)
        self.slide, self.paths = slide, write_patches(slide, folder)
        self.tiles = {name: torch.rand(a * b, 1, self.config.width) for name, (a, b) in sides.items()}
        self.truth = {name: torch.rand(len(tiles), GENES) for name, tiles in self.tiles.items()}
        self.graphs = {name: self._graph(a, b) for name, (a, b) in sides.items()}
        self.target = torch.rand(len(slide), GENES)

    @staticmethod
    def _graph(rows: int, columns: int) -> Tensor:
        one_way = adjacency(torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float())
        return torch.maximum(one_way, one_way.T)

    def step(self, rng: np.random.Generator) -> Seconds:
        """Train on one batch."""
        began = time.perf_counter()
        index: IntArray = rng.permutation(len(self.slide))[: self.config.batch_size]
        patches = torch.stack([open_patch(self.paths[i], rng) for i in index])
        inputs = {"unit": patches, "unit/edges": adjacency(torch.from_numpy(self.slide.grid[index]).float())}
        for name, tiles in self.tiles.items():
            parent = torch.from_numpy(rng.integers(len(tiles), size=len(index)))
            inputs |= {f"{name}/keys": tiles, f"{name}/parent": parent, f"{name}/edges": self.graphs[name]}
        coarse = {name: (one, torch.ones(len(one), dtype=torch.bool)) for name, one in self.truth.items()}
        labels = BatchLabels(target=self.target[index], coarse=coarse)
        ready = time.perf_counter()
        self.optimiser.zero_grad(set_to_none=True)
        parents = {name: inputs[f"{name}/parent"] for name in TILES}
        magnet_loss(self.net(inputs), parents, labels, self.config).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return Seconds(ready - began, time.perf_counter() - ready)


def trained(slide: Slide, folder: Path) -> MagNet:
    """Our model of the `common` recipe, its features of spots and regions cached."""
    config = PLUGIN.recipes["common"]
    assert isinstance(config, MagNetConfig)
    model = MagNet(replace(config, weights="none", epochs=1, epoch_units=1, patience=0))
    few = slide.take(np.arange(FEW))  # features are cached for the whole slide
    model.fit([few], [], RunContext(seed=0, scratch=folder, cache=folder))
    model.net.train()
    return model


def our_step(model: MagNet, slide: Slide, optimiser: torch.optim.Optimizer) -> Seconds:
    """Train on all bins of a block."""
    began = time.perf_counter()
    batches: list[Batch] = list(model.batches(slide, np.random.default_rng(0)))
    ready = time.perf_counter()
    for batch in batches:
        optimiser.zero_grad(set_to_none=True)
        model.loss(batch, model.labels(batch)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Seconds(ready - began, time.perf_counter() - ready)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, default=1, help="take one in so many of the bins and the tiles")
    parser.add_argument("-o", type=Path, help="JSON file for the seconds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = slides(folder, "8um")[0]
        slide = slide.take(np.arange(len(slide) // given.part))
        sides = {name: (a, b // given.part) for name, (a, b) in TILES.items()}
        model = trained(slide, folder)
        optimiser = torch.optim.SGD(model.net.parameters(), lr=1e-4, momentum=0.9)
        ours = our_step(model, slide, optimiser)
        del model, optimiser
        theirs = Authors(slide, folder, sides).step(np.random.default_rng(0))
    for who, one in (("ours", ours), ("the authors' loop", theirs)):
        print(f"{who}: {len(slide)} bins, batch {one.batch:.2f} s, step {one.step:.2f} s")
    if given.o:
        found = {"bins": len(slide), "ours": [ours.batch, ours.step], "theirs": [theirs.batch, theirs.step]}
        given.o.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
