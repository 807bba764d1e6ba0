"""Read a simulated slide with spatialdata-io and scanpy, and compare with what hdstbench reads.

Neither is a dependency. In an environment of their own:

    hdstbench data simulate --slides 1 --size-mm 0.5 -o cohort
    python -m venv outside && outside/bin/pip install spatialdata spatialdata-io
    python tests/outside/check_simulated.py ours cohort ours.npz
    outside/bin/python tests/outside/check_simulated.py theirs cohort theirs.npz
    python tests/outside/check_simulated.py compare ours.npz theirs.npz
"""

import sys
from pathlib import Path

import numpy as np

SIZES = (2, 8, 16)
SAMPLE = "SIM1"


def ours(cohort: Path, out: Path) -> None:
    """Counts and places by barcode as hdstbench reads them."""
    from hdstbench.data.counts import picks_rows  # noqa: PLC0415 - not in the other environment
    from hdstbench.data.spaceranger import read_spaceranger  # noqa: PLC0415

    found = {}
    for size in SIZES:
        image = next((cohort / SAMPLE).glob("*_tissue_image.tif"))
        sample = read_spaceranger(cohort / SAMPLE / "outs", size, image, SAMPLE)
        order = np.lexsort((sample.grid[:, 1], sample.grid[:, 0]))
        counts = sample.counts.sums(picks_rows(order, len(order)))[0]
        found |= {f"{size}/umi": np.asarray(counts.sum(axis=1)).ravel(), f"{size}/xy": sample.xy_px[order]}
        found |= {f"{size}/gene": np.asarray(counts.sum(axis=0)).ravel()}
        found |= {f"{size}/ids": np.array(sample.counts.genes.ids)}
    np.savez(out, **found)


def theirs(cohort: Path, out: Path) -> None:
    """The same as spatialdata-io and scanpy read them."""
    import scanpy  # noqa: PLC0415
    from spatialdata_io import visium_hd  # noqa: PLC0415

    outs = cohort / SAMPLE / "outs"
    image = next((cohort / SAMPLE).glob("*_tissue_image.tif"))
    data = visium_hd(outs, dataset_id=SAMPLE, fullres_image_file=image, bin_size=list(SIZES))
    found = {}
    for size in SIZES:
        table = data.tables[f"square_{size:03d}um"]
        place = table.obs.sort_values(["array_row", "array_col"])
        table = table[place.index]
        shapes = data.shapes[f"{SAMPLE}_square_{size:03d}um"].loc[place["location_id"]]
        centre = np.column_stack([shapes.geometry.centroid.x, shapes.geometry.centroid.y])
        found |= {f"{size}/umi": np.asarray(table.X.sum(axis=1)).ravel(), f"{size}/xy": centre}
        found |= {f"{size}/gene": np.asarray(table.X.sum(axis=0)).ravel()}
        matrix = outs / "binned_outputs" / f"square_{size:03d}um" / "filtered_feature_bc_matrix.h5"
        read = scanpy.read_10x_h5(matrix)
        found |= {f"{size}/ids": read.var["gene_ids"].to_numpy().astype(str)}
        assert read.shape == table.shape
    np.savez(out, **found)
    print(f"images: {sorted(data.images)}, shapes: {sorted(data.shapes)}, tables: {sorted(data.tables)}")


def compare(a: Path, b: Path) -> None:
    """Say whether both have read the same."""
    with np.load(a) as first, np.load(b) as second:
        for name in sorted(first.files):
            if name.endswith("/ids"):
                assert (first[name] == second[name]).all(), name
            else:
                np.testing.assert_allclose(first[name], second[name], atol=1e-6, err_msg=name)
        print(
            f"the same in both: {len(first['2/umi'])} + {len(first['8/umi'])} + {len(first['16/umi'])} bins"
        )


if __name__ == "__main__":
    {"ours": ours, "theirs": theirs, "compare": compare}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
