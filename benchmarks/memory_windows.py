"""Memory and time of training steps of HisToGene or Hist2ST at the authors' size, on random tensors on a CPU.

    python benchmarks/memory_windows.py his-to-gene [WINDOW] [WINDOWS]
    python benchmarks/memory_windows.py his2st [WINDOW] [WINDOWS]

A slide of 6,000 bins with patches of 112 px goes forward and backward window by window, 256 bins each
unless told otherwise; gradients add up. WINDOWS ends it earlier. A window of 6,000 is what the authors do.
"""

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hdstbench_baselines import his2st, his_to_gene
from hdstbench_baselines.grid_graph import adjacency
from hdstbench_baselines.his2st_loss import Truth, Window, augment, draw_copies, his2st_loss, his2st_terms
from hdstbench_baselines.his2st_network import Hist2STNetwork
from hdstbench_baselines.his_to_gene_network import HisToGeneNetwork
from hdstbench_baselines.pixels import flat_pixels, x_first

UNITS, GENES, PATCH_PX, ROWS = 6_000, 250, 112, 812
Step = Callable[[np.ndarray], Tensor]


def peak_gb() -> float:
    """Most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def random_patches(count: int) -> Tensor:
    """Patches without anything on them, uint8 [count, 3, S, S]."""
    return torch.randint(0, 256, (count, 3, PATCH_PX, PATCH_PX), dtype=torch.uint8)


def his_to_gene_step() -> Step:
    """The loss of a window at given array places."""
    plan = his_to_gene.PLUGIN.recipes["official"].plan
    net = HisToGeneNetwork(plan, PATCH_PX, ROWS, GENES).train()

    def step(grid: np.ndarray) -> Tensor:
        predicted = net(flat_pixels(random_patches(len(grid))), torch.from_numpy(grid))
        return functional.mse_loss(predicted, torch.rand(len(grid), GENES))

    return step


def his2st_step() -> Step:
    """The loss of a window at given array places, with its augmented copies."""
    config = his2st.PLUGIN.recipes["official"]
    net = Hist2STNetwork(config.plan, ROWS, GENES).train()

    def step(grid: np.ndarray) -> Tensor:
        graph = torch.from_numpy(adjacency(grid, config.neighbours, config.prune))
        window = Window(x_first(random_patches(len(grid))), torch.from_numpy(grid), graph)
        counts = torch.poisson(torch.ones(len(grid), GENES))
        truth = Truth(torch.rand(len(grid), GENES), counts, torch.ones(len(grid)))
        draws = draw_copies(np.random.default_rng(0), config.loss.copies)
        copies = (augment(window.patches, draw) for draw in draws)
        return his2st_loss(his2st_terms(net, window, copies, truth, config.loss), config.loss)

    return step


def main() -> None:
    """Go through the windows."""
    name, size = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 256
    most = int(sys.argv[3]) if len(sys.argv) > 3 else UNITS
    torch.manual_seed(0)
    step = his_to_gene_step() if name == "his-to-gene" else his2st_step()
    print(f"{name}: {peak_gb():.2f} GB before the first step", flush=True)
    grid = np.argwhere(np.ones((UNITS // 16, 16), np.int64))  # blocks of 256 lie below each other
    for start in range(0, min(UNITS, size * most), size):
        began = time.perf_counter()
        step(grid[start : start + size]).backward()  # type: ignore[no-untyped-call]
        done = time.perf_counter() - began
        print(
            f"window of {len(grid[start : start + size]):,}: {done:.1f} s, peak {peak_gb():.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
