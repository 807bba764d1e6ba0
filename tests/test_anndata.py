"""An .h5ad and its image are read as a slide with the right counts and pixels for every spot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from helpers import take
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from spots import GENES, Array, Made, bright, make, under_spots, write_h5ad

from hdstbench.data.adata import read
from hdstbench.data.card import Card, Dataset, SampleCard
from hdstbench.data.levels import native
from hdstbench.data.sample import Sample
from hdstbench.errors import DataError, HdstError


def read_sample(path: Path, *, pitch_um: float = 100.0, image: str = "", **card: Any) -> Sample:  # noqa: ANN401
    """Read an .h5ad whose image lies beside it."""
    sample = SampleCard(id="S", patient="P", path=path.name, image=image or f"{path.stem}.png", **card)
    plain = {"name": "x", "title": "x", "licence": "x", "citation": "x", "resolutions": ("55um",)}
    whole = Card(
        reader="anndata", samples=(sample,), native_um=55.0, pitch_um=pitch_um, patch_um=112.0, **plain
    )
    dataset = Dataset(whole, path.parent, path.parent)
    own, base = read(dataset, sample, native("55um", 112.0, pitch_um))
    assert own is base
    return own


@given(
    turn=st.floats(0, 2 * np.pi),
    hexagonal=st.booleans(),
    mpp=st.floats(1.0, 3.0),
    pitch_um=st.sampled_from([100.0, 128.0, 200.0]),
    side=st.integers(2, 7),
    seed=st.integers(0, 99),
    stated=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_each_spot_is_read_with_its_counts_and_the_pixel_under_it(
    tmp_path_factory: pytest.TempPathFactory,
    turn: float,
    hexagonal: bool,
    mpp: float,
    pitch_um: float,
    side: int,
    seed: int,
    stated: bool,
) -> None:
    array = Array(side=side, pitch_um=pitch_um, mpp=mpp, hexagonal=hexagonal, turn=turn)
    made = make("S", array, seed=seed)
    path = write_h5ad(tmp_path_factory.mktemp("h5ad"), made, stated=stated)

    sample = read_sample(path, pitch_um=pitch_um)

    tissue = made.adata[made.adata.obs["in_tissue"] == 1]
    assert sample.mpp == pytest.approx(mpp)
    np.testing.assert_array_equal(under_spots(sample), bright(sample))
    np.testing.assert_array_equal(take(sample.counts, np.arange(len(tissue))).toarray(), tissue.X.toarray())
    np.testing.assert_array_equal(sample.grid, tissue.obs[["array_row", "array_col"]])
    np.testing.assert_allclose(sample.to_px(sample.grid[:, ::-1].astype(float)), sample.xy_px, atol=1e-6)


def test_spots_without_array_columns_get_places_in_a_square_array(tmp_path: Path) -> None:
    made = make("S", Array(side=5))
    wanted = made.adata.obs.loc[made.adata.obs["in_tissue"] == 1, ["array_row", "array_col"]].to_numpy()
    del made.adata.obs["array_row"], made.adata.obs["array_col"]

    sample = read_sample(write_h5ad(tmp_path, made))

    np.testing.assert_array_equal(sample.grid[:, 1], wanted[:, 1])
    np.testing.assert_array_equal(sample.grid[:, 0], wanted[:, 0].max() - wanted[:, 0])  # from the top left
    np.testing.assert_allclose(sample.to_px(sample.grid[:, ::-1].astype(float)), sample.xy_px, atol=1e-6)


def test_spots_without_array_columns_get_places_of_their_own_in_a_hexagonal_array(tmp_path: Path) -> None:
    made = make("S", Array(side=7, hexagonal=True))
    made.adata.obs = made.adata.obs[["in_tissue"]]

    sample = read_sample(write_h5ad(tmp_path, made))

    assert len(np.unique(sample.grid, axis=0)) == len(sample.grid) == 48
    x, y = sample.xy_px.T
    assert (np.diff(sample.grid[np.lexsort((x, y)), 0]) >= 0).all()


def log_x(adata: AnnData) -> None:
    adata.X = adata.X.log1p()


def in_layer(adata: AnnData) -> None:
    adata.layers["counts"] = adata.X.copy()
    log_x(adata)


def in_raw(adata: AnnData) -> None:
    adata.raw = adata
    log_x(adata)


def dense(adata: AnnData) -> None:
    adata.X = adata.X.toarray()


def by_column(adata: AnnData) -> None:
    adata.X = adata.X.tocsc().astype(np.int64)


@pytest.mark.parametrize("change", [in_layer, in_raw, dense, by_column])
def test_counts_are_found_where_they_are(tmp_path: Path, change: Callable[[AnnData], None]) -> None:
    made = make("S", Array(side=4))
    wanted = made.adata.X.toarray()[(made.adata.obs["in_tissue"] == 1).to_numpy()]
    change(made.adata)

    sample = read_sample(write_h5ad(tmp_path, made))

    np.testing.assert_array_equal(take(sample.counts, np.arange(15)).toarray(), wanted)
    assert sample.counts.genes.ids[:2] == ("ENSG0000", "ENSG0001")
    assert sample.counts.genes.symbols == GENES


def test_rows_that_are_no_genes_are_left_out(tmp_path: Path) -> None:
    made = make("S", Array(side=4))
    kinds = np.where(np.arange(len(GENES)) == 2, "Antibody Capture", "Gene Expression")
    made.adata.var["feature_types"] = kinds
    made.adata.var_names = [*GENES[:-2], "NegControlProbe_00042", "BLANK_0006"]

    sample = read_sample(write_h5ad(tmp_path, made))

    assert sample.counts.genes.symbols == tuple(g for g in GENES[:-2] if g != "NOISE")
    np.testing.assert_array_equal(under_spots(sample), bright(sample))


def test_genes_without_ids_are_named_by_their_names(tmp_path: Path) -> None:
    made = make("S", Array(side=4))
    del made.adata.var["gene_ids"]

    sample = read_sample(write_h5ad(tmp_path, made))

    assert sample.counts.genes.ids == sample.counts.genes.symbols == GENES


def own(made: Made, mpp: float, folder: Path) -> None:
    made.adata.uns["hdstbench"] = {"mpp": mpp}


def space_ranger(made: Made, mpp: float, folder: Path) -> None:
    made.adata.uns["spatial"]["X"]["scalefactors"]["microns_per_pixel"] = mpp


def hest_note(made: Made, mpp: float, folder: Path) -> None:
    (folder / "metadata").mkdir()
    note = {"pixel_size_um_estimated": mpp, "pixel_size_um_embedded": 0.26}
    (folder / "metadata" / "S.json").write_text(json.dumps(note))


def pitch_alone(made: Made, mpp: float, folder: Path) -> None:
    """Nothing is stated; the card's pitch gives 2.0."""


