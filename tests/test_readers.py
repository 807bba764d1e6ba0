"""Space Ranger and her2st folders: every form, the right pixel under each bin, and clear refusals."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from helpers import take, test_data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from hdstbench.data.card import Dataset
from hdstbench.data.image import open_image, read_regions
from hdstbench.data.spaceranger import read_spaceranger
from hdstbench.data.st import read_st
from hdstbench.errors import DataError, HdstError, MissingError
from hdstbench.simulate.tables import GeneTable
from hdstbench.simulate.tenx import write_matrix, write_positions, write_scalefactors


@pytest.fixture
def run(cohort: Dataset, tmp_path: Path) -> Path:
    """A run's outs/ with the 8 um bins of one simulated slide, and its image."""
    sample = cohort.card.samples[0]
    source = cohort.root / sample.path / "binned_outputs" / "square_008um"
    shutil.copytree(source, tmp_path / "outs" / "binned_outputs" / "square_008um")
    (tmp_path / "image.tif").symlink_to(cohort.root / sample.image)
    return tmp_path


def test_bins_are_joined_to_positions_by_name(cohort: Dataset) -> None:
    sample = cohort.card.samples[0]
    read = read_spaceranger(cohort.root / sample.path, 8, cohort.root / sample.image, "x")
    positions = pd.read_parquet(
        cohort.root / sample.path / "binned_outputs/square_008um/spatial/tissue_positions.parquet"
    ).set_index("barcode")

    wanted = positions.loc[[name.decode() for name in read.counts.barcodes]]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(read.grid, wanted[["array_row", "array_col"]])
    np.testing.assert_array_equal(read.xy_px, wanted[["pxl_col_in_fullres", "pxl_row_in_fullres"]])
    np.testing.assert_allclose(read.to_px(read.grid[:, ::-1].astype(float)), read.xy_px, atol=1e-6)


@given(
    turn=st.floats(0, 2 * np.pi),
    mirror=st.booleans(),
    mpp=st.floats(0.2, 0.9),
    seed=st.integers(0, 999),
    size=st.sampled_from([2, 8, 16]),
    dx=st.floats(-40, 40),
    dy=st.floats(-40, 40),
)
@settings(max_examples=20, deadline=None)
def test_what_is_written_in_any_geometry_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    turn: float,
    mirror: bool,
    mpp: float,
    seed: int,
    size: int,
    dx: float,
    dy: float,
) -> None:
    root = tmp_path_factory.mktemp("sr")
    rng = np.random.default_rng(seed)
    side, folder = 7, root / "binned_outputs" / f"square_{size:03d}um"
    (folder / "spatial").mkdir(parents=True)
    row, col = (a.ravel() for a in np.indices((side, side)))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([1, -1 if mirror else 1]) * size / mpp
    xy = np.stack([col, row], axis=1) @ matrix.T + [730 + dx, 730 + dy]
    kept = rng.permutation(side * side)[: side * side - 5]
    counts = np.random.default_rng(seed).poisson(1, (side * side, 3))
    _write_run(folder, size, mpp, xy, kept, counts)
    kept_in_order, marks = np.sort(kept), rng.integers(0, 250, (side * side, 3)).astype(np.uint8)
    for image in _marked(root, xy, marks):
        read = read_spaceranger(root, size, image, "x")

        order = np.argsort(read.grid @ [side, 1])
        np.testing.assert_array_equal(take(read.counts, order).toarray(), counts[kept_in_order])
        np.testing.assert_allclose(read.xy_px[order], xy[kept_in_order])
        assert size / read.to_px.scale == pytest.approx(mpp)
        np.testing.assert_array_equal(_under(image, read.xy_px[order]), marks[kept_in_order])


