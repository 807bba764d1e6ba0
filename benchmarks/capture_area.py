"""Read and prepare a simulated capture area of full size, and tell the peak memory.

    python benchmarks/capture_area.py make FOLDER       write it: 838 x 838 bins of 8 um, 214 M non-zeros;
                                                        --side N for N x N bins
    python benchmarks/capture_area.py read FOLDER       totals of all bins, and counts of 36,000 at random
    python benchmarks/capture_area.py prepare FOLDER    read, and prepare sampled blocks with their pixels
    python benchmarks/capture_area.py scanpy FOLDER     scanpy.read_10x_h5 of the same file, to compare

The last needs scanpy, which the extra `bench` brings. Counts are drawn
without any pattern, and repeat after 50,000 bins; only their number and layout are those of a real slide (P2
CRC: 546 k bins in tissue, 488 UMI and 393 genes a bin, 214 M non-zeros).
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

SIDE, GENES, GENES_A_BIN = 838, 18_085, 450
MPP = 0.2738
BIN_PX = 8 / MPP
STEP, PIECES = 5_000, 10
CHOSEN = 36_000
"""As many as are prepared of a whole capture area."""
MATRIX = "outs/binned_outputs/square_008um/filtered_feature_bc_matrix.h5"


def make(folder: Path, side: int = SIDE) -> None:
    """Write the 8 um bins of one capture area and an image of the right size."""
    import h5py
    import tifffile

    from hdstbench.simulate import tenx

    place = folder / "outs" / "binned_outputs" / "square_008um"
    (place / "spatial").mkdir(parents=True)
    row, col = np.indices((side, side))
    tissue = np.hypot(row - side / 2, col - side / 2) < 0.475 * side
    side_px = int(side * BIN_PX) + 200
    xy = np.stack([col.ravel() + 0.5, side - row.ravel() - 0.5], axis=1) * BIN_PX + 50
    tenx.write_positions(place / "spatial" / "tissue_positions.parquet", 8, tissue, xy)
    tenx.write_scalefactors(place / "spatial" / "scalefactors_json.json", 8, MPP, 6000 / side_px, 0.02)
    tifffile.memmap(
        folder / "he.btf", shape=(side_px, side_px, 3), dtype=np.uint8, photometric="rgb", bigtiff=True
    )
    rng = np.random.default_rng(0)
    bins = rng.permutation(np.flatnonzero(tissue))
    with h5py.File(place / "filtered_feature_bc_matrix.h5", "w") as file:
        _write(file, bins, side, rng)
        print(f"{len(bins):,} bins, {file['matrix/data'].shape[0]:,} non-zeros")


def _write(file: "h5py.File", bins: np.ndarray, side: int, rng: np.random.Generator) -> None:  # noqa: F821
    from hdstbench.simulate.tenx import barcodes

    file.attrs["software_version"] = "spaceranger-3.1.1"
    group = file.create_group("matrix")
    packed = {"chunks": (80_000,), "maxshape": (None,), "compression": "gzip", "compression_opts": 1}
    data = group.create_dataset("data", (0,), "i4", shuffle=True, **packed)
    indices = group.create_dataset("indices", (0,), "i8", shuffle=True, **packed)
    indptr = [np.zeros(1, np.int64)]
    share = np.cumsum(np.exp(rng.normal(0, 1.2, GENES)))
    pieces = [_piece(share / share[-1], rng) for _ in range(PIECES)]
    for number, start in enumerate(range(0, len(bins), STEP)):
        times, gene, ends = pieces[number % PIECES]
        ends = ends[: len(bins) - start]
        held = indptr[-1][-1]
        for dataset, values in ((data, times), (indices, gene)):
            dataset.resize((held + ends[-1],))
            dataset[held:] = values[: ends[-1]]
        indptr.append(held + ends)
    group["indptr"] = np.concatenate(indptr)
    group["barcodes"] = np.array(barcodes(8, *np.divmod(bins, side)), "S21")
    group["shape"] = np.array([GENES, len(bins)], "i4")
    names = np.array([f"ENSGSIM{i:08d}" for i in range(GENES)], "S")
    for name, values in {"id": names, "name": names, "feature_type": ["Gene Expression"] * GENES}.items():
        group[f"features/{name}"] = np.array(values, "S")
    group["features/genome"] = np.array(["simulated"] * GENES, "S")


def _piece(share: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts and genes of the non-zeros of some bins, and where each bin ends."""
    gene = np.searchsorted(share, rng.random((STEP, GENES_A_BIN)))
    key, times = np.unique(gene + np.arange(STEP)[:, None] * GENES, return_counts=True)
    return times, key % GENES, np.searchsorted(key, np.arange(1, STEP + 1) * GENES)


def read(folder: Path) -> None:
    """Read what a sweep needs of the counts: every bin's total, and all genes of as many as are prepared."""
    from hdstbench.data.counts import picks_rows
    from hdstbench.data.tenx import read_matrix

    counts = read_matrix(folder / MATRIX)
    rows = np.sort(np.random.default_rng(0).permutation(len(counts))[:CHOSEN])
    (chosen,) = counts.sums(picks_rows(rows, len(counts)))
    assert (chosen.sum(axis=1) == counts.totals()[rows]).all()
    print(json.dumps({"shape": chosen.shape, "non-zeros": int(chosen.nnz)}))


def prepare(folder: Path) -> None:
    """Read the bins and prepare the blocks that are drawn."""
    from hdstbench.data.card import SampleCard
    from hdstbench.data.levels import resolution
    from hdstbench.data.pack import Recipe, write_slide
    from hdstbench.data.prepared import load_manifest
    from hdstbench.data.spaceranger import read_spaceranger

    sample = read_spaceranger(folder / "outs", 8, folder / "he.btf", "area")
    out = folder / f"prepared{time.time_ns()}"
    out.mkdir()
    card = SampleCard(id="area", patient="p", path="")
    write_slide(out, sample, sample, card, Recipe(res=resolution("8um"), mpp=0.25))
    manifest = load_manifest(out)
    print(
        json.dumps({"bins in tissue": len(sample.counts), "units": manifest.units, "blocks": manifest.blocks})
    )


def scanpy(folder: Path) -> None:
    """Read the same file with scanpy."""
    import scanpy as sc

    found = sc.read_10x_h5(folder / MATRIX)
    print(json.dumps({"shape": found.shape, "non-zeros": int(found.X.nnz)}))


def main() -> None:
    """Do what was asked and print seconds and peak memory of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("make", "read", "prepare", "scanpy"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=SIDE, help="bins along the side that `make` writes")
    asked = parser.parse_args()
    began = time.perf_counter()
    if asked.what == "make":
        make(asked.folder, asked.side)
    else:
        {"read": read, "prepare": prepare, "scanpy": scanpy}[asked.what](asked.folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{asked.what}: {time.perf_counter() - began:.1f} s, peak {peak:.2f} GiB")


if __name__ == "__main__":
    main()
