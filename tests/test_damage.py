"""Damaged data sets of every kind: one line each that says what is wrong, and nothing half-made.

The files are those of one simulated slide; each case harms one thing and then prepares the slide.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harm import (
    BINS,
    IMAGE,
    Harm,
    card,
    column,
    cut,
    deep,
    factors,
    h5,
    half_grey,
    hires,
    matrix,
    no_png,
    other_raw,
    packed_and_cut,
    packed_twice,
    picture,
    plain,
    positions,
    remove,
    short,
    stratum,
    stripped,
    table,
    without_raw,
    write,
)

from hdstbench.data.card import CARD, Dataset, load_dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import HdstError

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
    "a card without an image": (
        card(f'image = "{IMAGE}"', 'image = ""'),
        "the card names no image for SIM1; wanted the full-resolution H&E",
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