def _marked(root: Path, xy: np.ndarray, marks: np.ndarray) -> list[Path]:
    """One picture for each way of reading, white but for a pixel of its own colour under each bin."""
    pixels = np.full((1460, 1460, 3), 255, np.uint8)
    x, y = np.floor(xy).astype(int).T
    pixels[y, x] = marks
    files = [root / name for name in ("flat.tif", "tiles.tif", "he.png", "vendor.svs")]
    tifffile.imwrite(files[0], pixels, photometric="rgb")
    tifffile.imwrite(files[1], pixels, photometric="rgb", tile=(128, 128), compression="deflate")
    Image.fromarray(pixels).save(files[2], compress_level=1)
    tifffile.imwrite(files[3], pixels, photometric="rgb", tile=(256, 256))
    return files


def _under(path: Path, xy: np.ndarray) -> np.ndarray:
    """The pixel under each centre, read in the order of tiles as a slide is prepared."""
    corners, out = np.floor(xy), np.zeros((len(xy), 3), np.uint8)
    for index, pixel in read_regions(open_image(path), corners, 1.0, 1):
        out[index] = pixel[0, 0]
    return out


def _write_run(
    folder: Path, size: int, mpp: float, xy: np.ndarray, kept: np.ndarray, counts: np.ndarray
) -> None:
    side = round(len(xy) ** 0.5)
    in_tissue = np.isin(np.arange(len(xy)), kept).reshape(side, side)
    write_positions(folder / "spatial" / "tissue_positions.parquet", size, in_tissue, xy)
    write_scalefactors(folder / "spatial" / "scalefactors_json.json", size, mpp, 0.25, 0.025)
    genes = GeneTable(
        ids=("g0", "g1", "g2"), symbols=("A", "B", "A"), column=np.arange(3), on_target=np.ones(3, bool)
    )
    names = [f"s_{size:03d}um_{i // side:05d}_{i % side:05d}-1" for i in kept]
    matrix = sparse.csr_array(counts[kept].astype(np.int32))
    write_matrix(folder / "filtered_feature_bc_matrix.h5", matrix, names, genes, "x")


FOLDER = "outs/binned_outputs/square_008um"


