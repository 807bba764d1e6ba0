"""`hdstbench data check` says what lies where, what is wrong and what to do, without a traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tifffile
from helpers import test_data, type_command
from PIL import Image

from hdstbench.cli.check_job import execute
from hdstbench.data.card import Dataset
from hdstbench.data.report import check_run
from hdstbench.errors import DataError, MissingError

BIN = "outs/binned_outputs/square_008um"


def _quiet(_: str) -> None:
    """Say nothing."""


def _check(path: Path, out: Path, image: str = "") -> tuple[bool, str]:
    good = execute(str(path), image, str(out), _quiet)
    return good, (out / "report.md").read_text()


@pytest.fixture
def run(cohort: Dataset, tmp_path: Path) -> Path:
    """A sample's folder with outs/ of 8 um bins and the image beside it, to be damaged."""
    sample, folder = cohort.card.samples[0], tmp_path / "mine"
    shutil.copytree(cohort.root / sample.path / "binned_outputs/square_008um", folder / BIN)
    shutil.copy(cohort.root / sample.image, folder / "mine_tissue_image.tif")
    return folder


def test_a_sound_run_is_called_sound(run: Path, tmp_path: Path) -> None:
    good, text = _check(run, tmp_path / "out")

    assert good
    assert "nothing wrong was found" in text
    assert "- Space Ranger: 3." in text
    assert "- bins: 8 um" in text
    assert "BigTIFF, tiles of 256 x 256, JPEG, " in text
    assert "- um a pixel: 0.2738 stated, 0.2738 from the positions" in text
    assert "placeholder of 96 dots an inch, ignored" in text
    assert "- registration: in register" in text
    with Image.open(tmp_path / "out" / "mine.png") as picture:
        assert min(picture.size) > 1000


@pytest.mark.parametrize(
    ("number", "col", "row"),
    [(0, "to the right (+x)", "upwards (-y)"), (1, "to the left (-x)", "downwards (+y)")],
)
def test_the_two_ways_of_mirroring_are_told_apart(cohort: Dataset, number: int, col: str, row: str) -> None:
    card = cohort.card.samples[number]

    report = check_run(cohort.root / card.path, cohort.root / card.image, card.id)

    assert report.grid is not None
    assert (report.grid.col_way, report.grid.row_way) == (col, row)
    assert report.grid.determinant == -1
    assert report.grid.degrees == pytest.approx(0.5, abs=0.01)
    assert report.grid.fitted_mpp == pytest.approx(0.2738, rel=1e-6)
    assert report.problems == []


@pytest.mark.parametrize("form", ["", "outs", "outs/binned_outputs", BIN])
def test_the_image_and_the_name_are_found_from_any_folder_of_a_run(
    run: Path, tmp_path: Path, form: str
) -> None:
    good, text = _check(run / form, tmp_path / "out")

    assert good
    assert "## mine\n" in text
    assert "image: mine_tissue_image.tif" in text


def test_two_images_have_to_be_chosen_from(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "mine_tissue_image.tif", run / "other_tissue_image.tif")

    with pytest.raises(DataError, match=r"mine_tissue_image.tif, other_tissue_image.tif; choose one"):
        execute(str(run), "", str(tmp_path / "out"), _quiet)


def _no_image(run: Path) -> str:
    (run / "mine_tissue_image.tif").unlink()
    return ""


def _stripped(run: Path) -> str:
    pixels = tifffile.imread(run / "mine_tissue_image.tif", key=0)
    tifffile.imwrite(run / "x.tif", pixels, compression="lzw", rowsperstrip=16, photometric="rgb")
    return str(run / "x.tif")


def _other_image(run: Path) -> str:
    Image.new("RGB", (900, 700)).save(run / "other.png")
    spatial = run / BIN / "spatial" / "tissue_hires_image.png"
    return str(run / "other.png") if spatial.is_file() else "fixture without a hires picture"


def _hires(run: Path) -> str:
    return str(run / BIN / "spatial" / "tissue_hires_image.png")


def _no_matrix(run: Path) -> str:
    (run / BIN / "filtered_feature_bc_matrix.h5").unlink()
    return ""


def _short_matrix(run: Path) -> str:
    path = run / BIN / "filtered_feature_bc_matrix.h5"
    path.write_bytes(path.read_bytes()[:5000])
    return ""


