"""The simulated cohort: genuine files with every trap, and counts that follow the latent cells."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
from helpers import take, test_data
from scipy import sparse

from hdstbench.data.card import Dataset
from hdstbench.data.image import open_image
from hdstbench.data.levels import array_um
from hdstbench.data.spaceranger import read_spaceranger
from hdstbench.data.truth import expected_shares
from hdstbench.errors import DataError
from hdstbench.simulate import constants
from hdstbench.simulate.cells import NAMES, Region
from hdstbench.simulate.cohort import Cohort, simulate
from hdstbench.simulate.counts import draw
from hdstbench.simulate.expression import gene_model
from hdstbench.simulate.labels import read_labels, tissue_from_labels
from hdstbench.simulate.slide import SlidePlan, grow_section
from hdstbench.simulate.tables import coarsen

FROZEN = {1: "c6f83c6478cad5e4"}
"""Hash of the constants of each version of the generator. A changed constant needs a new version."""

PLAN = {
    "name": "SIM1",
    "patient": "P1",
    "index": 0,
    "seed": 0,
    "size_mm": 0.4,
    "signal": "all",
    "overdispersion": 1.0,
    "shift_um": 0.0,
    "labels": "",
}


def test_the_constants_are_those_of_their_version() -> None:
    values = [asdict(c) for c in (constants.COUNTS, constants.GENES, constants.TISSUE, constants.STAIN)]

    found = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    assert FROZEN[constants.VERSION] == found


def bins(folder: Path, size: int) -> Path:
    return next(folder.rglob(f"square_{size:03d}um"))


def load(path: Path) -> tuple[sparse.csr_array, list[str], list[str], list[str]]:
    """Counts [bins, genes], barcodes, gene ids and symbols of a matrix, read without our reader."""
    with h5py.File(path) as file:
        group = file["matrix"]
        shape = tuple(group["shape"][()])
        matrix = sparse.csc_array((group["data"][()], group["indices"][()], group["indptr"][()]), shape=shape)
        text = [[v.decode() for v in group[n][()]] for n in ("barcodes", "features/id", "features/name")]
    return sparse.csr_array(matrix.T), *text


@pytest.fixture(scope="module")
def slide(cohort_folder: Path) -> Path:
    return cohort_folder / "SIM1" / "outs" / "binned_outputs"


def test_files_and_columns_are_those_of_space_ranger(slide: Path) -> None:
    folder = slide / "square_008um"
    schema = pq.read_schema(folder / "spatial" / "tissue_positions.parquet")
    factors = json.loads((folder / "spatial" / "scalefactors_json.json").read_text())

    assert schema.names[:4] == ["barcode", "in_tissue", "array_row", "array_col"]
    assert [str(t) for t in schema.types] == ["string", "uint8", "uint32", "uint32", "double", "double"]
    assert factors["bin_size_um"] / factors["spot_diameter_fullres"] == pytest.approx(
        factors["microns_per_pixel"]
    )
    assert factors["microns_per_pixel"] not in (0.25, 1.0)
    assert factors["tissue_hires_scalef"] != 1.0


@pytest.mark.parametrize("size", [8, 16])
def test_coarser_bins_are_exact_sums_and_edge_bins_partial(slide: Path, size: int) -> None:
    fine, fine_names, ids, _ = load(slide / "square_002um" / "raw_feature_bc_matrix.h5")
    coarse, coarse_names, coarse_ids, _ = load(slide / f"square_{size:03d}um" / "raw_feature_bc_matrix.h5")
    place = np.array([[int(n[8:13]), int(n[14:19])] for n in fine_names]) // (size // 2)
    names = [f"s_{size:03d}um_{r:05d}_{c:05d}-1" for r, c in place]

    found = pd.DataFrame({"bin": names, "umi": fine.sum(axis=1)}).groupby("bin")["umi"].sum()
    stored = pd.Series(coarse.sum(axis=1), index=coarse_names)

    assert ids == coarse_ids
    pd.testing.assert_series_equal(found, stored.sort_index(), check_names=False, check_dtype=False)
    assert 250 % (size // 2) != 0  # 0.5 mm is no whole number of bins


def test_the_feature_slice_says_where_the_array_lies(cohort_folder: Path) -> None:
    for name, path in (("SIM2", "outs/feature_slice.h5"), ("SIM3", "SIM3_feature_slice.h5")):
        with h5py.File(cohort_folder / name / path) as file:
            metadata = json.loads(file.attrs["metadata_json"])
            row, col, umi = (file[f"umis/total/{n}"][()] for n in ("row", "col", "data"))
        folder = bins(cohort_folder / name, 2)
        positions = pd.read_parquet(folder / "spatial" / "tissue_positions.parquet")
        raw, names, _, _ = load(folder / "raw_feature_bc_matrix.h5")

        matrix = np.array(metadata["transform_matrices"]["spot_colrow_to_microscope_colrow"])
        place = np.column_stack([positions["array_col"], positions["array_row"], np.ones(len(positions))])
        stated = positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]]
        np.testing.assert_allclose((place @ matrix.T)[:, :2], stated, atol=1e-6)
        total = {f"s_002um_{r:05d}_{c:05d}-1": n for r, c, n in zip(row, col, umi, strict=True)}
        assert total == dict(zip(names, raw.sum(axis=1).tolist(), strict=True))


def test_coarsening_sums_every_gene() -> None:
    counts = sparse.csr_array(np.random.default_rng(0).poisson(1, (49, 3)).astype(np.int32))

    summed, side = coarsen(counts, 7, 4)

    dense = np.zeros((8, 8, 3), int)
    dense[:7, :7] = counts.toarray().reshape(7, 7, 3)
    np.testing.assert_array_equal(
        summed.toarray(), dense.reshape(2, 4, 2, 4, 3).sum(axis=(1, 3)).reshape(4, 3)
    )
    assert side == 2


def test_the_filtered_matrix_is_scrambled_smaller_and_has_empty_bins(slide: Path) -> None:
    folder = slide / "square_002um"
    raw, raw_names, raw_ids, _ = load(folder / "raw_feature_bc_matrix.h5")
    kept, names, ids, symbols = load(folder / "filtered_feature_bc_matrix.h5")
    positions = pd.read_parquet(folder / "spatial" / "tissue_positions.parquet").set_index("barcode")

    assert names != sorted(names)
    assert set(names) == set(positions.index[positions["in_tissue"] == 1])
    assert (kept.sum(axis=1) == 0).any()
    assert len(raw_ids) > len(ids)
    assert len(set(ids)) == len(ids) > len(set(symbols))
    rows, columns = (
        [raw_names.index(n) for n in names[:40] if n in set(raw_names)],
        [raw_ids.index(i) for i in ids],
    )
    inside = [i for i, n in enumerate(names[:40]) if n in set(raw_names)]
    np.testing.assert_array_equal(kept[inside].toarray(), raw[rows][:, columns].toarray())


def test_the_array_hangs_over_the_image_and_is_mirrored_in_two_ways(cohort_folder: Path) -> None:
    grows = []
    for name in ("SIM1", "SIM2"):
        positions = pd.read_parquet(bins(cohort_folder / name, 8) / "spatial" / "tissue_positions.parquet")
        assert (positions["pxl_col_in_fullres"] < 0).any()
        line = positions[positions["array_row"] == 5]["pxl_col_in_fullres"].to_numpy()
        grows.append(np.sign(np.diff(line)).mean())

    assert grows == [1.0, -1.0]


def test_one_slide_comes_flat_with_a_stripped_image_and_false_dots_an_inch(cohort_folder: Path) -> None:
    flat, tiled = (
        cohort_folder / name for name in ("SIM3/SIM3_tissue_image.btf", "SIM1/SIM1_tissue_image.tif")
    )
    assert (cohort_folder / "SIM3" / "binned_outputs").is_dir()

    with tifffile.TiffFile(flat) as a, tifffile.TiffFile(tiled) as b:
        assert not a.pages[0].is_tiled
        assert b.pages[0].is_tiled
        assert len(b.pages) > 1
        assert a.pages[0].tags["XResolution"].value == (96, 1)


def test_the_image_has_glands_lumen_nuclei_and_a_stain_of_its_own(cohort: Dataset) -> None:
    means = []
    for sample in cohort.card.samples[:2]:
        image = open_image(cohort.root / sample.image)
        pixels = image.window(0, 0, *image.size).astype(int)
        dark = pixels.sum(axis=2) < 380
        white = pixels.min(axis=2) > 225
        assert 0.03 < dark.mean() < 0.35
        assert 0.1 < white.mean() < 0.6
        means.append(pixels[~white].mean(axis=0))

    assert np.abs(means[0] - means[1]).max() > 3


def test_depth_is_that_of_the_public_slides(cohort: Dataset) -> None:
    medians = []
    for sample in cohort.card.samples:
        counts = read_spaceranger(cohort.root / sample.path, 8, cohort.root / sample.image, sample.id).counts
        medians.append(np.median(counts.totals()))

    assert 250 < np.mean(medians) < 600  # P2 CRC: 380


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate(Cohort(slides=1, size_mm=0.3, seed=seed), tmp_path / name)
    digests = []
    for name in "abc":
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        digests.append(
            [hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.name != "dataset.toml"]
        )

    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_expected_counts_are_the_mean_of_drawn_counts(cohort: Dataset) -> None:
    sample = read_spaceranger(
        cohort.root / "SIM1" / "outs", 16, cohort.root / cohort.card.samples[0].image, "SIM1"
    )
    share, ids = expected_shares(cohort.root / "SIM1" / "truth.h5", array_um(sample), 16.0)
    chunk = take(sample.counts, np.arange(len(sample.counts)))
    library = sample.counts.totals()
    deep = library > 200
    columns = [sample.counts.genes.ids.index(i) for i in ids]
    drawn = chunk[:, columns].toarray()[deep].astype(float)
    expected = share[deep] * library[deep, None]

    seen = np.array([not sample.counts.genes.symbols[c].startswith("UNSEEN") for c in columns])
    ratio = drawn.sum(axis=0)[seen] / expected.sum(axis=0)[seen]
    strong = expected.sum(axis=0)[seen] > 300
    assert np.abs(np.median(ratio[strong]) - 1) < 0.05
    r = [np.corrcoef(drawn[:, g], expected[:, g])[0, 1] for g in np.flatnonzero(seen)[strong][:60]]
    assert np.mean(r) > 0.3


@pytest.mark.parametrize(
    ("signal", "varying"), [("bin", "by_type"), ("neighbourhood", "by_neighbour"), ("region", "by_region")]
)
def test_a_signal_can_be_planted_at_one_level_only(signal: str, varying: str) -> None:
    genes = gene_model(0, signal)  # type: ignore[arg-type]

    for name in ("by_type", "by_neighbour", "by_region"):
        assert np.any(getattr(genes, name)) == (name == varying)


def test_gene_classes_do_what_their_names_say() -> None:
    section = grow_section(SlidePlan(**PLAN))
    kind, rates = np.array(section.genes.kind), section.rates.modelled
    total = rates.sum(axis=1) + section.rates.rest
    share = rates / total[:, None]

    assert np.abs(share[:, kind == "DEPTH"].std(axis=0) / share[:, kind == "DEPTH"].mean(axis=0)).max() < 0.35
    marker = share[:, kind == "TYPE"]
    assert (marker.std(axis=0) / marker.mean(axis=0)).mean() > 0.5
    hidden = section.tissue.at(section.tissue.hidden)
    r = [abs(np.corrcoef(np.log(s), hidden)[0, 1]) for s in share[:, kind == "UNSEEN"].T]
    assert np.mean(r) > 0.9


def test_overdispersion_widens_counts_and_zero_leaves_poisson() -> None:
    section = grow_section(SlidePlan(**PLAN))
    cells = (section.u_um, section.v_um)
    fano = {}
    for scale in (0.0, 1.0, 3.0):
        times = []
        for draw_number in range(12):
            found = draw(section.rates, section.genes, cells, scale, ("test", draw_number))
            times.append(np.bincount(found.gene, minlength=800)[:800])
        sums = np.array(times)
        fano[scale] = np.median(sums.var(axis=0, ddof=1) / np.maximum(sums.mean(axis=0), 1e-9))

    assert 0.8 < fano[0.0] < 1.15
    assert fano[0.0] < fano[1.0] < fano[3.0]


def test_a_shift_moves_the_counts_and_nothing_else() -> None:
    still, moved = (grow_section(SlidePlan(**{**PLAN, "shift_um": s})) for s in (0.0, 6.0))

    np.testing.assert_allclose(moved.u_um - still.u_um, 6.0)
    np.testing.assert_array_equal(moved.v_um, still.v_um)


def _labels(path: Path, names: list[str]) -> Path:
    rows = [
        f"s_008um_{r:05d}_{c:05d}-1,singlet,{names[(r // 9 + c // 7) % len(names)]},NA"
        for r in range(80)
        for c in range(80)
    ]
    path.write_text(
        "barcode,DeconvolutionClass,DeconvolutionLabel1,DeconvolutionLabel2\n" + "\n".join(rows) + "\n"
    )
    return path


def test_a_label_table_can_be_the_tissue(tmp_path: Path) -> None:
    table = _labels(tmp_path / "labels.csv", ["Tumor II", "CAF", "Goblet", "Mature B", "NA", "vSM"])

    section = grow_section(SlidePlan(**{**PLAN, "labels": str(table)}))

    kinds = {NAMES[k] for k in np.unique(section.tissue.cells.kind)}
    assert kinds == {"stem", "fibroblast", "goblet", "b-cell", "muscle"}
    assert {Region.GLAND, Region.MUSCLE, Region.IMMUNE} <= set(np.unique(section.tissue.region))


def test_every_slide_takes_a_piece_of_a_label_table_of_its_own(tmp_path: Path) -> None:
    table = _labels(tmp_path / "labels.csv", ["Tumor II", "CAF", "Goblet", "NA"])
    grid = read_labels(table)
    grid[:, :40] = np.where(grid[:, :40] >= 0, 3, -1)  # the left half is all fibroblasts
    rng = np.random.default_rng(0)

    first, second = (tissue_from_labels(grid, (300.0, 620.0), i, rng) for i in (0, 1))

    assert (set(first.cells.kind) == {3}) != (set(second.cells.kind) == {3})
    with pytest.raises(DataError, match="has room for 2 slides of 77 x 37 bins"):
        tissue_from_labels(grid, (300.0, 620.0), 2, rng)


def test_the_real_grids_of_the_crc_slides_can_be_the_tissue() -> None:
    table = test_data() / "visium_hd_crc_bins" / "DeconvolutionResults_P1CRC.csv.gz"
    if not table.is_file():
        pytest.skip(f"no real label table at {table}; set HDSTBENCH_TEST_DATA")

    tissue = tissue_from_labels(read_labels(table), (800.0, 900.0), 0, np.random.default_rng(0))

    assert len(tissue.cells) > 5_000
    assert (tissue.region == Region.GLAND).mean() > 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "wanted a CSV with the columns"),
        ("barcode,DeconvolutionLabel1\nx,Goblet\n", "wanted barcodes s_008um"),
        ("barcode,DeconvolutionLabel1\ns_008um_00000_00000-1,Robot\n", "labels such as Goblet"),
    ],
)
def test_an_unfit_label_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)

    with pytest.raises(DataError, match=message):
        read_labels(path)


@pytest.mark.parametrize("wrong", [{"slides": 0}, {"size_mm": 0.1}, {"overdispersion": -1.0}])
def test_an_impossible_cohort_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="wanted at least one slide"):
        Cohort(**wrong)  # type: ignore[arg-type]


def test_nothing_is_left_when_simulating_fails(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="columns"):
        simulate(Cohort(slides=1, size_mm=0.3, labels=str(tmp_path / "none.csv")), tmp_path / "out")

    assert list(tmp_path.iterdir()) == []
