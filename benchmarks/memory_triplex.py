"""Memory, time and GFLOP of one training step of TRIPLEX at the authors' size, on random tensors on a CPU.

    python benchmarks/memory_triplex.py [UNITS]

A batch of 128 patches of 112 px goes through with the whole slide of 6,000 units, forward and backward.
`benchmarks/cost.py` would first encode 26 patches a unit.
"""

import argparse
import resource
import time

import numpy as np
import torch
from kept import kept_mb
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hdstbench.torchkit.encoders import make_encoder
from hdstbench_baselines.triplex import PLUGIN
from hdstbench_baselines.triplex_config import TriplexConfig
from hdstbench_baselines.triplex_network import SIDE, Outputs, Triplex, triplex_loss
from hdstbench_baselines.triplex_slide import spread
from hdstbench_baselines.triplex_whole import find_places

GENES, PATCH_PX = 250, 112


def peak_gb() -> float:
    """Most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def through(net: Triplex, config: TriplexConfig, units: int, rows: Tensor | None) -> Tensor:
    """Tokens of a slide that is a square of the array."""
    grid = np.argwhere(np.ones((int(np.ceil(np.sqrt(units))),) * 2, bool))[:units]
    keys = spread(grid, config.global_keys)
    entered = net.enter_whole(torch.randn(units, config.width))
    return net.whole(entered, find_places(grid), None if keys is None else torch.from_numpy(keys), rows)


def predict(net: Triplex, config: TriplexConfig, whole: Tensor) -> Outputs:
    """All that follows, for as many random patches."""
    assert net.encoder is not None
    patches = torch.randint(0, 256, (len(whole), 3, PATCH_PX, PATCH_PX), dtype=torch.uint8)
    target = net.target_tokens(net.encoder.prepare(patches))
    tiles, inside = torch.randn(len(whole), SIDE**2, config.width), torch.ones(len(whole), SIDE**2)
    return net(target, tiles, inside.bool(), whole)


def gflop(net: Triplex, config: TriplexConfig, units: int) -> float:
    """Of predicting one unit, with its share of the slide; fused attention is not counted by itself."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as slide:
            through(net, config, units, None)
        with FlopCounterMode(display=False) as some:
            predict(net, config, torch.randn(2, config.width))
    return slide.get_total_flops() / units / 1e9 + some.get_total_flops() / 2 / 1e9


def main() -> None:
    """Take one step, then count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("units", type=int, nargs="?", default=6_000)
    parser.add_argument("--no-gflop", action="store_true", help="take the step alone")
    asked = parser.parse_args()
    units: int = asked.units
    config: TriplexConfig = PLUGIN.recipes["official"]
    torch.manual_seed(0)
    encoder = make_encoder(config.encoder, None)
    net = Triplex(encoder, encoder.width, config.width, GENES, (config.fusion, config.whole, config.around))
    before, started = peak_gb(), time.perf_counter()
    rows = torch.randperm(units)[: config.batch_size]
    net.train()

    def step() -> Tensor:
        out = predict(net, config, through(net, config, units, rows))
        return triplex_loss(out, torch.randn(len(rows), GENES))

    loss, kept = kept_mb(step)
    forward = time.perf_counter()
    loss.backward()  # type: ignore[no-untyped-call]
    done = time.perf_counter()
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, {units:,} units")
    print(f"forward {forward - started:.1f} s, backward {done - forward:.1f} s")
    print(
        f"peak {peak_gb():.2f} GB, {before:.2f} GB of it before the step; {kept:,.0f} MiB kept for backward"
    )
    if not asked.no_gflop:
        print(f"{gflop(net.eval(), config, units):.2f} GFLOP a unit")


if __name__ == "__main__":
    main()
