"""Damaged data sets of every kind: one line each that says what is wrong, and nothing half-made.

The files are those of one simulated slide; each case harms one thing and then prepares the slide.
"""

import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile

from hdstbench.data.card import CARD, Dataset, load_dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import HdstError

Harm = Callable[[Path], object]

BINS = "SIM1/outs/binned_outputs"
IMAGE = "SIM1/SIM1_tissue_image.tif"


def h5(size: int = 16) -> str:
    return f"{BINS}/square_{size:03d}um/filtered_feature_bc_matrix.h5"


def table(size: int = 16) -> str:
    return f"{BINS}/square_{size:03d}um/spatial/tissue_positions.parquet"


def remove(name: str) -> Harm:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def write(name: str, content: bytes) -> Harm:
    return lambda root: (root / name).write_bytes(content)


def cut(name: str, share: float = 0.5) -> Harm:
    def harm(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * share)])

    return harm


def positions(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Harm:
    def harm(root: Path) -> None:
        change(pd.read_parquet(root / table())).to_parquet(root / table())

    return harm


def column(name: str, change: Callable[[pd.Series], object]) -> Harm:
    return positions(lambda t: t.assign(**{name: change(t[name])}))


def factors(**values: object) -> Harm:
    def harm(root: Path) -> None:
        path = root / BINS / "square_016um/spatial/scalefactors_json.json"
        known = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))

    return harm


def matrix(name: str, change: Callable[[np.ndarray], np.ndarray] | None, size: int = 16) -> Harm:
    def harm(root: Path) -> None:
        with h5py.File(root / h5(size), "a") as file:
            old = file[name][()] if isinstance(file[name], h5py.Dataset) else None
            del file[name]
            if change is not None and old is not None:
                file[name] = change(old)

    return harm


def picture(make: Callable[[Path, tuple[int, int]], object]) -> Harm:
    """Replace the image by one that `make` writes, given its width and height."""

    def harm(root: Path) -> None:
        with tifffile.TiffFile(root / IMAGE) as tiff:
            height, width = tiff.pages[0].shape[:2]
        (root / IMAGE).unlink()
        make(root / IMAGE, (width, height))

    return harm


def plain(path: Path, size: tuple[int, int], **options: object) -> None:
    shape = (size[1], size[0], 3)
    tifffile.imwrite(path, np.zeros(shape, np.uint8), photometric="rgb", tile=(256, 256), **options)


def half_grey(path: Path, size: tuple[int, int]) -> None:
    tifffile.imwrite(path, np.zeros(size[::-1], np.uint8), tile=(256, 256))


def deep(path: Path, size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint16)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), compression="zlib")


def stripped(path: Path, size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=16, compression="lzw")