@pytest.mark.parametrize(
    ("sources", "mpp"),
    [
        ((pitch_alone,), 2.0),
        ((hest_note,), 1.98),
        ((hest_note, space_ranger), 1.96),
        ((hest_note, space_ranger, own), 1.94),
    ],
)
def test_um_a_pixel_is_taken_from_the_first_place_that_states_it(
    tmp_path: Path, sources: tuple[Callable[[Made, float, Path], None], ...], mpp: float
) -> None:
    made = make("S", Array(side=4))
    for number, source in enumerate(sources):
        source(made, 1.98 - 0.02 * number, tmp_path)

    sample = read_sample(write_h5ad(tmp_path / "st", made, stated=False))

    assert sample.mpp == pytest.approx(mpp)


def test_positions_follow_a_shift_and_a_crop(tmp_path: Path) -> None:
    made = make("S", Array(side=4))
    path = write_h5ad(tmp_path, made)
    plain = read_sample(path)
    height, width = made.picture.shape[:2]
    Image.fromarray(made.picture[20:, 30:]).save(tmp_path / "crop.png")
    note = {"crop": [30, 20, width - 30, height - 20], "source_size": [width, height]}
    (tmp_path / "crop.png.json").write_text(json.dumps(note))

    cropped = read_sample(path, image="crop.png")
    shifted = read_sample(path, shift_um=(4.0, -6.0))

    np.testing.assert_array_equal(under_spots(cropped), bright(cropped))
    np.testing.assert_allclose(shifted.xy_px - plain.xy_px, np.tile([2.0, -3.0], (15, 1)))
    np.testing.assert_allclose(shifted.to_px(shifted.grid[:, ::-1].astype(float)), shifted.xy_px, atol=1e-6)


def swap_rows(adata: AnnData) -> None:
    adata.obsm["spatial"] = adata.obsm["spatial"][::-1].copy()


def twice(adata: AnnData) -> None:
    adata.obsm["spatial"][1] = adata.obsm["spatial"][0]


def two_slides(adata: AnnData) -> None:
    adata.uns["spatial"]["Y"] = adata.uns["spatial"]["X"]


