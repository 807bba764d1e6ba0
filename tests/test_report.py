"""The report: a folder on its own whose numbers and maps are those of the run."""

import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers import make_slide, type_command
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hdstbench.cli.export_job import find_prepared, read_predictions
from hdstbench.data.prepared import forget
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.target import find_target
from hdstbench.records import load_record
from hdstbench.report.html.folder import plotly_script
from hdstbench.report.html.raster import (
    ERROR_LEVELS,
    LEVELS,
    MOST_CELLS,
    _along_image,
    frame_of,
    write_error,
    write_map,
)
from hdstbench.sweep.cell import PREDICTIONS

ROOT = Path(__file__).parents[1]
OUT = ("-o", "runs")


@pytest.fixture(scope="module")
def swept(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """Three controls, and the predictions of one of them entered as a model."""
    folder, card = tmp_path_factory.mktemp("reported"), str(cohort_folder / "dataset.toml")
    words = ("-d", card, "-r", "16um")
    done = type_command(
        "run",
        "-m",
        "ridge,stain,shuffled-ridge",
        *words,
        "--recipe",
        "tiny",
        *OUT,
        cwd=folder,
        cache=own_cache,
    )
    assert done.returncode == 0, done.stderr
    cells = [str(p) for p in sorted((folder / "runs").glob("*/16um/ridge/fold*"))]
    who = ("--as", "their-model", "--by", "A. Person", "--code", "example.org")
    done = type_command("score", *cells, *words, *who, *OUT, cwd=folder, cache=own_cache)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def page(swept: Path, own_cache: Path) -> Path:
    done = type_command("report", "runs", "-o", "page", cwd=swept, cache=own_cache)
    assert done.returncode == 0, done.stderr
    return swept / "page"


def content(page: Path) -> dict:
    text = (page / "data.js").read_text()
    return json.loads(text.removeprefix("window.HDSTBENCH = ").rstrip().removesuffix(";"))


def test_a_page_needs_nothing_but_its_folder(page: Path) -> None:
    html = (page / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"]+)"', html)

    assert all((page / name).is_file() for name in named if name != "data:,")
    for path in page.glob("*.*"):
        if path.name != "plotly.min.js":
            assert not re.search(r"https?://(?!www.w3.org/2000/svg)|//cdn", path.read_text()), path
    assert "plotly.js v" in (page / "plotly.min.js").read_text()[:200]


def test_a_page_holds_the_numbers_of_the_table(page: Path, swept: Path) -> None:
    (job,) = content(page)["jobs"]
    stored = json.loads((swept / "runs" / "simulated-16um.json").read_text())

    assert [{name: row[name] for name in stored["rows"][0]} for row in job["rows"]] == stored["rows"]
    assert job["simulated"]
    assert {row["model"] for row in job["rows"] if row["ranked"]} == {"their-model"}


def test_every_map_that_the_page_names_is_there(page: Path) -> None:
    (job,) = content(page)["jobs"]
    models = job["maps"]["models"]

    assert models == ["their-model", "ridge"]
    assert len(job["maps"]["slides"]) == 3
    assert len(job["maps"]["genes"]) == 32
    wanted = set()
    for slide in job["maps"]["slides"]:
        wanted |= {slide["section"], *(window["section"] for window in slide["windows"])}
        for gene in slide["genes"].values():
            names = ["t", *(f"m{i}{e}" for i in range(len(models)) for e in ("", "e"))]
            wanted |= {f"{slide['folder']}/{gene['file']}-{name}.png" for name in names}
    assert wanted == {str(p.relative_to(page)) for p in (page / "maps").rglob("*.*")}
    assert all(len(slide["windows"]) > 0 for slide in job["maps"]["slides"])


def _pixels(matrix: Sequence[float], xy: np.ndarray) -> np.ndarray:
    """Row and column of the pixels at some places, [N, 2]."""
    a, b, c, d, e, f = matrix
    return np.floor((xy - [e, f]) @ np.linalg.inv([[a, b], [c, d]])).astype(int)[:, ::-1]


def _decoded(path: Path, matrix: Sequence[float], xy: np.ndarray) -> np.ndarray:
    """Steps of the colour scale at some places, -1 where nothing is drawn."""
    image = Image.open(path)
    assert image.mode == "P"
    row, col = _pixels(matrix, xy).T
    return np.asarray(image).astype(int)[row, col] - 1


def test_maps_show_what_was_measured_and_predicted(page: Path, swept: Path) -> None:
    (job,) = content(page)["jobs"]
    slide = job["maps"]["slides"][0]
    (cell,) = [p for p in (swept / "runs").glob("*/16um/ridge/fold*") if slide["slide"] in _slides(p)]
    genes, values, _ = read_predictions(cell / PREDICTIONS)
    number = job["maps"]["models"].index("ridge")
    view = _open(cell, slide["slide"])
    for gene, known in list(slide["genes"].items())[:5]:
        column = genes.index(gene)
        predicted, measured = values[slide["slide"]][:, column], view.need_labels().target()[:, column]
        for name, shown in (("t", measured), (f"m{number}", predicted)):
            path = page / slide["folder"] / f"{known['file']}-{name}.png"
            steps = _decoded(path, slide["map_matrix"], view.xy_um)
            share = np.clip((shown - known["low"]) / (known["top"] - known["low"]), 0, 1)
            assert np.abs(steps - share * (LEVELS - 1)).max() <= 0.51
        path = page / slide["folder"] / f"{known['file']}-m{number}e.png"
        steps = _decoded(path, slide["map_matrix"], view.xy_um)
        error = np.clip((predicted - measured) / known["reach"], -1, 1)
        assert np.abs(steps - (error + 1) * (ERROR_LEVELS // 2)).max() <= 0.51


def _slides(cell: Path) -> set[str]:
    return {scores["slide"] for scores in json.loads((cell / "scores.json").read_text())["slides"]}


def _open(cell: Path, slide: str) -> Slide:
    genes, values, keys = read_predictions(cell / PREDICTIONS)
    folder = find_prepared(load_record(cell), slide, len(values[slide]), keys[slide])
    assert folder is not None
    return open_slide(folder, genes, find_target("log1p-cp10k"))


@settings(max_examples=15, deadline=None)
@given(turn=st.floats(-np.pi, np.pi))
def test_every_unit_is_drawn_without_gaps_however_the_array_lies(
    turn: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    slide = make_slide(tmp_path_factory.mktemp("turned"), "a", seed=0, turn=turn, side_um=256).slide

    frames = (frame_of(slide), _along_image(slide, slide.unit_um, math.sqrt(0.5)))

    for frame in frames:
        row, col = _pixels(frame.matrix, slide.xy_um).T
        np.testing.assert_array_equal(frame.cell[row, col], frame.group)
        assert sorted(frame.group) == list(range(len(slide)))
        a, b, c, d, *_ = frame.matrix
        area = (frame.cell >= 0).sum() * abs(a * d - b * c)
        assert area == pytest.approx(len(slide) * slide.unit_um**2, rel=0.12)
    assert (frames[0].cell >= 0).sum() == len(slide)


def test_many_units_share_pixels_which_show_their_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdstbench.report.html.raster.MOST_CELLS", 70)
    slide = make_slide(tmp_path, "a", seed=0, turn=0.2, side_um=256).slide

    frame = frame_of(slide)

    assert (len(slide), frame.across) == (256, 2)
    row, col = _pixels(frame.matrix, slide.xy_um).T
    np.testing.assert_array_equal(frame.cell[row, col], frame.group)
    assert frame.group.max() + 1 <= 81
    values = np.random.default_rng(0).normal(size=len(slide))
    expected = [values[frame.group == cell].mean() for cell in range(frame.group.max() + 1)]
    np.testing.assert_allclose(frame.means(values), expected)


def test_seven_models_on_four_slides_stay_below_twenty_megabytes(tmp_path: Path) -> None:
    """Maps of noise are the largest there are: measured on 64 x 64 bins, at the most a map holds."""
    slide = make_slide(tmp_path, "a", seed=0, side_um=1024).slide
    values = np.random.default_rng(0).normal(size=len(slide)).astype(np.float32)

    write_map(tmp_path / "map.png", frame_of(slide), values, -2, 2)
    write_error(tmp_path / "error.png", frame_of(slide), values, 3)

    value, error = ((tmp_path / name).stat().st_size / len(slide) for name in ("map.png", "error.png"))
    slides, genes, models = 4, 32, 7
    noise = slides * MOST_CELLS * genes * ((1 + models) * value + models * error)
    assert noise + len(plotly_script()) < 20e6


def test_genes_that_are_asked_for_come_first_and_others_are_refused(
    swept: Path, page: Path, own_cache: Path
) -> None:
    last = content(page)["jobs"][0]["scatter"]["names"][-1]

    done = type_command(
        "report", "runs", "--genes", last, "-m", "stain", "-o", "asked", cwd=swept, cache=own_cache
    )
    bad = type_command("report", "runs", "--genes", "NOGENE", "-o", "bad", cwd=swept, cache=own_cache)
    row = type_command("report", "runs", "-m", "magnet", "-o", "bad", cwd=swept, cache=own_cache)

    assert done.returncode == 0, done.stderr
    maps = content(swept / "asked")["jobs"][0]["maps"]
    assert (maps["genes"][0]["name"], maps["genes"][0]["asked"]) == (last, True)
    assert [gene["asked"] for gene in maps["genes"][1:]] == [False] * 32
    assert maps["models"] == ["stain"]
    assert bad.returncode == 2
    assert "--genes NOGENE: not among the genes that runs predicted" in bad.stderr
    assert "-m magnet: no whole row but an oracle of a table of runs; there are their-model, " in row.stderr
    assert "depth" not in row.stderr
    assert not (swept / "bad").exists()


def test_a_folder_of_something_else_is_kept_and_a_report_replaced(
    swept: Path, page: Path, own_cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(page, tmp_path / "old")
    (tmp_path / "old" / "maps" / "stray.png").write_bytes(b"")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    runs = str(swept / "runs")

    again = type_command("report", runs, "-o", "old", cwd=tmp_path, cache=own_cache)
    other = type_command("report", runs, "-o", "mine", cwd=tmp_path, cache=own_cache)

    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "old" / "maps" / "stray.png").exists()
    assert other.returncode == 2
    assert "mine is there and holds more than a report" in other.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "old"]


def test_what_somebody_keeps_in_or_beside_a_report_is_never_lost(
    swept: Path, page: Path, own_cache: Path, tmp_path: Path
) -> None:
    for name in ("site", "noted", "page", "page.old"):
        shutil.copytree(page, tmp_path / name)
    (tmp_path / "site" / "data.js").unlink()  # a page of their own
    (tmp_path / "noted" / "notes.txt").write_text("mine")
    (tmp_path / "page.old" / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to("page")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))

    def typed(*words: str, cwd: Path = tmp_path) -> str:
        done = type_command("report", str(swept / "runs"), *words, cwd=cwd, cache=own_cache)
        return done.stderr

    assert "holds more than a report" in typed("-o", "site")
    assert "holds more than a report" in typed("-o", "noted")
    assert "holds the working directory" in typed("-o", ".", cwd=tmp_path / "page")
    assert typed("-o", "link") == ""
    assert (tmp_path / "link").is_symlink()
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_damage_and_what_does_not_fit_are_told(swept: Path, own_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(swept / "runs", tmp_path / "runs")
    (cell,) = [p for p in (tmp_path / "runs").glob("*/16um/ridge/fold0-*") if (p / "record.json").is_file()]
    with np.load(cell / PREDICTIONS) as file:
        arrays = {name: file[name] for name in file.files}
    (slide,) = (name for name in arrays if name.startswith("slide/"))
    key = f"key/{slide.removeprefix('slide/')}"
    np.savez(cell / PREDICTIONS, **{**arrays, slide: arrays[slide][5:], key: np.array("")})
    words = ("report", "runs", "-m", "stain,ridge", "-o", "page")

    fewer = type_command(*words, cwd=tmp_path, cache=own_cache)
    (cell / "per_gene.parquet").write_bytes(b"PAR1")
    damaged = type_command(*words, cwd=tmp_path, cache=own_cache)

    assert fewer.returncode == 0, fewer.stderr
    assert "No map of ridge on" in fewer.stdout or "not prepared" in fewer.stdout
    assert damaged.returncode == 2
    assert "per_gene.parquet cannot be read" in damaged.stderr
    assert len(damaged.stderr.splitlines()) == 1


def test_a_run_without_a_whole_row_is_shown_as_such(swept: Path, own_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(swept / "runs", tmp_path / "runs")
    for cell in (tmp_path / "runs").glob("*/16um/*/fold1-*"):
        shutil.rmtree(cell)

    done = type_command("report", "runs", "-o", "page", cwd=tmp_path, cache=own_cache)
    still = type_command("report", "runs", "--static", "-o", "figures", cwd=tmp_path, cache=own_cache)

    assert (done.returncode, still.returncode) == (0, 0), done.stderr + still.stderr
    (job,) = content(tmp_path / "page")["jobs"]
    assert all(row["pcc"] is None for row in job["rows"])
    assert job["without"]
    assert "no row of it is whole yet" in still.stdout


def test_a_slide_that_is_prepared_twice_is_found_if_its_counts_are_the_same(
    swept: Path, own_cache: Path, tmp_path: Path
) -> None:
    (cell, *_) = sorted((swept / "runs").glob("*/16um/ridge/fold*"))
    (slide,) = _slides(cell)
    _, values, keys = read_predictions(cell / PREDICTIONS)
    asked = (load_record(cell), slide, len(values[slide]), keys[slide])
    folder = find_prepared(*asked)
    assert folder is not None
    twin = folder.with_name(f"{slide}-twin")
    shutil.copytree(folder, twin)
    manifest = twin / "manifest.json"
    try:
        manifest.write_text(re.sub(r'"labels": "\w+"', '"labels": "other"', manifest.read_text()))
        same = find_prepared(*asked)
        labels = twin / "labels" / "unit.npz"
        arrays = dict(np.load(labels))
        np.savez(labels, **{**arrays, "library": arrays["library"] + 1})
        forget()
        other = find_prepared(*asked)
    finally:
        shutil.rmtree(twin)
        forget()

    assert same is not None
    assert other is None


def test_records_without_predictions_give_a_page_without_maps(tmp_path: Path, own_cache: Path) -> None:
    done = type_command("report", str(ROOT / "leaderboards"), "-o", "page", cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stderr
    jobs = content(tmp_path / "page")["jobs"]
    assert [job["stem"] for job in jobs] == ["her2st-100um", "her2st-100um-slide"]
    assert all(
        job["maps"]["slides"] == [] and "no predictions beside its records" in job["without"][0]
        for job in jobs
    )
    assert all(len(job["scatter"]["genes"]) >= 250 for job in jobs)
    assert not (tmp_path / "page" / "maps").exists()


def test_a_folder_without_tables_and_a_missing_plotly_are_told(
    swept: Path, tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "plotly.py").write_text("raise ImportError('gone')")
    without = {"PYTHONPATH": str(tmp_path / "no")}

    empty = type_command("report", "empty", cwd=tmp_path, cache=own_cache)
    bare = type_command("report", str(swept / "runs"), cwd=tmp_path, cache=own_cache, env=without)

    assert (empty.returncode, bare.returncode) == (2, 2)
    assert "no *.plan.json in empty; wanted the -o folder of a run" in empty.stderr
    assert "pip install 'hdstbench[report]'" in bare.stderr


def test_figures_are_the_same_bytes_each_time(swept: Path, own_cache: Path) -> None:
    for name in ("one", "two"):
        words = ("report", "runs", "--static", "--format", "png,pdf,svg", "-o", name)
        done = type_command(*words, cwd=swept, cache=own_cache)
        assert done.returncode == 0, done.stderr

    files = sorted(p.name for p in (swept / "one").iterdir())
    assert len(files) == 9
    assert all((swept / "one" / f).read_bytes() == (swept / "two" / f).read_bytes() for f in files)
    assert (swept / "one" / "simulated-16um-maps.pdf").read_bytes().startswith(b"%PDF")
    bad = type_command(
        "report", "runs", "--static", "--format", "gif", "-o", "gif", cwd=swept, cache=own_cache
    )
    assert bad.returncode == 2
    assert "--format gif: wanted png, pdf, svg" in bad.stderr
    bare = type_command("report", "runs", "--format", "pdf", cwd=swept, cache=own_cache)
    assert "--format is for figures; give --static, too" in bare.stderr
    assert not (swept / "gif").exists()


def test_a_page_lists_why_a_slide_has_no_maps(swept: Path, own_cache: Path, tmp_path: Path) -> None:
    done = type_command("report", str(swept / "runs"), "-o", "page", cwd=tmp_path, cache=tmp_path / "other")

    assert done.returncode == 0, done.stderr
    (job,) = content(tmp_path / "page")["jobs"]
    assert "not prepared in" in job["without"][0]
    assert "not prepared in" in done.stdout
    name = job["scatter"]["genes"][0]
    by_id = ("report", str(swept / "runs"), "--genes")
    known = type_command(*by_id, name, "-o", "page", cwd=tmp_path, cache=tmp_path / "other")
    symbol = type_command(*by_id, "TYPE0051", "-o", "page", cwd=tmp_path, cache=tmp_path / "other")
    assert known.returncode == 0, known.stderr
    assert "symbols are known only where its slides are prepared" in symbol.stderr