def _no_positions(run: Path) -> str:
    (run / BIN / "spatial" / "tissue_positions.parquet").unlink()
    return ""


def _swapped(run: Path) -> str:
    path = run / BIN / "spatial" / "tissue_positions.parquet"
    table = pd.read_parquet(path)
    table["pxl_col_in_fullres"] = table["pxl_col_in_fullres"].sample(frac=1, random_state=0).to_numpy()
    table.to_parquet(path)
    return ""


def _wrong_scale(run: Path) -> str:
    path = run / BIN / "spatial" / "scalefactors_json.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"microns_per_pixel": 0.5}))
    return ""


def _nothing(run: Path) -> str:
    shutil.rmtree(run / "outs")
    return ""


@pytest.mark.parametrize(
    ("damage", "message", "still"),
    [
        (_no_image, "give the picture that Space Ranger got with --image", "- UMI a unit: mean"),
        (_stripped, "stripped, compressed TIFF", "- UMI a unit: mean"),
        (_other_image, "900 x 700 px, the positions belong to", "- image: other.png"),
        (str, "is a folder; wanted the file", "- UMI a unit: mean"),
        (_hires, "small picture of Space Ranger", "- orientation: mirrored"),
        (_no_matrix, "filtered_feature_bc_matrix.h5 is not there", "- image: mine_tissue_image.tif"),
        (_short_matrix, "is not a whole 10x feature-barcode matrix", "- bins: 8 um"),
        (_no_positions, "tissue_positions.parquet is not there", "- bins: 8 um"),
        (_swapped, "positions miss a regular grid", "- bins: 8 um"),
        (_wrong_scale, "positions give 0.2738 um a pixel", "- bins: 8 um"),
        (_nothing, "no square_008um below", "## mine"),
    ],
)
def test_what_a_reader_refuses_is_a_line_of_the_report(
    run: Path, tmp_path: Path, damage: Callable[[Path], str], message: str, still: str
) -> None:
    image = damage(run)

    good, text = _check(run, tmp_path / "out", image)

    assert not good
    assert "a run would fail on mine" in text
    assert text.count(message) == 1  # said once, however many steps it stops
    assert still in text


def test_a_second_bin_size_that_is_broken_does_not_stop_the_first(
    cohort: Dataset, run: Path, tmp_path: Path
) -> None:
    source = cohort.root / cohort.card.samples[0].path / "binned_outputs/square_016um"
    other = run / "outs/binned_outputs/square_016um"
    shutil.copytree(source, other)
    (other / "spatial" / "tissue_positions.parquet").unlink()

    good, text = _check(run, tmp_path / "out")

    assert good
    assert "To look at:\n\n- " in text
    assert "square_016um/spatial/tissue_positions.parquet is not there" in text


def test_bins_of_two_runs_are_told_from_those_of_one(cohort: Dataset, run: Path, tmp_path: Path) -> None:
    own, other = (cohort.root / cohort.card.samples[i].path / "binned_outputs/square_016um" for i in (0, 1))
    place = run / "outs/binned_outputs/square_016um"

    shutil.copytree(own, place)
    good, text = _check(run, tmp_path / "own")
    shutil.rmtree(place)
    shutil.copytree(other, place)
    bad, mixed = _check(run, tmp_path / "mixed")

    assert good
    assert "nothing wrong was found" in text
    assert not bad
    assert mixed.count("um apart in the image; they are of two runs") == 1


def _reason(words: str) -> Callable[[object], None]:
    def fail(_: object) -> None:
        raise RuntimeError(words)

    return fail


def test_a_fault_of_ours_is_a_line_too(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdstbench.data.report.image_facts", _reason("no such thing"))

    good, text = _check(run, tmp_path / "out")

    assert not good
    assert text.count("unexpected RuntimeError: no such thing; please report it") == 1


def test_without_hires_nothing_vouches_for_the_image(run: Path, tmp_path: Path) -> None:
    for path in run.rglob("tissue_hires_image.png"):
        path.unlink()

    good, text = _check(run, tmp_path / "out")

    assert good
    assert "To look at:\n\n- the run has no spatial/tissue_hires_image.png" in text


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
        "## SIM4",
        "## Samples compared",
    ]
    assert text.count("| different |") == 6
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *(f"SIM{i}.png" for i in range(1, 5)),
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

    good, text = _check(card, tmp_path / "out")

    assert good
    assert "| one, two | same section | 1.00 | 1.00 | 1.00 | as it is |" in text
    assert "1 thing to look at" in text