def same_names(adata: AnnData) -> None:
    adata.var["gene_ids"] = ["ENSG0001", *adata.var["gene_ids"][1:]]


def no_tissue(adata: AnnData) -> None:
    adata.obs["in_tissue"] = 0


def halves(adata: AnnData) -> None:
    adata.X = adata.X * 0.5


def below_zero(adata: AnnData) -> None:
    adata.X = -adata.X


def zeros(adata: AnnData) -> None:
    adata.X = adata.X * 0


def not_finite(adata: AnnData) -> None:
    adata.obsm["spatial"][3, 1] = np.nan


def one_column(adata: AnnData) -> None:
    adata.obsm["spatial"] = adata.obsm["spatial"][:, :1].copy()


def no_positions(adata: AnnData) -> None:
    adata.obsm["X_pca"] = adata.obsm.pop("spatial")


def stating(mpp: object) -> Callable[[AnnData], None]:
    def change(adata: AnnData) -> None:
        adata.uns["hdstbench"] = {"mpp": mpp}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_positions, r"has no obsm\['spatial'\] \(found X_pca\); wanted \(x, y\) of each spot"),
        (one_column, "is no table of two finite numbers a spot"),
        (not_finite, "is no table of two finite numbers a spot"),
        (swap_rows, r"lies up to \d spots off the array of array_row and array_col; the rows .* mixed up"),
        (twice, "has 2 spots on top of each other; wanted one slide a file"),
        (two_slides, r"joins 2 slides \(X, Y\); write a file for each"),
        (no_tissue, "holds 0 spots in tissue"),
        (log_x, r"X holds [\d.]+, layers\['counts'\] is not there, raw.X is not there; wanted raw counts"),
        (halves, r"X holds [\d]+\.5, .* wanted raw counts in one of them: whole numbers, not normalised"),
        (below_zero, r"X holds -\d+, "),
        (zeros, "X holds zeros alone, "),
        (same_names, "1 gene ids repeat, such as ENSG0001; wanted each gene once"),
        (stating("small"), r"uns\['hdstbench'\]\['mpp'\] is 'small', wanted um a pixel above 0"),
        (stating(-2.0), r"\['mpp'\] is .*-2.0.*, wanted um a pixel above 0"),
        (
            stating(2.2),
            r"says 2.2000 um a pixel, by which neighbouring spots lie 110.0 um apart, but .* = 100",
        ),
    ],
)
def test_a_damaged_slide_is_refused_with_one_line(
    tmp_path: Path, change: Callable[[AnnData], None], message: str
) -> None:
    made = make("S", Array(side=4))
    change(made.adata)
    path = write_h5ad(tmp_path, made, stated="hdstbench" not in made.adata.uns)

    with pytest.raises(DataError, match=message) as caught:
        read_sample(path)

    assert "\n" not in str(caught.value)


def turned(path: Path) -> None:
    image = path.with_suffix(".png")
    Image.fromarray(np.rot90(np.asarray(Image.open(image)))).save(image)


def smaller(path: Path) -> None:
    Image.new("RGB", (300, 200)).save(path.with_suffix(".png"))


def text_file(path: Path) -> None:
    path.write_text("no HDF5")


def cut_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def other_h5(path: Path) -> None:
    import h5py  # noqa: PLC0415 - as in the reader

    with h5py.File(path, "w") as file:
        file["matrix"] = np.zeros(3)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (turned, r"belong to one of \d+ x \d+ px; it is rotated"),
        (smaller, r"S.png is 300 x 200 px, .* give the full-resolution H&E of this slide"),
        (
            lambda path: path.with_suffix(".png").unlink(),
            r"S.png is not there; wanted the full-resolution H&E",
        ),
        (lambda path: path.with_suffix(".png").write_text("x"), "S.png is not a readable image"),
        (Path.unlink, r"S.h5ad is not there; wanted an .h5ad"),
        (text_file, "S.h5ad is not a whole .h5ad"),
        (cut_file, "S.h5ad is not a whole .h5ad"),
        (other_h5, "S.h5ad (is not a whole .h5ad|holds 0 spots and 0 genes)"),
    ],
)
def test_damaged_files_are_refused_with_one_line(
    tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    path = write_h5ad(tmp_path, make("S", Array(side=4, hexagonal=True)))
    harm(path)

    with pytest.raises(HdstError, match=message) as caught:
        read_sample(path)

    assert "\n" not in str(caught.value)
