"""One sample in every form that people keep it in: the same prepared slide, bit for bit."""

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from helpers import take
from PIL import Image

from hdstbench.data.card import Dataset, SampleCard, load_dataset
from hdstbench.data.image import open_image, padded
from hdstbench.data.layout import find_run, open_run
from hdstbench.data.levels import resolution
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.data.prepare import prepared_folder
from hdstbench.data.prepared import load_manifest
from hdstbench.data.readers import read_pair
from hdstbench.data.spaceranger import input_files, read_spaceranger
from hdstbench.errors import DataError, MissingError

ID = "Visium_HD_Human_Colon_Cancer_P1"


@pytest.fixture(scope="module")
def source(cohort: Dataset) -> Path:
    """Space Ranger 3.1 output of one simulated slide."""
    return cohort.root / "SIM1" / "outs"


@pytest.fixture(scope="module")
def image(cohort: Dataset) -> Path:
    return cohort.root / cohort.card.samples[0].image


def content(path: Path, image: Path, res: str, folder: Path) -> tuple[str, str]:
    """Hashes of pixels and labels of the slide that is prepared from a path."""
    size = resolution(res)
    base = read_spaceranger(path, 8, image, "x")
    own = base if size.bin_um == 8 else read_spaceranger(path, size.bin_um, image, "x")
    folder.mkdir(parents=True)
    write_slide(folder, own, base, SampleCard(id="x", patient="p", path=""), Recipe(res=size, mpp=0.5))
    manifest = load_manifest(folder)
    return manifest.pixels, manifest.labels


