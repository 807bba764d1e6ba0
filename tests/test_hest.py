"""HEST-1k folders become data sets with the right patients and the right pixels under every spot."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spots import NOTHING, Array, bright, imported, make, row, sample_of, under_spots, write_hest

from hdstbench.cli import import_job
from hdstbench.data.card import load_dataset
from hdstbench.data.hest import patients, read_table, row_of
from hdstbench.data.measure import nominal
from hdstbench.errors import DataError, HdstError
from hdstbench.protocol.splits import load_split

CRC_STUDY = "Characterization of immune cell populations"


@pytest.fixture
def hest(tmp_path: Path) -> Path:
    """Three Visium samples of two patients; the fourth image was not fetched."""
    slides = [make(name, Array(side=4, hexagonal=True)) for name in ("NCBI1", "NCBI2", "NCBI3", "NCBI4")]
    rows = [row("NCBI1", "Patient 1"), row("NCBI2", "Patient 1"), row("NCBI3", "   "), row("NCBI4")]
    write_hest(tmp_path / "hest", slides, rows)
    (tmp_path / "hest/wsis/NCBI4.tif").unlink()
    return tmp_path / "hest"


def test_a_hest_folder_becomes_a_data_set(
    hest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = imported(hest, tmp_path / "bowel")

    card, split = dataset.card, load_split(dataset, None)
    assert (card.name, card.resolutions, card.mpp) == ("bowel", ("55um",), 2.0)
    assert (card.native_um, card.pitch_um, card.patch_um) == (55, 100, 112)
    assert {s.id: s.patient for s in card.samples} == {
        "NCBI1": "Patient 1",
        "NCBI2": "Patient 1",
        "NCBI3": "NCBI3",
    }
    assert {s.tissue for s in card.samples} == {"Bowel"}
    assert split.unit == "patient"
    assert [set(fold.test) for fold in split.folds] == [{"NCBI1", "NCBI2"}, {"NCBI3"}]
    assert "No patient is stated for NCBI3:" in card.notes
    assert "left out for want of an image in wsis/: NCBI4" in capsys.readouterr().out


def test_hest_samples_are_read_at_their_estimated_pixel_size(hest: Path, tmp_path: Path) -> None:
    dataset = imported(hest, tmp_path / "bowel")

    for name in ("NCBI1", "NCBI2", "NCBI3"):
        sample = sample_of(dataset, name)
        assert sample.mpp == 2.0  # not the embedded 0.26458
        np.testing.assert_array_equal(under_spots(sample), bright(sample))


def test_patients_of_the_colorectal_study_are_those_of_its_paper() -> None:
    names = ("TENX128", "TENX147", "TENX148", "TENX149", "TENX153", "TENX154", "TENX155", "TENX156")
    rows = {name: row(name, "Patient 1", CRC_STUDY) for name in names}
    rows["TENX999"] = row("TENX999", "Patient 1", CRC_STUDY, subseries="Visium CytAssist v2, Sample P5 CRC")
    rows["NCBI1"] = row("NCBI1", "Patient 1", "Another study")

    found = patients(rows)

    number = {"TENX153": "P3", "TENX154": "P5", "TENX147": "P5", "TENX999": "P5", "TENX156": "P1"}
    number |= {"TENX149": "P1", "TENX155": "P2", "TENX128": "P2", "TENX148": "P2"}
    assert found == {name: f"CRC {patient}" for name, patient in number.items()} | {"NCBI1": "Patient 1"}


def test_equal_names_in_two_studies_are_two_patients() -> None:
    rows = {
        "A": row("A", "Patient 1", "One"),
        "B": row("B", "Patient 1", "Two"),
        "C": row("C", "Patient 1", "Two"),
        "D": row("D", "Patient 2", "Two"),
        "E": row("E", "", "Two"),
    }

    found = patients(rows)

    assert found["A"] != found["B"] == found["C"] == "Patient 1 of B's study"
    assert (found["D"], found["E"]) == ("Patient 2", "")


def test_the_newest_table_counts_and_the_note_fills_its_gaps(hest: Path) -> None:
    pd.DataFrame([row("NCBI3", "Patient 9")]).to_csv(hest / "HEST_v1_10_0.csv", index=False)
    note = {"patient": "Patient 7", "organ": None, "oncotree_code": float("nan")}
    (hest / "metadata" / "NCBI1.json").write_text(json.dumps(note))

    table = read_table(hest)

    assert list(table) == ["NCBI3"]
    assert row_of(hest / "st/NCBI3.h5ad", table)["patient"] == "Patient 9"
    assert row_of(hest / "st/NCBI1.h5ad", table) == {"patient": "Patient 7", "oncotree_code": ""}


def test_samples_of_several_kinds_become_a_data_set_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {
        "V1": Array(side=4, hexagonal=True),
        "V2": Array(side=4, hexagonal=True),
        "HD": Array(side=4, pitch_um=128, spot_um=128),
        "ST": Array(side=4, pitch_um=200, spot_um=100),
        "XE": Array(side=4, pitch_um=100, spot_um=100),
        "MOUSE": Array(side=4, hexagonal=True),
    }
    rows = [row(name, species="Mus musculus" if name == "MOUSE" else "Homo sapiens") for name in kinds]
    write_hest(tmp_path / "hest", [make(name, array) for name, array in kinds.items()], rows)

    largest = imported(tmp_path / "hest", tmp_path / "set")

    cards = {path.parent.name: load_dataset(str(path)).card for path in (tmp_path / "set").glob("*/*.toml")}
    found = {name: {s.id for s in card.samples} for name, card in cards.items()}
    assert found == {
        "human-55um": {"V1", "V2"},
        "human-128um": {"HD"},
        "human-100um-every-200um": {"ST"},
        "human-100um-every-100um": {"XE"},
        "mouse-55um": {"MOUSE"},
    }
    assert largest.card.name == "set-human-55um"
    assert cards["human-128um"].resolutions == ("128um",)
    assert cards["human-128um"].patch_um == 128
    assert "6 samples of 5 kinds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("measured", "taken"), [(54.2, 55), (102.9, 100), (131.0, 128), (7.9, 8), (137.0, 140), (1.55, 1.6)]
)
def test_a_size_near_a_known_one_is_taken_for_it(measured: float, taken: float) -> None:
    assert nominal(measured) == taken


@given(st.floats(0.5, 999))
def test_a_size_is_never_moved_by_more_than_readers_allow(measured: float) -> None:
    assert abs(nominal(measured) / measured - 1) <= 0.0527  # 1 / 0.95 - 1


def test_odd_names_are_written_so_that_the_card_loads(tmp_path: Path) -> None:
    name, patient = 'it\'s a "slide" \\ é', 'a "b"\nc = 1'
    made = [make(name, Array(side=4)), make("B", Array(side=4))]
    rows = [row(name, patient), row("B", "B")]

    dataset = imported(write_hest(tmp_path / "he st", made, rows), tmp_path / "my set!")

    assert dataset.card.name == "my-set"
    assert {s.id: s.patient for s in dataset.card.samples} == {"it_s_a_slide_é": patient, "B": "B"}
    assert len(sample_of(dataset, "it_s_a_slide_é").counts) == 15


def test_names_that_become_one_are_refused(tmp_path: Path) -> None:
    made = [make("a b", Array(side=4)), make("a_b", Array(side=4))]
    hest = write_hest(tmp_path / "hest", made, [row("a b", "x"), row("a_b", "y")])

    with pytest.raises(DataError, match="would all be the slide a_b; rename the files"):
        imported(hest, tmp_path / "set")

    assert not (tmp_path / "set").exists()


def no_images(hest: Path) -> None:
    for path in (hest / "wsis").iterdir():
        path.unlink()


def no_pixel_size(hest: Path) -> None:
    (hest / "metadata/NCBI2.json").unlink()


def note(**values: object) -> Callable[[Path], object]:
    return lambda hest: (hest / "metadata/NCBI2.json").write_text(json.dumps(values))


def text(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda hest: (hest / name).write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (no_images, "has 4 samples in st/, none with an image of its name in wsis/; get both"),
        (no_pixel_size, "NCBI2.h5ad does not say how many um a pixel has; get metadata/NCBI2.json or HEST's"),
        (note(pixel_size_um_estimated="?"), "NCBI2.json: pixel_size_um_estimated is '.', wanted um a pixel"),
        (text("metadata/NCBI2.json", b"{"), "NCBI2.json is not whole JSON .*; get it again"),
        (text("metadata/NCBI2.json", b"[1]"), "NCBI2.json holds a list, wanted a table of names and values"),
        (text("HEST_v1_1_0.csv", b""), "HEST_v1_1_0.csv is not a whole table"),
        (text("HEST_v1_1_0.csv", b"\xff\xfe\x00"), "HEST_v1_1_0.csv is not a whole table"),
        (text("HEST_v1_1_0.csv", b"name,patient\nNCBI1,P"), "has the columns name, patient, ...; wanted id"),
        (text("st/NCBI2.h5ad", b"no HDF5"), "NCBI2.h5ad is not a whole .h5ad"),
    ],
)
def test_a_damaged_hest_folder_is_refused_with_one_line(
    hest: Path, tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    harm(hest)

    with pytest.raises(HdstError, match=message) as caught:
        import_job.execute(str(hest), str(tmp_path / "set"), NOTHING)

    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("set*"))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            note(pixel_size_um_estimated=1.5),
            r"1.5000 um a pixel, by which .* 75.0 um apart, .* pitch_um = 100",
        ),
        (
            note(pixel_size_um_estimated=2.0, fullres_px_width=9000, fullres_px_height=8000),
            "NCBI2.tif is .* px, the positions in .*NCBI2.h5ad belong to one of 9000 x 8000 px",
        ),
        (text("wsis/NCBI2.tif", b"II*\0 no picture"), "NCBI2.tif is not a readable image"),
    ],
)
def test_files_that_went_bad_after_the_import_are_refused(
    hest: Path, tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    dataset = imported(hest, tmp_path / "set")
    harm(hest)

    with pytest.raises(HdstError, match=message) as caught:
        sample_of(dataset, "NCBI2")

    assert "\n" not in str(caught.value)
