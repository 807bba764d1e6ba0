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


def quiet(_: str) -> None:
    """Say nothing."""


def check(path: Path, out: Path, image: str = "") -> tuple[bool, str]:
    good = execute(str(path), image, str(out), quiet)
    return good, (out / "report.md").read_text()


@pytest.fixture
def run(cohort: Dataset, tmp_path: Path) -> Path:
    """A sample's folder with outs/ of 8 um bins and the image beside it, to be damaged."""
    sample, folder = cohort.card.samples[0], tmp_path / "mine"
    shutil.copytree(cohort.root / sample.path / "binned_outputs/square_008um", folder / BIN)
    shutil.copy(cohort.root / sample.image, folder / "mine_tissue_image.tif")
    return folder


def test_a_sound_run_is_called_sound(run: Path, tmp_path: Path) -> None:
    good, text = check(run, tmp_path / "out")

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
    good, text = check(run / form, tmp_path / "out")

    assert good
    assert "## mine\n" in text
    assert "image: mine_tissue_image.tif" in text


def test_two_images_have_to_be_chosen_from(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "mine_tissue_image.tif", run / "other_tissue_image.tif")

    with pytest.raises(DataError, match=r"mine_tissue_image.tif, other_tissue_image.tif; choose one"):
        execute(str(run), "", str(tmp_path / "out"), quiet)


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

    good, text = check(run, tmp_path / "out", image)

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

    good, text = check(run, tmp_path / "out")

    assert good
    assert "To look at:\n\n- " in text
    assert "square_016um/spatial/tissue_positions.parquet is not there" in text


def test_bins_of_two_runs_are_told_from_those_of_one(cohort: Dataset, run: Path, tmp_path: Path) -> None:
    own, other = (cohort.root / cohort.card.samples[i].path / "binned_outputs/square_016um" for i in (0, 1))
    place = run / "outs/binned_outputs/square_016um"

    shutil.copytree(own, place)
    good, text = check(run, tmp_path / "own")
    shutil.rmtree(place)
    shutil.copytree(other, place)
    bad, mixed = check(run, tmp_path / "mixed")

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

    good, text = check(run, tmp_path / "out")

    assert not good
    assert text.count("unexpected RuntimeError: no such thing; please report it") == 1


def test_without_hires_nothing_vouches_for_the_image(run: Path, tmp_path: Path) -> None:
    for path in run.rglob("tissue_hires_image.png"):
        path.unlink()

    good, text = check(run, tmp_path / "out")

    assert good
    assert "To look at:\n\n- the run has no spatial/tissue_hires_image.png" in text


def test_unknown_names_and_a_needless_image_are_refused(cohort: Dataset, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="nowhere is no folder, archive or card"):
        execute("nowhere", "", str(tmp_path / "out"), quiet)
    with pytest.raises(DataError, match="leave --image out"):
        execute(str(cohort.root), "x.tif", str(tmp_path / "out"), quiet)
    with pytest.raises(DataError, match="the path is empty"):
        execute("", "", str(tmp_path / "out"), quiet)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=r"written into .*file \(File exists\); choose another"):
        execute(str(cohort.root), "", str(tmp_path / "file"), quiet)

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