def short(path: Path, size: tuple[int, int]) -> None:
    """A flat image whose last rows are missing."""
    tifffile.imwrite(path, np.zeros((size[1], size[0], 3), np.uint8), photometric="rgb", rowsperstrip=1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def hires(root: Path) -> None:
    card = (root / CARD).read_text()
    small = f"{BINS}/square_016um/spatial/tissue_hires_image.png"
    (root / CARD).write_text(card.replace(IMAGE, small))


def no_png(root: Path) -> None:
    for path in (root / BINS).rglob("tissue_hires_image.png"):
        path.write_bytes(path.read_bytes()[:20])


def card(old: str, new: str) -> Harm:
    return lambda root: (root / CARD).write_text((root / CARD).read_text().replace(old, new, 1))


def pack(root: Path) -> Path:
    """Leave the bins packed only, as a download is."""
    path = root / "SIM1/outs/SIM1_binned_outputs.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(root / BINS, "binned_outputs")
    shutil.rmtree(root / BINS)
    return path


def packed_and_cut(root: Path) -> None:
    path = pack(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def packed_twice(root: Path) -> None:
    path = pack(root)
    shutil.copyfile(path, path.with_name("OTHER_binned_outputs.tar.gz"))


def only_2_um(root: Path) -> None:
    for size in (8, 16):
        shutil.rmtree(root / BINS / f"square_{size:03d}um")


def without_raw(root: Path) -> None:
    only_2_um(root)
    (root / BINS / "square_002um/raw_feature_bc_matrix.h5").unlink()


def other_raw(root: Path) -> None:
    only_2_um(root)
    with h5py.File(root / BINS / "square_002um/raw_feature_bc_matrix.h5", "a") as file:
        ids = file["matrix/features/id"][()]
        del file["matrix/features/id"]
        file["matrix/features/id"] = np.array([b"x" + name for name in ids])


def stratum(text: str, name: str = "strata.csv") -> Harm:
    def harm(root: Path) -> None:
        (root / name).write_text(text)
        card('patient = "P1"', f'patient = "P1"\nstrata = "{name}"')(root)

    return harm


CASES: dict[str, tuple[Harm, str]] = {
    "no bin folder": (remove(BINS), r"no square_016um below .*found no square_\* folder"),
    "no matrix": (remove(h5()), "is not there; wanted the whole square_"),
    "no positions": (remove(table()), "is not there; wanted the whole square_"),
    "no scale factors": (
        remove(f"{BINS}/square_016um/spatial/scalefactors_json.json"),
        "is not there; wanted the whole square_",
    ),
    "no bins of 8 um beside those of 16": (
        lambda r: [shutil.rmtree(r / BINS / f"square_{s}um") for s in ("008", "002")],
        r"no square_008um below .*found square_016um",
    ),
    "no image": (remove(IMAGE), "wanted the full-resolution H&E .it is no part"),
    "positions cut": (cut(table()), "is not a whole parquet file"),
    "positions are text": (write(table(), b"barcode,in_tissue\n"), "is not a whole parquet file"),
    "positions without a column": (
        positions(lambda t: t.drop(columns="pxl_row_in_fullres")),
        "lacks the column pxl_row_in_fullres",
    ),
    "positions without in_tissue": (
        positions(lambda t: t.drop(columns="in_tissue")),
        "lacks the column in_tiss",
    ),
    "positions without rows": (positions(lambda t: t.iloc[:0]), "has empty cells or no row"),
    "positions with empty cells": (
        column("pxl_col_in_fullres", lambda c: c.where(c.index > 5)),
        "has empty cells",
    ),
    "positions that are endless": (
        column("pxl_col_in_fullres", lambda c: c.replace(c.iloc[3], np.inf)),
        "pixel positions that are no numbers",
    ),
    "repeated barcodes": (column("barcode", lambda c: c.iloc[0]), "has repeated barcodes"),
    "a place that no array has": (
        column("array_row", lambda c: c.mask(c == c.max(), 2_000_000_000)),
        "an array position of 2000000000, wanted less than 10000",
    ),
    "repeated places": (column("array_row", lambda c: c * 0), "array positions that repeat"),
    "rows below 0": (column("array_row", lambda c: c.astype(int) - 3), "or lie below 0"),
    "rows that are fractions": (
        column("array_row", lambda c: c + 0.5),
        "its numbers are float64, wanted whole",
    ),
    "a bent grid": (
        column("pxl_row_in_fullres", lambda c: c * (1 + np.arange(len(c)) / len(c))),
        "positions miss a regular grid",
    ),
    "a stretched grid": (
        column("pxl_row_in_fullres", lambda c: c * 1.2),
        "the files belong to different runs",
    ),
    "positions of another slide": (positions(lambda t: t.iloc[: len(t) // 2]), "are not in tissue_positions"),
    "scale factors of other bins": (factors(bin_size_um=8.0), "says bins of 8 um, its folder says 16 um"),
    "no bin size": (factors(bin_size_um=None), r"wanted bin_size_um, .* got KeyError"),
    "a pixel size in words": (factors(microns_per_pixel="small"), r"wanted bin_size_um, .* got ValueError"),
    "a run with CytAssist alone": (factors(microns_per_pixel=6.3), "run Space Ranger again with --image"),
    "a pixel size of another run": (factors(microns_per_pixel=0.3), "positions give 0.2738 um a pixel"),
    "a pixel size below 0": (factors(microns_per_pixel=-0.27), "says -0.27 um a pixel"),
    "a scale of nought": (factors(tissue_hires_scalef=0), "tissue_hires_scalef of 0"),
    "types too few": (
        matrix("matrix/features/feature_type", lambda a: a[:-3]),
        r"features have \d+ id, \d+ name, \d+ feature_type",
    ),
    "names that are no text": (
        matrix("matrix/features/name", lambda a: np.full(len(a), b"\xff\xfe")),
        "is not a whole 10x feature-barcode matrix: utf-8' codec",
    ),
    "offsets in words": (
        matrix("matrix/indptr", lambda a: np.full(len(a), b"x")),
        "is not a whole 10x feature-barcode matrix",
    ),
    "one offset": (matrix("matrix/indptr", lambda a: a[0]), "is not a whole 10x feature-barcode matrix"),
    "offsets in a table": (matrix("matrix/indptr", lambda a: a[:, None]), "that are no list"),
    "numbers for barcodes": (
        matrix("matrix/barcodes", lambda a: np.arange(len(a))),
        "barcodes are int64, no names",
    ),
    "tissue in words": (
        column("in_tissue", lambda c: c.astype(str)),
        "in_tissue is of type .*string, wanted numbers",
    ),
    "pixels in words": (
        column("pxl_col_in_fullres", lambda c: c.astype(str)),
        "pxl_col_in_fullres is of type .*string, wanted numbers",
    ),
    "numbers as names of bins": (
        column("barcode", lambda c: range(len(c))),
        "barcode is of type int64, wanted names",
    ),
    "names of other places": (
        column("array_row", lambda c: c.iloc[::-1].to_numpy()),
        "barcodes that name other rows and columns than array_row and array_col",
    ),
    "scale factors cut": (
        cut(f"{BINS}/square_016um/spatial/scalefactors_json.json"),
        "wanted bin_size_um, microns_per_pixel",
    ),
    "matrix cut": (cut(h5()), "is not a whole 10x feature-barcode matrix"),
    "matrix is text": (write(h5(), b"barcodes\n"), "is not a whole 10x feature-barcode matrix"),
    "matrix without its group": (matrix("matrix", None), "is not a whole 10x feature-barcode matrix"),
    "matrix without offsets": (matrix("matrix/indptr", None), "is not a whole 10x"),
    "matrix without symbols": (matrix("matrix/features/name", None), "is not a whole 10x"),
    "offsets too few": (matrix("matrix/indptr", lambda a: a[:-1]), "wanted one more than barcodes"),
    "offsets that fall": (matrix("matrix/indptr", lambda a: a[::-1].copy()), "do not rise from 0"),
    "counts too few": (matrix("matrix/data", lambda a: a[:-5]), "counts and .* feature numbers, but offsets"),
    "a barcode twice": (
        matrix("matrix/barcodes", lambda a: np.concatenate([a[:1], a[:-1]])),
        "1 repeated barcodes",
    ),
    "a gene id twice": (
        matrix("matrix/features/id", lambda a: np.concatenate([a[:1], a[:-1]])),
        "wanted unique gene ids",
    ),
    "no gene": (
        matrix("matrix/features/feature_type", lambda a: np.full(len(a), b"Antibody Capture")),
        "0 genes with 0 different ids",
    ),
    "a feature number too large": (matrix("matrix/indices", lambda a: a + 10**6), "but only .* features"),
    "counts below 0": (matrix("matrix/data", lambda a: -a), "holds counts below 0; wanted raw UMI counts"),
    "normalised values": (matrix("matrix/data", np.log1p), "no whole numbers; wanted raw UMI"),
    "barcodes of another bin size": (
        matrix("matrix/barcodes", lambda a: np.char.replace(a, b"016um", b"008um")),
        "holds bins of 8 um in a folder of 16 um bins",
    ),
    "barcodes of another chemistry": (
        matrix("matrix/barcodes", lambda a: np.array([f"AAACCTGAG{i:07d}-1" for i in range(len(a))], "S")),
        "are not in tissue_positions.parquet",
    ),
    "bins without counts": (matrix("matrix/data", lambda a: a * 0), "no unit in tissue has 50 UMI"),
    "matrices of two references": (
        matrix("matrix/features/id", lambda a: np.char.add(b"x", a)),
        "matrices list different genes; they are of two runs",
    ),
    "hires picture cut": (no_png, "tissue_hires_image.png is not a whole PNG"),
    "hires given as the image": (
        hires,
        "is a small picture of Space Ranger by its name; give the full-resolution H&E",
    ),
    "image turned": (
        picture(lambda p, s: plain(p, s[::-1])),
        "it is rotated: give the image as Space Ranger",
    ),
    "image of another size": (
        picture(lambda p, s: plain(p, (s[0] // 2, s[1] // 2))),
        "the positions belong to one of .* not hires or CytAssist",
    ),
    "image of 16 bits": (picture(deep), "is uint16 with 3 samples, RGB; wanted 8-bit RGB"),
    "image without colour": (picture(half_grey), "is uint8 with 1 samples, MINISBLACK; wanted 8-bit RGB"),
    "image stripped and packed": (picture(stripped), "stripped, compressed TIFF.*hdstbench data convert"),
    "image cut": (cut(IMAGE, 0.6), "cannot be decoded|is not a readable image"),
    "flat image cut": (picture(short), "ends in row .*; fetch it again"),
    "image is text": (write(IMAGE, b"no image"), "is not a readable image"),
    "image too coarse for the card": (
        card("mpp = 0.5", "mpp = 0.1"),
        "enlarging by more than 1.15 invents detail",
    ),
    "note of a crop broken": (
        write(f"{IMAGE}.json", b"{"),
        "wanted crop .x, y, width, height. and source_size",
    ),
    "archive cut": (packed_and_cut, "SIM1_binned_outputs.tar.gz .*fetch it again"),
    "archives of two samples": (packed_twice, "holds archives of OTHER, SIM1; give each sample a folder"),
    "2 um bins without raw counts": (
        without_raw,
        "16 um bins are summed from it, since the filtered matrix lacks",
    ),
    "raw counts of another reference": (other_raw, "lacks .* genes, such as"),
    "strata of another slide": (
        stratum("barcode,label\ns_008um_09000_09000-1,tumour\n"),
        "names none of the .* units of SIM1",
    ),
    "strata without labels": (
        stratum("a,b,c\n1,2,3\n"),
        "has the columns a, b, c; wanted barcode and one of",
    ),
    "regions broken": (stratum("{", "regions.geojson"), "is no GeoJSON of polygons"),
    "a shift of one number": (
        card('patient = "P1"', 'patient = "P1"\nshift_um = [3.0]'),
        r"wanted \[dx, dy\]",
    ),
    "a card with a wrong key": (
        card('patient = "P1"', 'pacient = "P1"'),
        "unknown key 'pacient'; did you mean patient",
    ),
}


@pytest.fixture
def damaged(cohort: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the first slide with a card of their own, and an empty cache."""
    monkeypatch.setenv("HDSTBENCH_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    shutil.copytree(cohort.root / "SIM1", root / "SIM1", copy_function=shutil.copyfile)
    text = (cohort.root / CARD).read_text().split("[[samples]]")
    (root / CARD).write_text("[[samples]]".join(text[:2]))
    return root


def prepare(root: Path) -> Path:
    dataset = load_dataset(str(root / CARD))
    return prepare_slide(dataset, replace(dataset.card.samples[0], truth=""), dataset.card.resolution("16um"))


def test_the_files_are_fine_before_they_are_damaged(damaged: Path) -> None:
    assert (prepare(damaged) / "manifest.json").is_file()


@pytest.mark.parametrize("case", CASES)
def test_each_damage_is_one_clear_line_and_leaves_nothing(damaged: Path, case: str) -> None:
    harm, message = CASES[case]
    harm(damaged)

    with pytest.raises(HdstError, match=message) as caught:
        prepare(damaged)

    assert "\n" not in str(caught.value)
    cache = damaged.parent / "cache"
    assert not [path for path in cache.glob("prepared/**/*") if path.is_file()]
    assert not list(cache.rglob("*.part*"))


def test_there_are_more_than_forty_kinds() -> None:
    assert len(CASES) > 60
    assert len({message for _, message in CASES.values()}) > 45
