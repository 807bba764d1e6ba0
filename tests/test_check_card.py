"""`hdstbench data check` of a data set: every sample, what its card promises, and pairs of samples."""

import shutil
from pathlib import Path

import pytest
from test_check import check

from hdstbench.cli.check_job import execute
from hdstbench.data.card import Dataset


def test_a_whole_data_set_is_checked_and_compared(cohort: Dataset, tmp_path: Path) -> None:
    said: list[str] = []

    good = execute(str(cohort.root), "", str(tmp_path / "out"), said.append)

    text = (tmp_path / "out" / "report.md").read_text()
    assert good
    assert text in said
    assert "nothing wrong was found" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## SIM1",
        "## SIM2",
        "## SIM3",
        "## Samples compared",
    ]
    assert text.count("| different |") == 3
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *(f"SIM{i}.png" for i in range(1, 4)),
        "report.md",
    }


def _card(cohort: Dataset, folder: Path, samples: str) -> Path:
    head = (cohort.root / "dataset.toml").read_text().split("[splits]")[0]
    assert "[[samples]]" not in head
    (folder / "SIM1").symlink_to(cohort.root / "SIM1")
    (folder / "dataset.toml").write_text(head + samples)
    return folder / "dataset.toml"


def test_a_section_that_is_there_twice_is_named(cohort: Dataset, tmp_path: Path) -> None:
    files = 'path = "SIM1/outs"\nimage = "SIM1/SIM1_tissue_image.tif"\n'
    twice = "".join(f'\n[[samples]]\nid = "{x}"\npatient = "{x}"\n{files}' for x in ("one", "two"))
    card = _card(cohort, tmp_path, twice)

    good, text = check(card, tmp_path / "out")

    assert good
    assert "| one, two | same section | 1.00 | 1.00 | 1.00 | as it is |" in text
    assert "1 thing to look at" in text


def test_two_sections_of_one_patient_are_nothing_to_look_at(cohort: Dataset, tmp_path: Path) -> None:
    files = 'path = "SIM1/outs"\nimage = "SIM1/SIM1_tissue_image.tif"\n'
    twice = "".join(f'\n[[samples]]\nid = "{x}"\npatient = "P"\n{files}' for x in ("one", "two"))

    good, text = check(_card(cohort, tmp_path, twice), tmp_path / "out")

    assert good
    assert "| one, two | same section |" in text
    assert "nothing wrong was found" in text


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ('path = "SIM1/outs"\nimage = ""\n', "the card names no image; wanted"),
        ('path = "lone"\nimage = "SIM1/SIM1_tissue_image.tif"\n', "no square_002um below"),
    ],
)
def test_what_the_card_promises_has_to_be_there(
    cohort: Dataset, tmp_path: Path, sample: str, message: str
) -> None:
    card = _card(cohort, tmp_path, f'\n[[samples]]\nid = "one"\npatient = "one"\n{sample}')
    shutil.copytree(cohort.root / "SIM1/outs/binned_outputs/square_008um", tmp_path / "lone/square_008um")

    good, text = check(card, tmp_path / "out")

    assert not good
    assert text.count(message) == 1
    assert "- UMI a unit: mean" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "labels.csv is not there; the card names it as strata of one"),
        ("a,b,c\n1,2,3\n", "has the columns a, b, c; wanted barcode and one of"),
        ("barcode,label\ns_008um_00000_00000-1,tumour\n", ""),
    ],
)
def test_strata_are_checked_too(cohort: Dataset, tmp_path: Path, text: str | None, message: str) -> None:
    files = 'path = "SIM1/outs"\nimage = "SIM1/SIM1_tissue_image.tif"\nstrata = "labels.csv"\n'
    card = _card(cohort, tmp_path, f'\n[[samples]]\nid = "one"\npatient = "one"\n{files}')
    if text is not None:
        (tmp_path / "labels.csv").write_text(text)

    good, report = check(card, tmp_path / "out")

    assert good == (not message)
    assert message in report


def test_a_shift_in_the_card_is_part_of_the_advice(cohort: Dataset, tmp_path: Path) -> None:
    files = 'path = "SIM1/outs"\nimage = "SIM1/SIM1_tissue_image.tif"\nshift_um = [14, -3]\n'
    card = _card(cohort, tmp_path, f'\n[[samples]]\nid = "one"\npatient = "one"\n{files}')

    good, text = check(card, tmp_path / "out")

    assert good
    assert "- registration: off" in text
    x, y = (float(v) for v in text.split("set shift_um = [")[1].split("]")[0].split(","))
    assert (x, y) == pytest.approx((0, 0), abs=1)


def test_samples_that_were_not_fetched_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDSTBENCH_DATA", str(tmp_path))

    good, text = check(Path("her2st"), tmp_path / "out")

    assert not good
    assert text.count("no file of ") == 5
    assert "a run would fail on B4, C2, C3, C4, C5" in text


def test_a_sample_that_no_default_fold_needs_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDSTBENCH_DATA", str(tmp_path))

    good, text = check(Path("crc"), tmp_path / "out")

    assert not good
    assert "a run would fail on P1CRC, P2CRC, P3NAT, P5NAT; 1 thing to look at" in text
    assert "get them with hdstbench data fetch crc --only P5CRC" in text


def test_a_card_of_ones_own_is_fetched_by_its_path(cohort: Dataset, tmp_path: Path) -> None:
    files = 'path = "gone/outs"\nimage = "gone.tif"\n\n[[samples.files]]\npath = "gone.tif"\n'
    card = _card(cohort, tmp_path, f'\n[[samples]]\nid = "one"\npatient = "one"\n{files}')

    good, text = check(card, tmp_path / "out")

    assert not good
    assert f"get them with hdstbench data fetch {tmp_path} --only one" in text