@pytest.mark.parametrize(("turned", "hint"), [(True, "it is rotated"), (False, "not hires or CytAssist")])
def test_an_image_of_another_size_is_refused(run: Path, turned: bool, hint: str) -> None:
    with Image.open(run / FOLDER / "spatial/tissue_hires_image.png") as small:
        width, height = (side * 4 for side in small.size)
    Image.new("RGB", (height, width) if turned else (width // 2, height // 2)).save(run / "other.png")

    with pytest.raises(DataError, match=hint):
        read_spaceranger(run / "outs", 8, run / "other.png", "x")


def test_integer_columns_do_not_wrap_around(run: Path) -> None:
    read = read_spaceranger(run / "outs", 8, run / "image.tif", "x")

    assert (read.grid[:1] - read.grid[-1:]).dtype == np.int64


@pytest.mark.parametrize(
    ("folder", "size", "message"),
    [
        ("visium_hd_layout/seurat", 8, "positions give 0.1369 um a pixel"),
        ("visium_hd_layout/seurat", 16, "wanted the full-resolution H&E"),
        ("visium_hd_layout/visiumio", 2, "wanted the full-resolution H&E"),
        ("visium_hd_layout/visiumio", 8, "wanted the full-resolution H&E"),
        ("visium_hd_layout/seurat", 2, "no square_002um below .*found square_008um, square_016um"),
    ],
)
def test_published_fixtures_fail_with_a_reason(folder: str, size: int, message: str) -> None:
    root = test_data() / folder
    if not root.is_dir():
        pytest.skip(f"no published fixtures at {root}; set HDSTBENCH_TEST_DATA")

    with pytest.raises(HdstError, match=message):
        read_spaceranger(root, size, root / "none.tif", "x")


@pytest.fixture
def section(tmp_path: Path) -> Path:
    """One made-up section in the her2st layout: a spot without counts, counts without a spot."""
    return make_section(tmp_path, "X1")


def make_section(root: Path, name: str, *, seed: int = 0, side: int = 9, genes: int = 60) -> Path:
    """Write images/, counts/ and spots/ of one section of simulated spots."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "counts", "spots"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    x, y = (a.ravel() + 2 for a in np.meshgrid(np.arange(side), np.arange(side)))
    step = 200 / 0.69
    new_x, new_y = x + rng.normal(0, 0.02, len(x)), y + rng.normal(0, 0.02, len(x))
    spots = pd.DataFrame(
        {
            "x": x,
            "y": y,
            "new_x": new_x,
            "new_y": new_y,
            "pixel_x": step * (new_x - 1),
            "pixel_y": step * (new_y - 1),
        }
    ).round(3)
    spots["selected"] = 1
    spots.to_csv(root / "spots" / f"{name}_selection.tsv", sep="\t", index=False)
    grey = rng.uniform(60, 220, (side + 4, side + 4)).astype(np.uint8)
    picture = (
        Image.fromarray(grey).resize((int(step * (side + 3)),) * 2, Image.Resampling.BICUBIC).convert("RGB")
    )
    picture.save(root / "images" / f"{name}.jpg", quality=90)
    light = np.asarray(picture)[(spots["pixel_y"]).astype(int), (spots["pixel_x"]).astype(int), 0] / 255
    rate = np.outer(light, rng.uniform(0, 40, genes)) + rng.uniform(1, 20, genes)
    counts = pd.DataFrame(rng.poisson(rate), columns=[f"GENE{i}" for i in range(genes)])
    counts.index = pd.Index([f"{a}x{b}" for a, b in zip(x, y, strict=True)])
    counts = counts.iloc[1:]
    counts.loc["40x40"] = 1
    counts.to_csv(root / "counts" / f"{name}.tsv.gz", sep="\t", compression={"method": "gzip", "mtime": 1})
    return root


def test_spots_and_counts_are_joined_on_their_position(section: Path) -> None:
    read = read_st(section, "X1")

    assert len(read.counts) == 80
    assert read.mpp == pytest.approx(0.69, rel=1e-3)
    light = np.asarray(Image.open(read.image))[read.xy_px[:, 1].astype(int), read.xy_px[:, 0].astype(int), 0]
    total = take(read.counts, np.arange(80)).sum(axis=1)
    assert np.corrcoef(light, total)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda r: (r / "images/X1.jpg").unlink(), "is not there; wanted images/, counts/ and spots/"),
        (lambda r: (r / "spots/X1_selection.tsv").write_text("x\ty\n1\t2\n"), "lacks the column new_x"),
        (lambda r: (r / "counts/X1.tsv.gz").write_bytes(b"no gzip"), "is not a whole table"),
        (lambda r: _flip(r / "counts/X1.tsv.gz"), "is not a whole table"),
        (lambda r: _rewrite(r, lambda t: t.replace("\t3\t", "\t0.5\t")), "no counts; wanted raw UMI"),
        (lambda r: _rewrite(r, lambda t: t.replace("x", "_")), "share no position"),
    ],
)
def test_a_damaged_section_is_refused(section: Path, harm: Callable[[Path], object], message: str) -> None:
    harm(section)

    with pytest.raises((DataError, MissingError), match=message):
        read_st(section, "X1")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for i in range(200, 260):
        content[i] ^= 0xFF
    path.write_bytes(bytes(content))


def _rewrite(root: Path, change: Callable[[str], str]) -> None:
    path = root / "counts" / "X1.tsv.gz"
    with gzip.open(path, "rt") as file:
        text = file.read()
    with gzip.open(path, "wt") as file:
        file.write(change(text))


def test_a_real_section_is_read() -> None:
    root = test_data() / "her2st"
    if not root.is_dir():
        pytest.skip(f"no real section at {root}; set HDSTBENCH_TEST_DATA")

    read = read_st(root, "B4")

    assert len(read.counts) == 283
    assert read.mpp == pytest.approx(0.688, abs=0.003)
    assert np.median(take(read.counts, np.arange(283)).sum(axis=1)) == 648
