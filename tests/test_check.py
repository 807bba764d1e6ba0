"""`hdstbench data check` says what lies where, what is wrong and what to do, without a traceback."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from helpers import affine, test_data, type_command
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from hdstbench.cli.check_job import execute
from hdstbench.data.card import Dataset
from hdstbench.data.counts import Genes, MemoryCounts
from hdstbench.data.facts import CountFacts, count_facts, grid_facts, outside_units
from hdstbench.data.geometry import Affine
from hdstbench.data.image import ArrayImage
from hdstbench.data.overlay import raster
from hdstbench.data.overview import Overview, read_overview
from hdstbench.data.picture import image_facts
from hdstbench.data.problems import of_counts, of_grid, of_image, of_place
from hdstbench.data.report import check_run
from hdstbench.data.sample import Sample
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
    assert "JPEG, 2 levels" in text
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


def _sample(to_px: Affine, **changes: object) -> Sample:
    grid = np.argwhere(np.ones((4, 5), bool))
    counts = sparse.csr_array(np.arange(60).reshape(20, 3))
    made = Sample(
        id="x",
        unit_um=8.0,
        mpp=8.0 / to_px.scale,
        grid=grid,
        xy_px=to_px(grid[:, ::-1].astype(float)),
        to_px=to_px,
        grid_shape=(4, 5),
        counts=MemoryCounts(counts, Genes(ids=("a", "b", "c"), symbols=("A", "B", "A"))),
        image=None,
        sources=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@given(st.floats(-44, 44), st.integers(0, 3), st.booleans())
def test_any_orientation_is_described(degrees: float, quarter: int, mirrored: bool) -> None:
    turn = np.deg2rad(degrees + 90 * quarter)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([30.0, -30.0 if mirrored else 30.0])

    facts = grid_facts(_sample(Affine(np.column_stack([matrix, [100.0, 200.0]]))))

    ways = ["to the right (+x)", "downwards (+y)", "to the left (-x)", "upwards (-y)"]
    assert facts.col_way == ways[quarter]
    assert facts.row_way == ways[(quarter + (3 if mirrored else 1)) % 4]
    assert facts.determinant == (-1 if mirrored else 1)
    assert facts.degrees == pytest.approx(degrees, abs=1e-6)


def test_counts_are_described() -> None:
    # given units of 3, 12, 21, ... UMI, and a gene symbol that stands for two genes
    facts = count_facts(_sample(affine(8, 400, 0.0)), minimum=20)

    assert (facts.least, facts.most, facts.median) == (3, 174, 88.5)
    assert facts.mean == pytest.approx(88.5)
    assert facts.enough == 18
    assert facts.twice == ("A",)


def test_units_partly_outside_the_image_are_counted(tmp_path: Path) -> None:
    # given bins of 4 x 4 px with centres at 0, 4, 8, 12, 16 in x and at 2, 6, 10, 14 in y
    Image.new("RGB", (18, 16)).save(tmp_path / "he.png")
    sample = _sample(Affine(np.array([[4.0, 0, 0], [0, 4.0, 2]])), image=tmp_path / "he.png")

    # then the first column reaches out on the left; the last ends where the image does
    assert outside_units(sample) == 4


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
    head = (cohort.root / "dataset.toml").read_text().split("[[samples]]")[0]
    shutil.copytree(cohort.root / "splits", folder / "splits")
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


def test_unknown_names_and_a_needless_image_are_refused(cohort: Dataset, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere is no folder, archive or card, and no data set \(crc"):
        execute("nowhere", "", str(tmp_path / "out"), _quiet)
    with pytest.raises(DataError, match="leave --image out"):
        execute(str(cohort.root), "x.tif", str(tmp_path / "out"), _quiet)

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


COUNTS = CountFacts(genes=3, twice=(), mean=1.0, median=1.0, least=0, most=9, empty=0.1, minimum=20, enough=5)


def test_facts_that_need_a_look_become_problems(tmp_path: Path) -> None:
    grid = grid_facts(_sample(affine(8, 400, 0.0)))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), tile=(32, 32), photometric="rgb")
    image = replace(image_facts(tmp_path / "a.tif"), tag_um=0.5)

    assert of_grid(grid) == of_grid(replace(grid, unit_um=200.0, determinant=1)) == []
    assert "not mirrored" in of_grid(replace(grid, determinant=1))[0].text
    assert of_counts(COUNTS) == []
    assert not of_counts(replace(COUNTS, empty=0.7))[0].stops
    assert of_counts(replace(COUNTS, enough=0))[0].stops
    assert of_image(image, 0.5) == of_image(replace(image, tag_um=None), 0.5) == []
    assert of_image(replace(image, tag_um=25_400 / 96), 0.5) == []
    assert "says 0.5000 um a pixel, the positions 0.2500" in of_image(image, 0.25)[0].text
    assert of_place(5, 100) == []
    assert "6 of 100 units lie outside" in of_place(6, 100)[0].text


@pytest.mark.parametrize(
    ("how", "kind", "tag"),
    [
        ({"tile": (64, 64)}, "TIFF, tiles of 64 x 64, uncompressed", None),
        (
            {"tile": (32, 64), "compression": "lzw", "bigtiff": True},
            "BigTIFF, tiles of 64 x 32, LZW",
            None,
        ),
        ({"resolution": (96, 96), "resolutionunit": "INCH"}, "TIFF, strips, uncompressed", 264.583),
        (
            {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"},
            "TIFF, strips, uncompressed",
            0.25,
        ),
    ],
)
def test_pictures_are_described(tmp_path: Path, how: dict[str, object], kind: str, tag: float | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((200, 300, 3), np.uint8), photometric="rgb", **how)  # type: ignore[arg-type]

    facts = image_facts(path)

    assert (facts.size, facts.kind, facts.levels) == ((300, 200), kind, 1)
    assert facts.tag_um == (None if tag is None else pytest.approx(tag, rel=1e-4))
    assert facts.placeholder == (tag == 264.583)


@given(turn=st.floats(-3, 3), mirrored=st.booleans())
@settings(max_examples=25, deadline=None)
def test_each_unit_is_painted_where_it_lies(turn: float, mirrored: bool) -> None:
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([20.0, -20.0 if mirrored else 20.0])
    sample = _sample(Affine(np.column_stack([matrix, [200.0, 200.0]])))
    rgba = np.column_stack([np.arange(20) / 20, np.zeros(20), np.zeros(20), np.ones(20)])
    overview = Overview(np.zeros((200, 200, 3), np.uint8), np.zeros(2), 2 * sample.mpp)

    painted = raster(sample, overview, rgba)

    x, y = np.floor(sample.xy_px / 2).astype(int).T
    np.testing.assert_array_equal(painted[y, x], rgba)
    covered = (painted[..., 3] > 0).sum() * 4
    assert covered == pytest.approx(20 * 20**2, rel=0.05)


@given(x=st.integers(-30, 200), y=st.integers(-30, 200), longest=st.integers(40, 300))
@settings(max_examples=40, deadline=None)
def test_an_overview_shows_its_place(x: int, y: int, longest: int) -> None:
    # given a picture whose red rises to the right and whose green rises downwards
    down, right = np.mgrid[0:400, 0:400]
    pixels = np.stack([right / 2, down / 2, np.zeros((400, 400))], axis=-1).astype(np.uint8)
    low, side = np.array([x, y]) * 0.5, np.array([100.0, 80.0])

    overview = read_overview(ArrayImage(pixels), 0.5, low, low + side, longest)

    height, width = overview.pixels.shape[:2]
    assert overview.step_um == pytest.approx(max(100 / longest, 0.5))
    np.testing.assert_allclose((width, height), side / overview.step_um, atol=1)
    row, col = height // 2, width // 2
    place = (low + (np.array([col, row]) + 0.5) * overview.step_um) / 0.5
    assert np.abs(overview.pixels[row, col, :2] - place / 2).max() < 2


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
