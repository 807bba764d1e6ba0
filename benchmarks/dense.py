"""Features of a block at once against patch by patch: `python benchmarks/dense.py [-o FILE.json]`.

Bins of 8 um of a simulated slide at 0.25 um a pixel, patches of 112 px: a block of 256 bins through
DenseNet-121 (ST-Net's network) and EfficientNet-Lite0 with its ImageNet weights. Printed are bins a second,
and how alike the features are: the median over features of the correlation over bins, and the root of the
mean squared difference over the standard deviation of each feature.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cost import slides

from hdstbench.arrays import FloatArray
from hdstbench.plugins.weights import OFFLINE, find_weights
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import to_tensor
from hdstbench.torchkit.encoders import Encoder, make_encoder
from hdstbench.torchkit.shared import block_features

BATCH = 32


def patch_by_patch(encoder: Encoder, slide: Slide) -> FloatArray:
    """Features of each patch on its own."""
    parts = []
    for start in range(0, len(slide), BATCH):
        index = np.arange(start, min(start + BATCH, len(slide)))
        with torch.inference_mode():
            parts.append(encoder(to_tensor(slide.patches("unit", index), "cpu")).numpy())
    return np.concatenate(parts)


def block_at_once(encoder: Encoder, slide: Slide) -> FloatArray:
    """Features of all patches of a block from one pass."""
    out = np.empty((len(slide), encoder.width), np.float32)
    with torch.inference_mode():
        for units, values in block_features(encoder, slide, "cpu"):
            out[units] = values
    return out


def timed(work: Callable[[], FloatArray], repeats: int) -> tuple[float, FloatArray]:
    """Seconds of the fastest of some runs, and what it gives."""
    best, out = float("inf"), np.empty(0)
    for _ in range(repeats):
        began = time.perf_counter()
        out = work()
        best = min(best, time.perf_counter() - began)
    return best, out


def measure(name: str, slide: Slide) -> dict[str, float | str]:
    """Time both ways of one encoder."""
    torch.manual_seed(0)
    weights = find_weights(name, "pretrained").path if name == OFFLINE else None
    encoder = make_encoder(name, weights).eval()
    shared_s, shared = timed(lambda: block_at_once(encoder, slide), 3)
    each_s, each = timed(lambda: patch_by_patch(encoder, slide), 1)
    varied = (each.std(axis=0) > 1e-6) & (shared.std(axis=0) > 1e-6)
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(shared.T[varied], each.T[varied], strict=True)]
    off = np.sqrt(np.mean((shared - each) ** 2, axis=0))[varied] / each.std(axis=0)[varied]
    return {
        "encoder": name,
        "bins": len(slide),
        "each_s": each_s,
        "shared_s": shared_s,
        "r": float(np.median(r)),
        "off": float(np.median(off)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", type=Path, help="JSON file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        slide = slides(Path(name), "8um")[0]
        rows = [measure(encoder, slide) for encoder in ("densenet121", OFFLINE)]
    for row in rows:
        bins, each, shared = int(row["bins"]), float(row["each_s"]), float(row["shared_s"])
        rates = f"{bins / each:.0f} a second patch by patch, {bins / shared:.0f} a block at once"
        print(
            f"{row['encoder']}: {bins} bins; {rates}, {each / shared:.1f} x; "
            f"r {row['r']:.2f}, difference {row['off']:.2f} sd"
        )
    if given.o:
        given.o.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
