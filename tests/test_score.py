"""Predictions that were made elsewhere: the same numbers as a sweep's, and what is refused."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import type_command

from hdstbench.records import load_record
from hdstbench.sweep.cell import PREDICTIONS
from hdstbench.sweep.submitted import read_submitted

WORDS = ("-r", "16um", "--folds", "0")


@pytest.fixture(scope="module")
def swept(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A sweep of one fold."""
    folder = tmp_path_factory.mktemp("swept")
    card = str(cohort_folder / "dataset.toml")
    words = ("run", "-m", "mean,stain", "-d", card, *WORDS, "--recipe", "tiny", "-o", "out")
    done = type_command(*words, cwd=folder, cache=own_cache)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def cell(swept: Path) -> Path:
    return next((swept / "out").glob("*/16um/stain/fold0-*"))


@pytest.fixture(scope="module")
def files(cell: Path, swept: Path, own_cache: Path) -> dict[str, Path]:
    """The same predictions in each format, units and genes shuffled where places are given."""
    from anndata import read_h5ad  # noqa: PLC0415

    done = type_command("data", "export", str(cell), "-o", "cell.h5ad", cwd=swept, cache=own_cache)
    assert done.returncode == 0, done.stderr
    found = read_h5ad(swept / "cell.h5ad")
    rng = np.random.default_rng(0)
    mixed = found[rng.permutation(len(found)), rng.permutation(found.n_vars)].copy()
    mixed.write_h5ad(swept / "mixed.h5ad")
    table = pd.DataFrame(mixed.X, columns=mixed.var_names)
    for name in ("slide", "array_row", "array_col"):
        table[name] = mixed.obs[name].astype(str if name == "slide" else int).to_numpy()
    table.to_parquet(swept / "cell.parquet")
    return {
        "folder": cell,
        "npz": cell / PREDICTIONS,
        "h5ad": swept / "mixed.h5ad",
        "parquet": swept / "cell.parquet",
    }


@pytest.fixture(scope="module")
def score(cohort_folder: Path, swept: Path, own_cache: Path) -> Callable[..., "object"]:
    def type_it(*words: str, cwd: Path = swept) -> object:
        card = str(cohort_folder / "dataset.toml")
        return type_command("score", *words, "-d", card, "-r", "16um", cwd=cwd, cache=own_cache)

    return type_it


@pytest.mark.parametrize("kind", ["folder", "npz", "h5ad", "parquet"])
def test_every_format_gives_the_numbers_of_the_sweep(
    kind: str, files: dict[str, Path], cell: Path, score: Callable[..., object]
) -> None:
    done = score(str(files[kind]), "--json")

    stored = json.loads((cell / "scores.json").read_text())["slides"]
    assert json.loads(done.stdout.splitlines()[-1])["folds"] == [{"fold": 0, "slides": stored}]


def test_a_record_names_the_task(files: dict[str, Path], cell: Path, score: Callable[..., object]) -> None:
    done = score(str(files["npz"]), "--task", str(cell / "record.json"))

    assert done.returncode == 0, done.stderr
    assert "| fold | slide |" in done.stdout


def test_an_entry_stands_in_the_table_with_its_origin(
    swept: Path,
    files: dict[str, Path],
    score: Callable[..., object],
    cohort_folder: Path,
    own_cache: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(swept / "out", tmp_path / "out")
    entry = (
        "--as",
        "their-model",
        "--by",
        "A. Person",
        "--code",
        "example.org/v1",
        "-o",
        "out",
        "--folds",
        "0",
    )
    done = score(str(files["parquet"]), *entry, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out" / "simulated-16um.md").read_text()
    record = load_record(next((tmp_path / "out").glob("*/16um/their-model/fold0-*")))

    assert "| their-model" in table
    assert "predictions that were made elsewhere" in table
    assert "by A. Person; code example.org/v1" in table
    assert "| *stain*" in table
    assert record.plugin == f"predictions sha256:{_sha(files['parquet'])}"
    card = str(cohort_folder / "dataset.toml")
    again = type_command(
        "run",
        "-m",
        "mean",
        "-d",
        card,
        *WORDS,
        "--recipe",
        "tiny",
        "-o",
        "out",
        cwd=tmp_path,
        cache=own_cache,
    )
    assert again.returncode == 0, again.stderr
    assert "| their-model" in (tmp_path / "out" / "simulated-16um.md").read_text()


def _sha(path: Path) -> str:
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(read_submitted(path).sha256.encode()).hexdigest()[:16]


@pytest.mark.parametrize("like", ["hest", "triplex", "magnet", "hetosge"])
def test_other_conventions_are_printed_with_a_word(
    like: str, files: dict[str, Path], score: Callable[..., object]
) -> None:
    done = score(str(files["npz"]), "--like", like)

    assert done.returncode == 0, done.stderr
    assert "Not comparable with this suite's scores." in done.stdout
    assert ": 0." in done.stdout or ": -0." in done.stdout


def test_magnets_convention_is_the_suites_pcc_bin(
    files: dict[str, Path], cell: Path, score: Callable[..., object]
) -> None:
    done = score(str(files["npz"]), "--like", "magnet", "--json")
    (slide,) = json.loads((cell / "scores.json").read_text())["slides"]

    assert json.loads(done.stdout)["MSE"] == pytest.approx(
        slide["mse"], rel=0.05
    )  # it keeps genes that we leave out


def _spoil(kind: str, table: pd.DataFrame) -> pd.DataFrame:
    if kind == "missing units":
        return table.iloc[5:]
    if kind == "units twice":
        return pd.concat([table, table.iloc[:1]])
    if kind == "missing genes":
        return table.drop(columns=table.columns[3])
    if kind == "not finite":
        return table.assign(**{str(table.columns[3]): np.nan})
    if kind == "no places":
        return table.drop(columns="array_row")
    return table.assign(slide="another")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing units", "lacks 5 of the"),
        ("units twice", "1 units of"),
        ("missing genes", "lacks 1 of the"),
        ("not finite", "not finite"),
        ("no places", "lacks array_row"),
        ("other slides", "the files predict another"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    kind: str, said: str, files: dict[str, Path], score: Callable[..., object], tmp_path: Path
) -> None:
    _spoil(kind, pd.read_parquet(files["parquet"])).to_parquet(tmp_path / "bad.parquet")
    done = score("bad.parquet", "--as", "theirs", "-o", "out", cwd=tmp_path)

    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_predictions_are_refused(score: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "a.csv").write_text("1,2")
    np.savez(tmp_path / "code.npz", genes=np.array([Path("x")], object), allow_pickle=True)
    (tmp_path / "a.parquet").write_bytes(pickle.dumps({"a": 1}))
    for name in ("a.npz", "a.csv", "code.npz", "a.parquet", "nowhere.h5ad"):
        done = score(name, cwd=tmp_path)
        assert done.returncode == 2, (name, done.stdout)
        assert done.stderr.startswith("error: "), name
        assert len(done.stderr.splitlines()) == 1, name


def test_a_name_that_leads_elsewhere_is_refused(files: dict[str, Path], score: Callable[..., object]) -> None:
    done = score(str(files["npz"]), "--as", "../../up")

    assert done.returncode == 2
    assert "wanted a name of lower-case letters" in done.stderr