def test_two_sections_of_one_patient_are_nothing_to_look_at(cohort: Dataset, tmp_path: Path) -> None:
    files = 'path = "SIM1/outs"\nimage = "SIM1/SIM1_tissue_image.tif"\n'
    twice = "".join(f'\n[[samples]]\nid = "{x}"\npatient = "P"\n{files}' for x in ("one", "two"))

    good, text = _check(_card(cohort, tmp_path, twice), tmp_path / "out")

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

    good, text = _check(card, tmp_path / "out")

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

    good, report = _check(card, tmp_path / "out")

    assert good == (not message)
    assert message in report


def test_a_shift_in_the_card_is_part_of_the_advice(cohort: Dataset, tmp_path: Path) -> None:
    files = 'path = "SIM1/outs"\nimage = "SIM1/SIM1_tissue_image.tif"\nshift_um = [14, -3]\n'
    card = _card(cohort, tmp_path, f'\n[[samples]]\nid = "one"\npatient = "one"\n{files}')

    good, text = _check(card, tmp_path / "out")

    assert good
    assert "- registration: off" in text
    x, y = (float(v) for v in text.split("set shift_um = [")[1].split("]")[0].split(","))
    assert (x, y) == pytest.approx((0, 0), abs=1)


def test_samples_that_were_not_fetched_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDSTBENCH_DATA", str(tmp_path))

    good, text = _check(Path("her2st"), tmp_path / "out")

    assert not good
    assert text.count("no file of ") == 5
    assert "a run would fail on B4, C2, C3, C4, C5" in text


def test_a_sample_that_no_default_fold_needs_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDSTBENCH_DATA", str(tmp_path))

    good, text = _check(Path("crc"), tmp_path / "out")

    assert not good
    assert "a run would fail on P1CRC, P2CRC, P3NAT, P5NAT; 1 thing to look at" in text
    assert "get them with hdstbench data fetch crc --only P5CRC" in text


def test_unknown_names_and_a_needless_image_are_refused(cohort: Dataset, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="nowhere is no folder, archive or card"):
        execute("nowhere", "", str(tmp_path / "out"), _quiet)
    with pytest.raises(DataError, match="leave --image out"):
        execute(str(cohort.root), "x.tif", str(tmp_path / "out"), _quiet)
    with pytest.raises(DataError, match="the path is empty"):
        execute("", "", str(tmp_path / "out"), _quiet)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=r"written into .*file \(File exists\); choose another"):
        execute(str(cohort.root), "", str(tmp_path / "file"), _quiet)

    assert not (tmp_path / "out").exists()


def test_the_exit_code_tells_whether_a_run_would_fail(run: Path, tmp_path: Path) -> None:
    (run / "mine_tissue_image.tif").unlink()

    bad = type_command("data", "check", "mine", cwd=tmp_path, cache=tmp_path / "cache")
    unknown = type_command("data", "check", "nowhere", cwd=tmp_path, cache=tmp_path / "cache")

    assert bad.returncode == 1
    assert "A run would fail:" in bad.stdout
    assert "report:  check/report.md" in bad.stdout
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: nowhere is no folder")
    assert "Traceback" not in bad.stderr + unknown.stderr


def test_the_real_layouts_are_read_or_refused_with_the_reason(tmp_path: Path) -> None:
    folder = test_data() / "visium_hd_layout"
    if not folder.is_dir():
        pytest.skip(f"no real layouts at {folder}; set HDSTBENCH_TEST_DATA")

    tiny = check_run(folder / "visiumio", None, "visiumio")
    cut = check_run(folder / "seurat", None, "seurat")

    assert ("bins", "2 um") in tiny.lines
    assert tiny.grid is not None
    assert tiny.grid.col_way == "to the left (-x)"
    assert any("no unit has 20 UMI" in problem.text for problem in tiny.problems)
    assert any(
        "belong to different runs" in problem.text or "not in" in problem.text for problem in cut.problems
    )
    assert cut.stops