@pytest.fixture(scope="module")
def wanted(source: Path, image: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    folder = tmp_path_factory.mktemp("wanted")
    return {res: content(source, image, res, folder / res) for res in ("8um", "16um")}


def _plain(source: Path, root: Path) -> Path:
    shutil.copytree(source, root / "outs")
    return root


def _version_4(source: Path, root: Path) -> Path:
    """What 4.x adds: cells, a table of barcodes, and its name in the files."""
    outs = root / "outs"
    shutil.copytree(source, outs)
    for path in outs.rglob("*.h5"):
        with h5py.File(path, "a") as file:
            file.attrs["software_version"] = "spaceranger-4.0.1"
    (outs / "segmented_outputs" / "spatial").mkdir(parents=True)
    (outs / "segmented_outputs" / "spatial" / "scalefactors_json.json").write_text("{}")
    pd.DataFrame({"square_002um": ["x"], "cell_id": ["cellid_000000001-1"]}).to_parquet(
        outs / "barcode_mappings.parquet"
    )
    return outs


def _bare(source: Path, root: Path) -> Path:
    """Republished subsets have no attributes."""
    outs = _plain(source, root) / "outs"
    for path in outs.rglob("*.h5"):
        with h5py.File(path, "a") as file:
            for name in list(file.attrs):
                del file.attrs[name]
    return outs / "binned_outputs"


def _flat(source: Path, root: Path) -> Path:
    """A download whose archives were unpacked beside prefixed files."""
    shutil.copytree(source / "binned_outputs", root / "binned_outputs")
    (root / f"{ID}_feature_slice.h5").touch()
    (root / f"{ID}_metrics_summary.csv").touch()
    return root


def _renamed(source: Path, root: Path) -> Path:
    shutil.copytree(source / "binned_outputs", root / f"{ID}_binned_outputs")
    return root


def _tar(path: Path, folders: dict[str, Path]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, folder in folders.items():
            tar.add(folder, name)


def _packed(source: Path, root: Path) -> Path:
    """A download as it is: PNGs of the coarser bins are hard links to those of 2 um."""
    _tar(root / f"{ID}_binned_outputs.tar.gz", {"binned_outputs": source / "binned_outputs"})
    _tar(root / f"{ID}_spatial.tar.gz", {"spatial": source / "spatial"})
    return root


def _packed_by_size(source: Path, root: Path) -> Path:
    for size in (2, 8, 16):
        name = f"square_{size:03d}um"
        _tar(root / f"{ID}_{name}_outputs.tar.gz", {name: source / "binned_outputs" / name})
    return root


def _zipped(source: Path, root: Path) -> Path:
    with zipfile.ZipFile(root / f"{ID}_outs.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for path in sorted(source.rglob("*")):
            file.write(path, f"outs/{path.relative_to(source)}")
    return root / f"{ID}_outs.zip"


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "a run's folder": _plain,
    "4.x": _version_4,
    "without attributes": _bare,
    "a flat download": _flat,
    "a renamed folder": _renamed,
    "a packed download": _packed,
    "an archive a bin size": _packed_by_size,
    "a zip": _zipped,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_sample_gives_the_same_slide(
    form: str, source: Path, image: Path, wanted: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    root = tmp_path / "sample"
    root.mkdir()
    path = FORMS[form](source, root)

    found = content(path, image, "16um", tmp_path / "prepared")

    assert found == wanted["16um"]
    assert all(file.is_file() for file in input_files(path, 16))


def test_one_bin_folder_is_enough_for_its_bins(
    source: Path, image: Path, wanted: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    alone = tmp_path / "elsewhere" / "square_008um"
    shutil.copytree(source / "binned_outputs" / "square_008um", alone)

    assert content(alone, image, "8um", tmp_path / "prepared") == wanted["8um"]


def test_an_archive_is_unpacked_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDSTBENCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "sample"
    root.mkdir()
    _packed(source, root)
    read_spaceranger(root, 8, next(source.parent.glob("*.tif")), "x")
    unpacked = sorted((tmp_path / "cache" / "unpacked").rglob("*.h5"))
    monkeypatch.setattr("hdstbench.data.layout.unpack", lambda *_: pytest.fail("unpacked again"))

    read_spaceranger(root, 16, next(source.parent.glob("*.tif")), "x")

    assert {path.parent.name for path in unpacked} == {"square_008um", "square_016um"}  # not the large 2 um


@pytest.mark.parametrize("size", [8, 16, 24])
def test_bins_summed_from_2_um_are_those_of_space_ranger(
    size: int, source: Path, image: Path, tmp_path: Path
) -> None:
    only = tmp_path / "binned_outputs" / "square_002um"
    shutil.copytree(source / "binned_outputs" / "square_002um", only)

    summed = read_spaceranger(tmp_path, size, image, "x")

    if size == 24:  # Space Ranger wrote none; they are sums of the 8 um ones as well
        eight = tmp_path / "eight" / "square_008um"
        shutil.copytree(source / "binned_outputs" / "square_008um", eight)
        own = read_spaceranger(eight, size, image, "x")
    else:
        own = read_spaceranger(source, size, image, "x")
    order, other = (np.lexsort((s.grid[:, 1], s.grid[:, 0])) for s in (summed, own))
    np.testing.assert_array_equal(summed.grid[order], own.grid[other])
    np.testing.assert_allclose(summed.xy_px[order], own.xy_px[other], atol=1e-6)
    np.testing.assert_allclose(summed.to_px.matrix, own.to_px.matrix, atol=1e-6)
    assert summed.grid_shape == own.grid_shape
    np.testing.assert_array_equal(take(summed.counts, order).toarray(), take(own.counts, other).toarray())
    np.testing.assert_array_equal(summed.counts.totals()[order], own.counts.totals()[other])


def test_a_shift_moves_every_position_by_so_many_um(source: Path, image: Path) -> None:
    still, moved = (read_spaceranger(source, 8, image, "x", shift_um=s) for s in ((), (4.0, -2.5)))

    np.testing.assert_allclose(
        (moved.xy_px - still.xy_px) * still.mpp, np.tile([4.0, -2.5], (len(still.grid), 1))
    )
    np.testing.assert_allclose(
        moved.to_px.matrix[:, 2] - still.to_px.matrix[:, 2], np.array([4.0, -2.5]) / still.mpp
    )


def _cut(image: Path, folder: Path, **note: object) -> Path:
    """A part of an image, with a note of where it was cut out."""
    whole = open_image(image)
    cut = folder / "cut.png"
    Image.fromarray(padded(whole, 100, 40, 500, 600)).save(cut)
    values = {"source": "he.tif", "source_size": list(whole.size), "crop": [100, 40, 500, 600], "mpp": 0.2738}
    (folder / "cut.png.json").write_text(json.dumps({**values, **note}))
    return cut


def test_positions_follow_an_image_that_was_cut_out(source: Path, image: Path, tmp_path: Path) -> None:
    whole = read_spaceranger(source, 8, image, "x")

    read = read_spaceranger(source, 8, _cut(image, tmp_path), "x")

    np.testing.assert_allclose(read.xy_px, whole.xy_px - [100, 40])


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ({"crop": [100, 40, 300, 300]}, "is of a cut of 300 x 300 px, cut.png has 500 x 600"),
        ({"crop": [float("nan"), 0, 500, 600]}, r"wanted crop .* got ValueError"),
        ({"crop": [1, 2]}, "is of a cut of  px"),
        ({"source_size": None}, r"wanted crop .* got TypeError"),
        ({"source_size": [50, 50]}, "the positions belong to one of"),
    ],
)
def test_a_note_that_does_not_fit_its_image_is_refused(
    source: Path, image: Path, tmp_path: Path, note: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_spaceranger(source, 8, _cut(image, tmp_path, **note), "x")


def test_a_note_that_is_added_makes_another_prepared_slide(cohort: Dataset, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(cohort.root / "SIM1", root / "SIM1", copy_function=shutil.copyfile)
    text = (cohort.root / "dataset.toml").read_text().split("[[samples]]")
    (root / "dataset.toml").write_text("[[samples]]".join(text[:2]))
    dataset = load_dataset(str(root))
    sample, res = dataset.card.samples[0], dataset.card.resolution("16um")
    before = prepared_folder(dataset, sample, res, everything=False)

    (root / f"{sample.image}.json").write_text("{}")

    assert prepared_folder(dataset, sample, res, everything=False) != before


def test_what_is_not_there_is_named(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "binned_outputs" / "square_016um", tmp_path / "square_016um")

    with pytest.raises(MissingError, match=r"no square_008um below .* \(found square_016um\)"):
        input_files(tmp_path, 8)
    with pytest.raises(MissingError, match=r"found no square_\* folder"):
        input_files(tmp_path / "nowhere", 8)


def _two(source: Path, root: Path, form: str) -> None:
    """Two samples in one folder."""
    bins = source / "binned_outputs"
    for name in ("A", "B"):
        if form == "archives":
            (root / f"{name}_binned_outputs.tar.gz").touch()
        elif form == "bin folders":
            shutil.copytree(bins / "square_016um", root / f"{name}_square_016um")
        elif form == "one archive":
            shutil.copytree(bins / "square_016um", root / "both" / name / "square_016um")
        else:
            shutil.copytree(bins, root / f"{name}{form}")
    if form == "one archive":
        _tar(root / "outs.tar.gz", {"both": root / "both"})
        shutil.rmtree(root / "both")


@pytest.mark.parametrize("form", ["archives", "bin folders", "_binned_outputs", "_outs", "one archive"])
def test_two_samples_in_one_folder_are_refused(source: Path, tmp_path: Path, form: str) -> None:
    root = tmp_path / "both"
    root.mkdir()
    _two(source, root, form)

    with pytest.raises(DataError, match=r"holds .* of .*A.*, .*B.*; give each sample a folder of its own"):
        open_run(root, 16)


def test_bins_of_one_sample_and_an_archive_of_another_are_refused(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "binned_outputs", tmp_path / "A_binned_outputs")
    (tmp_path / "A_binned_outputs.tar.gz").touch()

    assert find_run(tmp_path).bins.keys() == {2, 8, 16}
    (tmp_path / "A_binned_outputs.tar.gz").rename(tmp_path / "B_binned_outputs.tar.gz")

    with pytest.raises(DataError, match="holds files of A, B; give each sample a folder of its own"):
        find_run(tmp_path)


def test_a_folder_is_known_from_inside_and_through_links(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outs").symlink_to(source)
    (tmp_path / "binned_outputs").symlink_to(source / "binned_outputs")

    assert find_run(tmp_path).bins.keys() == {2, 8, 16}
    monkeypatch.chdir(source / "binned_outputs" / "square_008um")
    assert find_run(Path()).bins.keys() == {2, 8, 16}


def test_a_bin_folder_goes_with_those_of_its_own_name(source: Path, tmp_path: Path) -> None:
    bins = source / "binned_outputs"
    for name, size in (("A", "008"), ("B", "008"), ("B", "016"), ("B", "002")):
        shutil.copytree(bins / f"square_{size}um", tmp_path / f"{name}_square_{size}um")

    run = find_run(tmp_path / "A_square_008um")

    assert run.bins == {8: tmp_path / "A_square_008um"}
    assert find_run(tmp_path / "B_square_016um").bins.keys() == {2, 8, 16}


def test_bins_of_two_places_are_not_taken_for_one_slide(
    cohort: Dataset, source: Path, image: Path, tmp_path: Path
) -> None:
    """Eight and sixteen um of two runs under one name: the gene ids are the same, the places are not."""
    outs = tmp_path / "SIM1" / "outs" / "binned_outputs"
    for size in (8, 16):
        shutil.copytree(source / "binned_outputs" / f"square_{size:03d}um", outs / f"square_{size:03d}um")
    table = outs / "square_008um/spatial/tissue_positions.parquet"
    positions = pd.read_parquet(table)
    positions.assign(pxl_col_in_fullres=positions["pxl_col_in_fullres"] + 60).to_parquet(table)
    shutil.copyfile(image, tmp_path / cohort.card.samples[0].image)
    moved = Dataset(cohort.card, tmp_path, tmp_path)

    with pytest.raises(
        DataError,
        match=r"8 and 16 um bins of one place lie 16\.4 um apart in the image",
    ):
        read_pair(moved, cohort.card.samples[0], cohort.card.resolution("16um"))


def test_what_is_unpacked_is_enough_or_the_archive_helps(source: Path, image: Path, tmp_path: Path) -> None:
    _packed(source, tmp_path)
    shutil.copytree(source / "binned_outputs" / "square_008um", tmp_path / "binned_outputs" / "square_008um")
    (tmp_path / "binned_outputs" / "square_008um" / "raw_feature_bc_matrix.h5").unlink()

    sample = read_spaceranger(tmp_path, 16, image, "x")

    assert sample.unit_um == 16
    assert next(path.name for path in input_files(tmp_path, 8)) == "filtered_feature_bc_matrix.h5"
    assert input_files(tmp_path, 16) == [tmp_path / f"{ID}_binned_outputs.tar.gz"]


def test_small_pictures_alone_are_no_bins(source: Path, tmp_path: Path) -> None:
    _tar(tmp_path / f"{ID}_spatial.tar.gz", {"spatial": source / "spatial"})

    with pytest.raises(MissingError, match=r"no square_008um below .*found no square_\* folder"):
        input_files(tmp_path, 8)


def test_a_card_may_shift_its_slides(cohort: Dataset, tmp_path: Path) -> None:
    sample = cohort.card.samples[0]
    moved = replace(sample, shift_um=(3.0, 1.0))

    res = cohort.card.resolution("16um")
    still, shifted = (read_pair(cohort, s, res)[0] for s in (sample, moved))

    np.testing.assert_allclose((shifted.xy_px - still.xy_px).mean(axis=0) * still.mpp, [3.0, 1.0])
