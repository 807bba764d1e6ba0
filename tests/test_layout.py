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

from hdstbench.data.card import Dataset, SampleCard
from hdstbench.data.image import open_image
from hdstbench.data.layout import find_run
from hdstbench.data.levels import resolution
from hdstbench.data.pack import Recipe, write_slide
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


def test_positions_follow_an_image_that_was_cut_out(source: Path, image: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tif"
    cut.symlink_to(image)
    (tmp_path / "cut.tif.json").write_text("{}")
    with pytest.raises(DataError, match=r"wanted crop .* got KeyError"):
        read_spaceranger(source, 8, cut, "x")
    whole = read_spaceranger(source, 8, image, "x")
    size = list(open_image(image).size)
    note = {"source": "he.tif", "source_size": size, "crop": [100, 40, 500, 500], "mpp": 0.2738}
    (tmp_path / "cut.tif.json").write_text(json.dumps(note))

    read = read_spaceranger(source, 8, cut, "x")

    np.testing.assert_allclose(read.xy_px, whole.xy_px - [100, 40])


def test_what_is_not_there_is_named(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "binned_outputs" / "square_016um", tmp_path / "square_016um")

    with pytest.raises(MissingError, match=r"no square_008um below .* \(found square_016um\)"):
        input_files(tmp_path, 8)
    with pytest.raises(MissingError, match=r"found no square_\* folder"):
        input_files(tmp_path / "nowhere", 8)


def test_two_samples_in_one_folder_are_refused(source: Path, tmp_path: Path) -> None:
    for name in ("A", "B"):
        (tmp_path / f"{name}_binned_outputs.tar.gz").touch()
    with pytest.raises(DataError, match="holds archives of A, B; give each sample a folder of its own"):
        find_run(tmp_path)

    other = tmp_path / "other"
    for name in ("A_square_008um_outputs", "B_square_008um_outputs"):
        (other / name).mkdir(parents=True)
    with pytest.raises(DataError, match="holds A_square_008um_outputs and B_square_008um_outputs"):
        find_run(other)


def test_a_card_may_shift_its_slides(cohort: Dataset, tmp_path: Path) -> None:
    sample = cohort.card.samples[0]
    moved = replace(sample, shift_um=(3.0, 1.0))

    res = cohort.card.resolution("16um")
    still, shifted = (read_pair(cohort, s, res)[0] for s in (sample, moved))

    np.testing.assert_allclose((shifted.xy_px - still.xy_px).mean(axis=0) * still.mpp, [3.0, 1.0])
