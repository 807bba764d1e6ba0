"""A MagNet training step with cached spot and region features, against computing them anew: ratios.

    python benchmarks/magnet_cache.py

ResNet-50 on all levels, official recipe, one batch of whole blocks of simulated bins of 16 um at 112, 224 and
512 px. Features are computed anew either once for each spot and region of the batch, or, as a loader that
gives every bin its three patches does, once for each bin.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
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


def step(model: MagNet, batch: Batch) -> None:
    """Forward and backward."""
    model.net.zero_grad(set_to_none=True)
    model.loss(batch, model.labels(batch)).backward()  # type: ignore[no-untyped-call]


def anew(encoder: Encoder, batch: Batch, grid: int, *, every_bin: bool) -> None:
    """Compute the features of the batch's spots and regions, of each once or of each bin's own."""
    for level in ("spot", "region"):
        rows = batch.inputs[f"{level}/rows"].numpy()
        if every_bin:
            rows = rows[batch.inputs[f"{level}/parent"].numpy()]
        with torch.inference_mode():
            for part in np.array_split(rows, -(-len(rows) // 8)):
                encoder.grid(to_tensor(batch.slide.patches(level, part), "cpu"), grid)


def seconds(call: Callable[[], None], rounds: int) -> float:
    """Median time of some calls, after one that does not count."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train: list[Slide] = slides(folder, "16um")
        config: MagNetConfig = PLUGIN.recipes["official"]
        model = MagNet(replace(config, weights="none", epochs=1, epoch_units=1, patience=0))
        model.fit(train, [], RunContext(seed=0, scratch=folder, cache=folder))
        model.net.train()
        batch = next(iter(model.batches(train[0], np.random.default_rng(0))))
        encoder = make_encoder(config.encoder, None).eval()
        cached = seconds(lambda: step(model, batch), given.rounds)
        print(f"{len(batch.index)} bins; cached: {cached:.1f} s a step")
        for what, every_bin in (("once for each spot and region", False), ("once for each bin", True)):
            more = seconds(
                lambda e=every_bin: anew(encoder, batch, config.key_grid, every_bin=e), given.rounds
            )  # type: ignore[misc]
            print(f"computed anew {what}: {cached + more:.1f} s a step, {(cached + more) / cached:.1f} x")


if __name__ == "__main__":
    main()
