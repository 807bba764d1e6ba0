"""The commands as a user types them, from simulated files and a made-up her2st to tables."""

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from helpers import type_command
from PIL import Image
from test_readers import make_section

from hdstbench.plugins.registry import found

MAIN = "run --models all --dataset demo --res 16um"
MODELS = [name for name in found() if name != "coords"]
"""What `all` means where test slides are not in training."""
CELLS_A_FOLD = len(MODELS) + 3  # and the oracles attainable, depth, slide-mean
SOME = "mean,ridge,shuffled-ridge,st-net,magnet"
"""A few of every kind, where it is not the models that are asked for."""
TABLES = ("demo-16um.md", "demo-16um.csv", "demo-16um.json")


@pytest.fixture(scope="module")
def main_job(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Run the main command once on a small demo; its folder, its cache and the data."""
    work, cache = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("cache-main")
    done = type_command(*MAIN.split(), cwd=work, cache=cache, data=cohort_folder.parent)
    assert done.returncode == 0, done.stderr + done.stdout
    (work / "stdout.txt").write_text(done.stdout)
    return work, cache, cohort_folder.parent


def test_the_main_job_prints_the_table_and_its_place(main_job: tuple[Path, Path, Path]) -> None:
    out = (main_job[0] / "stdout.txt").read_text()

    for word in ("st-net", "magnet", "ridge (control)", "shuffled-ridge", "mean", "attainable", "skill"):
        assert word in out
    assert "table: runs/default/demo-16um.md" in out
    assert "map:   runs/default/demo-16um.png" in out


def test_the_table_says_what_it_is(main_job: tuple[Path, Path, Path]) -> None:
    text = (main_job[0] / "runs/default/demo-16um.md").read_text()

    assert "**Simulated data.** No conclusion about which model is better" in text
    assert "leave one simulated patient out" in text
    assert f"```\nhdstbench {MAIN}\n```" in text
    assert "n = 3; no claim about new patients" in text
    assert "random-weights" in text
    assert not re.search(r"20\d\d-\d\d", text)  # no date: it can be made again byte for byte


def test_trained_models_are_above_chance_and_below_what_is_attainable(
    main_job: tuple[Path, Path, Path],
) -> None:
    rows = {
        r["model"]: r for r in json.loads((main_job[0] / "runs/default/demo-16um.json").read_text())["rows"]
    }

    ceiling = rows["attainable"]["pcc"]["value"]
    for name in MODELS:
        if name in ("mean", "shuffled-ridge"):
            continue
        assert rows[name]["pcc"]["value"] < ceiling
        if name == "magnet-published":  # it predicts a unit from others: nothing of places can be learnt
            assert abs(rows[name]["pcc"]["value"]) < 0.05
        else:
            assert rows[name]["over_shuffled"]["value"] > 0, name
    assert rows["mean"]["pcc"]["value"] == 0
    assert rows["mean"]["scores"]["mse_skill"] == pytest.approx(0, abs=0.02)


def test_the_picture_shows_a_slide_and_maps(main_job: tuple[Path, Path, Path]) -> None:
    with Image.open(main_job[0] / "runs/default/demo-16um.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(10**7) or []) > 500


def test_a_second_run_does_no_work_and_writes_the_same_bytes(main_job: tuple[Path, Path, Path]) -> None:
    work, cache, data = main_job
    before = {name: (work / "runs/default" / name).read_bytes() for name in TABLES}
    stamps = {p: p.stat().st_mtime_ns for p in (work / "runs").rglob("record.json")}

    done = type_command(*MAIN.split(), cwd=work, cache=cache, data=data)

    assert f"all {3 * CELLS_A_FOLD} cells are there already" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in (work / "runs").rglob("record.json")} == stamps
    assert {name: (work / "runs/default" / name).read_bytes() for name in TABLES} == before


def test_a_fold_run_from_scratch_has_the_same_bytes(
    main_job: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Another folder, an empty cache, and other cells around: each cell of fold 0 is what it was."""
    work, _, data = main_job

    done = type_command(*MAIN.split(), "--folds", "0", cwd=tmp_path, cache=tmp_path / "cache", data=data)

    assert done.returncode == 0, done.stderr
    cells = sorted((tmp_path / "runs").rglob("record.json"))
    assert len(cells) == CELLS_A_FOLD
    for cell in (c.parent for c in cells):
        other = work / cell.relative_to(tmp_path)
        for name in ("scores.json", "predictions.npz", "moments.npz", "per_gene.parquet", "config.toml"):
            if (cell / name).exists():
                assert (cell / name).read_bytes() == (other / name).read_bytes(), cell


def test_another_seed_gives_other_numbers(main_job: tuple[Path, Path, Path], tmp_path: Path) -> None:
    work, cache, data = main_job
    words = "run --models st-net,shuffled-ridge --dataset demo --res 16um --folds 0 --seeds 1"

    done = type_command(*words.split(), cwd=tmp_path, cache=cache, data=data)

    assert done.returncode == 0, done.stderr
    for name in ("st-net", "shuffled-ridge"):
        first, second = (
            next((folder / "runs/default/demo/16um" / name).glob("fold0-*/scores.json")).read_text()
            for folder in (work, tmp_path)
        )
        assert first != second


def test_tables_can_be_made_again_from_copied_records_alone(
    main_job: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    work, cache, _ = main_job
    board = tmp_path / "leaderboards"

    copied = type_command("leaderboard", "runs/default", "-o", str(board), cwd=work, cache=cache)
    first = {name: (board / name).read_bytes() for name in TABLES}
    for name in TABLES:
        (board / name).unlink()
    again = type_command("leaderboard", str(board), cwd=tmp_path, cache=cache)

    assert copied.returncode == again.returncode == 0, copied.stderr + again.stderr
    assert {name: (board / name).read_bytes() for name in TABLES} == first
    assert first["demo-16um.md"] == (work / "runs/default/demo-16um.md").read_bytes()
    assert not list(board.rglob("predictions.npz"))


def test_other_resolutions_run_too(main_job: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, cache, data = main_job

    done = type_command(
        *["run", "-m", SOME, "-d", "demo", "-r", "8um,55um", "--recipe", "tiny", "--folds", "0"],
        cwd=tmp_path,
        cache=cache,
        data=data,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in (tmp_path / "runs/default").glob("*um.md")} == {"demo-8um.md", "demo-55um.md"}


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sections under the names of the her2st card, all of them made up."""
    root = tmp_path_factory.mktemp("spots")
    for seed, name in enumerate(("B4", "C2", "C3", "C4", "C5")):
        make_section(root / "her2st", name, seed=seed)
    return root


@pytest.mark.parametrize(
    ("words", "stem", "flagged"),
    [
        ("run --models all --dataset her2st --res 100um", "her2st-100um", False),
        (f"run --models {SOME} --dataset her2st --res 100um --split slide", "her2st-100um-slide", True),
    ],
)
def test_native_spots_run_with_both_splits(
    spots: Path, tmp_path: Path, own_cache: Path, words: str, stem: str, flagged: bool
) -> None:
    (tmp_path / "hdstbench.toml").write_text('recipe = "tiny"\n')

    done = type_command(*words.split(), cwd=tmp_path, cache=own_cache, data=spots)

    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "runs/default" / f"{stem}.md").read_text()
    assert ("within one patient, leaky by design" in text) == flagged
    assert ("patient-leak" in text) == flagged
    assert "Simulated data" not in text
    assert "attainable" not in text


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    done = type_command(*MAIN.split(), "--dry-run", cwd=tmp_path, cache=tmp_path / "cache")

    assert done.returncode == 0
    assert f"demo-16um: {3 * len(MODELS)} cells = {len(MODELS)} models" in done.stdout
    assert "without coords" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_events_are_lines_that_can_be_read(main_job: tuple[Path, Path, Path]) -> None:
    work, cache, data = main_job

    done = type_command(*MAIN.split(), "--json", cwd=work, cache=cache, data=data)

    events = [json.loads(line) for line in done.stdout.splitlines()]
    cells = 3 * CELLS_A_FOLD
    assert {"event": "cells", "total": cells, "done": cells, "workers": 1} in events
    assert events[-1]["event"] == "table"


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "hdstbench", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "anndata", "pandas", "numpy", "scipy", "rich", "h5py", "timm"}
    assert "Train and score models" in done.stdout
    best = min(_cpu_seconds([sys.executable, "-m", "hdstbench", "--help"]) for _ in range(3))
    assert best < 0.3


def _cpu_seconds(words: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "run --help",
        "ls --help",
        "data --help",
        "data simulate --help",
        "leaderboard --help",
        "doctor --help",
    ],
)
def test_every_command_explains_itself(words: str, tmp_path: Path) -> None:
    done = type_command(*words.split(), cwd=tmp_path, cache=tmp_path)

    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")


def test_ls_and_doctor_tell_what_is_there(main_job: tuple[Path, Path, Path]) -> None:
    work, cache, data = main_job

    listed = type_command("ls", cwd=work, cache=cache, data=data).stdout
    card = type_command("ls", "dataset", "her2st", cwd=work, cache=cache, data=data).stdout
    model = type_command("ls", "model", "magnet", cwd=work, cache=cache, data=data).stdout
    health = type_command("doctor", cwd=work, cache=cache, data=data)

    assert f"(in {data / 'demo'})" in listed
    assert "C5       patient C" in card
    assert "arXiv:2502.21011" in model
    assert "quick:" in model
    assert health.returncode == 0
    assert "FAIL" not in health.stdout
    assert "efficientnet-lite0 sha256:57934424" in health.stdout


def test_a_cohort_is_simulated_once_for_the_same_options(tmp_path: Path) -> None:
    words = ["data", "simulate", "--slides", "1", "--size-mm", "0.3", "--seed", "5"]

    first = type_command(*words, cwd=tmp_path, cache=tmp_path / "cache")
    began = time.monotonic()
    second = type_command(*words, cwd=tmp_path, cache=tmp_path / "cache")

    assert first.returncode == second.returncode == 0, first.stderr
    card = Path(second.stdout.strip().removeprefix("dataset: "))
    assert card.is_file()
    assert first.stdout.endswith(second.stdout)
    assert "simulating" not in second.stdout
    assert time.monotonic() - began < 60


ERRORS: dict[str, tuple[str, str]] = {
    "dataset": ("run -m mean -d dema -r 16um", "no data set 'dema'; did you mean demo"),
    "card": ("run -m mean -d none.toml -r 16um", "none.toml is not there; wanted a dataset.toml"),
    "model": ("run -m maen -d demo -r 16um", "no model 'maen'; did you mean mean"),
    "resolution": ("run -m mean -d demo -r 17um", "no resolution '17um'; it has 2um, 8um, 16um, 55um"),
    "resolutions": ("run -m mean -d demo -r all,8um", "give all, or names"),
    "split": ("run -m mean -d demo -r 16um --split slide", "has no split 'slide'; it has patient"),
    "fold": ("run -m mean -d demo -r 16um --folds 3", "no fold 3 in split patient; it has 0 to 2"),
    "recipe": ("run -m mean -d demo -r 16um --recipe best", "model mean has no recipe 'best'"),
    "weights": ("run -m magnet -d demo -r 16um --recipe official", "weights of resnet50 are not there; put"),
    "device": ("run -m mean -d demo -r 16um --device cuda", "sees no GPU; use --device cpu"),
    "missing data": ("run -m mean -d her2st -r 100um", "the files of her2st are not in"),
    "sweep file": ("run -C none.toml", "none.toml: [Errno 2] No such file"),
    "leaderboard": ("leaderboard .", "no *.plan.json in ."),
    "cohort": ("data simulate --slides 0", "wanted at least one slide"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_wrong_request_is_one_clear_line(case: str, tmp_path: Path) -> None:
    words, message = ERRORS[case]

    done = type_command(*words.split(), cwd=tmp_path, cache=tmp_path / "cache")

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rum", "no command 'rum'; did you mean run"),
        ("run --seeds 1,x", "is no list of numbers such as 0,1,2"),
        ("run --models ridge,,mean", "has an empty part"),
        ("run --bins some", "'some' is not one of 'sample', 'all'"),
        ("leaderboard nowhere", "'nowhere' does not exist"),
    ],
)
def test_a_mistyped_command_is_explained(words: str, message: str, tmp_path: Path) -> None:
    done = type_command(*words.split(), cwd=tmp_path, cache=tmp_path)

    assert done.returncode == 2
    assert message in done.stderr


def _spoil_h5(root: Path) -> None:
    path = next(root.rglob("square_016um/filtered_feature_bc_matrix.h5"))
    path.write_bytes(path.read_bytes()[:20_000])


def _spoil_positions(root: Path) -> None:
    path = next(root.rglob("square_016um/spatial/tissue_positions.parquet"))
    pd.read_parquet(path).drop(columns="array_row").to_parquet(path)


def _spoil_image(root: Path) -> None:
    path = root / "SIM1" / "SIM1_tissue_image.tif"
    path.unlink()
    tifffile.imwrite(path, np.zeros((600, 700, 3), np.uint8), tile=(256, 256), photometric="rgb")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_spoil_h5, "is not a whole 10x feature-barcode matrix"),
        (_spoil_positions, "lacks the column array_row"),
        (_spoil_image, "is 700 x 600 px, the positions belong to one of"),
        (lambda r: shutil.rmtree(r / "SIM1"), "no square_016um below"),
    ],
)
def test_a_damaged_data_set_is_one_clear_line_and_leaves_no_half_made_cache(
    cohort_folder: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    root = tmp_path / "data" / "demo"
    shutil.copytree(cohort_folder, root, copy_function=shutil.copyfile)
    spoil(root)

    done = type_command(
        *["run", "-m", "mean", "-d", "demo", "-r", "16um"],
        cwd=tmp_path,
        cache=tmp_path / "cache",
        data=root.parent,
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    prepared = [p for p in (tmp_path / "cache").rglob("SIM*") if p.is_dir()]
    assert all((p / "manifest.json").is_file() for p in prepared)
    assert not (tmp_path / "runs").exists()


def test_v_shows_where_an_error_came_from(tmp_path: Path) -> None:
    done = type_command(
        *["run", "-v", "-m", "mean", "-d", "dema", "-r", "16um"], cwd=tmp_path, cache=tmp_path
    )

    assert "Traceback" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: no data set 'dema'")
