"""Strata of units from drawn regions and from tables of labels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import test_data
from PIL import Image

from hdstbench.data.card import Dataset
from hdstbench.data.image import open_image, padded
from hdstbench.data.prepare import prepare_slide
from hdstbench.data.prepared import load_arrays, load_manifest
from hdstbench.data.readers import read_pair
from hdstbench.data.sample import Sample
from hdstbench.data.strata import read_strata
from hdstbench.data.units import Units, choose_units
from hdstbench.errors import DataError


@pytest.fixture(scope="module")
def chosen(cohort: Dataset) -> tuple[Sample, Units]:
    res = cohort.card.resolution("16um")
    sample, base = read_pair(cohort, cohort.card.samples[0], res)
    return sample, choose_units(sample, base, res, everything=False)


def _feature(ring: list[list[float]], *holes: list[list[float]], **properties: object) -> dict[str, object]:
    shape = {"type": "Polygon", "coordinates": [ring, *holes]}
    return {"type": "Feature", "geometry": shape, "properties": properties}


def _square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def test_drawn_regions_name_the_units_inside_and_holes_stay_out(
    chosen: tuple[Sample, Units], tmp_path: Path
) -> None:
    sample, units = chosen
    path = tmp_path / "regions.geojson"
    outer = _feature(_square(300, 300, 800), _square(500, 500, 200), classification={"name": "tumour"})
    inner = _feature(_square(900, 900, 100), label="necrosis")
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [outer, inner]}))

    names = read_strata(path, sample, units)

    x, y = units.xy_um.T / sample.mpp

    def within(left: float, side: float) -> np.ndarray:
        return (x > left) & (x < left + side) & (y > left) & (y < left + side)

    np.testing.assert_array_equal(names == "necrosis", within(900, 100))
    np.testing.assert_array_equal(names == "tumour", within(300, 800) & ~within(500, 200) & ~within(900, 100))


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "parquet"])
def test_a_table_of_labels_names_each_unit_by_the_most_frequent(
    chosen: tuple[Sample, Units], tmp_path: Path, kind: str
) -> None:
    sample, units = chosen
    row, col = (a.ravel() for a in np.indices((64, 64)))
    label = np.where(col % 2 == 0, "stroma", np.where(row % 2 == 0, "stroma", "tumour"))
    label = np.where(row >= 32, "muscle", label)
    table = pd.DataFrame(
        {"barcode": [f"s_008um_{r:05d}_{c:05d}-1" for r, c in zip(row, col, strict=True)], "label": label}
    )
    table.loc[table["label"] == "muscle", "label"] = np.where(row[row >= 32] >= 48, None, "muscle")
    path = tmp_path / f"labels.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")

    names = read_strata(path, sample, units)

    wanted = np.where(units.grid[:, 0] < 16, "stroma", np.where(units.grid[:, 0] < 24, "muscle", ""))
    np.testing.assert_array_equal(names, wanted)


@pytest.mark.parametrize("size", [32, 16, 2])
def test_labels_of_any_bin_size_reach_every_unit(
    chosen: tuple[Sample, Units], tmp_path: Path, size: int
) -> None:
    sample, units = chosen
    side = 512 // size
    bins = [
        f"s_{size:03d}um_{r:05d}_{c:05d}-1,{'left' if c < side // 2 else 'right'}"
        for r in range(side)
        for c in range(side)
    ]
    (tmp_path / "labels.csv").write_text("barcode,label\n" + "\n".join(bins) + "\n")

    names = read_strata(tmp_path / "labels.csv", sample, units)

    np.testing.assert_array_equal(names, np.where(units.grid[:, 1] < 16, "left", "right"))


def test_drawn_regions_stay_where_they_are_on_an_image_that_was_cut(
    chosen: tuple[Sample, Units], cohort: Dataset, tmp_path: Path
) -> None:
    sample, units = chosen
    assert sample.image is not None
    whole = open_image(sample.image)
    Image.fromarray(padded(whole, 150, 90, 900, 800)).save(tmp_path / "cut.png")
    note = {"source_size": list(whole.size), "crop": [150, 90, 900, 800]}
    (tmp_path / "cut.png.json").write_text(json.dumps(note))
    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps({"features": [_feature(_square(400, 300, 500), label="here")]}))
    moved = replace(units, xy_um=units.xy_um - np.array([150, 90]) * sample.mpp)

    names = read_strata(path, replace(sample, image=tmp_path / "cut.png"), moved)

    np.testing.assert_array_equal(names, read_strata(path, sample, units))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.geojson", "{", "is no GeoJSON of polygons"),
        (
            "a.geojson",
            '{"features": [{"geometry": {"type": "Point"}}]}',
            "is no GeoJSON of polygons: KeyError",
        ),
        ("a.geojson", '{"features": []}', "names none of the"),
        ("a.geojson", '{"features": [3]}', "is no GeoJSON of polygons"),
        ("a.csv.gz", "no gzip", "is not a whole table"),
        ("a.csv", "barcode,label\ns_008um_00009_00009-1,a\ns_016um_00002_00002-1,a\n", r"of \[8, 16\] um"),
        ("a.csv", "x,y,z\n1,2,3\n", "has the columns x, y, z; wanted barcode and one of label"),
        ("a.csv", "barcode,label\nAAACCC-1,tumour\n", "wanted barcodes s_008um_<row>_<col>-1"),
        ("a.csv", "barcode,label\ns_008um_09999_09999-1,tumour\n", "names none of the"),
        ("a.csv", "", "is not a whole table"),
        ("a.parquet", "PAR1", "is not a whole table"),
    ],
)
def test_an_unfit_file_of_strata_is_refused(
    chosen: tuple[Sample, Units], tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(DataError, match=message) as caught:
        read_strata(path, *chosen)

    assert "\n" not in str(caught.value)


def test_a_cards_strata_are_prepared_with_the_labels(cohort: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "barcode,label\n" + "".join(f"s_008um_{r:05d}_{c:05d}-1,here\n" for r in range(40) for c in range(64))
    )
    sample = replace(cohort.card.samples[0], strata=str(path))
    res = cohort.card.resolution("16um")

    plain, with_strata = (prepare_slide(cohort, s, res) for s in (cohort.card.samples[0], sample))

    names = load_arrays(with_strata / "labels" / "strata.npz")["name"]
    grid = load_arrays(with_strata / "pixels" / "unit.npz")["grid"]
    np.testing.assert_array_equal(names == "here", grid[:, 0] < 20)
    assert load_manifest(plain).pixels == load_manifest(with_strata).pixels
    assert load_manifest(plain).labels != load_manifest(with_strata).labels
    assert not (plain / "labels" / "strata.npz").exists()


def test_the_published_labels_of_the_crc_slides_are_understood(
    chosen: tuple[Sample, Units],
) -> None:
    path = test_data() / "visium_hd_crc_bins" / "DeconvolutionResults_P1CRC.csv.gz"
    if not path.is_file():
        pytest.skip(f"no published labels at {path}; set HDSTBENCH_TEST_DATA")
    sample, units = chosen
    moved = replace(units, grid=units.grid + 200, uv_um=units.uv_um + 200 * 16.0)

    names = read_strata(path, sample, moved)

    assert (names != "").mean() > 0.3
    assert {"CAF", "Endothelial"} <= set(names.tolist())
