"""A MagNet epoch with cached spot and region features, against computing them anew: ratios of one run.

    python benchmarks/magnet_cache.py [-o FILE.json]

ResNet-50 on all levels, official recipe, 16 simulated bins of 16 um of one block at 112, 224 and
512 px: patches are cut, the loss goes forward and backward, the optimiser steps. Features are
computed anew either once for each spot and region of a batch, or, as a loader that gives every bin its three
patches does, once for each bin.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cost import slides

from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import Batch, to_tensor
from hdstbench.torchkit.encoders import Encoder, make_encoder
from hdstbench_magnet import PLUGIN
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.model import MagNet

Anew = Callable[[Batch], None]
BINS, FEW = 16, 8


def epoch(model: MagNet, train: list[Slide], optimiser: torch.optim.Optimizer, anew: Anew) -> float:
    """Train on every bin once; seconds."""
    start, rng = time.perf_counter(), np.random.default_rng(0)
    for slide in train:
        for batch in model.batches(slide, rng):
            anew(batch)
            optimiser.zero_grad(set_to_none=True)
            model.loss(batch, model.labels(batch)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return time.perf_counter() - start


def compute(encoder: Encoder, batch: Batch, grid: int, *, every_bin: bool) -> None:
    """Compute the features of the batch's spots and regions, of each once or of each bin's own."""
    for level in ("spot", "region"):
        rows = batch.inputs[f"{level}/rows"].numpy()
        if every_bin:
            rows = rows[batch.inputs[f"{level}/parent"].numpy()]
        with torch.inference_mode():
            for part in np.array_split(rows, -(-len(rows) // 8)):
                encoder.grid(to_tensor(batch.slide.patches(level, part), "cpu"), grid)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", type=Path, help="JSON file for the seconds of an epoch")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = [slides(folder, "16um")[0].take(np.arange(BINS))]
        config: MagNetConfig = PLUGIN.recipes["official"]
        model = MagNet(replace(config, weights="none", epochs=1, epoch_units=1, patience=0))
        few = [train[0].take(np.arange(FEW))]  # features are cached for the whole slide
        model.fit(few, [], RunContext(seed=0, scratch=folder, cache=folder))
        model.net.train()
        optimiser = torch.optim.SGD(model.net.parameters(), lr=1e-4, momentum=0.9)
        encoder = make_encoder(config.encoder, None).eval()
        once = partial(compute, encoder, grid=config.key_grid, every_bin=False)
        each = partial(compute, encoder, grid=config.key_grid, every_bin=True)
        cached = epoch(model, train, optimiser, lambda _: None)
        print(f"{sum(map(len, train))} bins; cached: {cached:.1f} s an epoch", flush=True)
        found = {"bins": sum(map(len, train)), "cached": cached}
        for way, what, anew in (
            ("once", "once for each spot and region", once),
            ("each", "once for each bin", each),
        ):
            found[way] = epoch(model, train, optimiser, anew)
            ratio = found[way] / cached
            print(f"computed anew {what}: {found[way]:.1f} s an epoch, {ratio:.1f} x", flush=True)
        if given.o:
            given.o.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
