"""Time and memory of `hdstbench predict` on pictures of three sizes: `python benchmarks/whole_slide.py`.

The control `stain`, kept by a small simulated sweep, predicts every bin of 16 um of three simulated pictures
at 0.5 um a pixel, tiled JPEG. Seconds are CPU time, peak memory that of the process and its largest child.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

MPP, TILE = 0.5, 256
SIDES, ROUNDS = (8, 14, 20), 2
"""Of the pictures, tiles; the faster of two rounds counts."""


def draw(path: Path, side: int) -> None:
    """A picture of smooth noise in the colours of tissue."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(1024, 1024, 3)), (4, 4, 0))
    pixels = np.clip(smooth * 600 + (190, 120, 180), 0, 255).astype(np.uint8)
    tiles = (
        pixels[y : y + TILE, x : x + TILE]
        for y, x in ((i * TILE % 768, j * TILE % 768) for i in range(side) for j in range(side))
    )
    shape, options = (side * TILE, side * TILE, 3), {"tile": (TILE, TILE), "compression": "jpeg"}
    tifffile.imwrite(path, tiles, shape=shape, dtype=np.uint8, photometric="rgb", **options)


def hdstbench(words: str, folder: Path) -> tuple[float, float]:
    """Run a command; CPU seconds of it and its children, and peak MB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hdstbench", *words.split()], cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        message = f"hdstbench {words} ended with {os.waitstatus_to_exitcode(status)}"
        raise RuntimeError(message)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", type=Path, help="JSON file")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hdstbench("data simulate --slides 2 --size-mm 0.4 -o few", folder)
        run = "run -m stain -d few/dataset.toml -r 16um --folds 0 --keep-models -o kept"
        hdstbench(run, folder)
        model = next(folder.glob("kept/*/16um/stain")).relative_to(folder)
        for side in SIDES:
            draw(folder / f"{side}.tif", side)
            words = f"predict -m {model} -s {side}.tif --mpp {MPP} --tissue all -o {side}"
            rounds = [hdstbench(f"{words}-{number}.h5ad", folder) for number in range(ROUNDS)]
            seconds, peak = (min(each) for each in zip(*rounds, strict=True))
            units = round(side * TILE * MPP / 16) ** 2
            rows.append({"units": units, "seconds": seconds, "peak_mb": peak})
            print(f"{units:,} bins: {seconds:.1f} s, peak {peak:.0f} MB", flush=True)
    if given.o:
        given.o.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
