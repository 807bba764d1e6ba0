"""Every command in README and docs is run; the tables shown are the committed ones; links lead somewhere."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from helpers import type_command
from scipy import sparse
from test_cli import MAIN, MODELS

from hdstbench.data.image import open_image

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("leaderboards/*.md")])
REPORTED = ROOT / "leaderboards" / "reported" / "README.md"
ELSEWHERE = {f"hdstbench {MAIN}"}
"""Run by test_cli, word for word."""
MAKE = {"make demo", "make docs", "make test"}
"""Run by .ci/run, which runs these tests."""


def commands() -> list[str]:
    """Lines that a reader is told to type."""
    blocks = [b for page in PAGES for b in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)]
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_make_targets_are_run_by_ci() -> None:
    script = (ROOT / ".ci" / "run").read_text()

    asked = {c for c in commands() if c.startswith("make ")}
    assert asked == MAKE
    assert all(f"\n{target}\n" in script for target in MAKE)


def test_every_command_is_one_of_hdstbench_or_make() -> None:
    assert len(commands()) > 8
    assert all(c.startswith("hdstbench ") or c in MAKE for c in commands())


def test_the_pages_commands_work_in_their_order(cohort_folder: Path, tmp_path: Path, own_cache: Path) -> None:
    """In one folder, with the demo's files and a reader's own card in place."""
    shutil.copytree(ROOT / "leaderboards", tmp_path / "leaderboards")
    _own_card(tmp_path, cohort_folder)
    _own_spots(tmp_path / "slide.h5ad", tmp_path / "K1" / "he.tif")
    for command in dict.fromkeys(c for c in commands() if c.startswith("hdstbench ") and c not in ELSEWHERE):
        words = [name for word in shlex.split(command)[1:] for name in _expanded(word, tmp_path)]
        done = type_command(*words, cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def _expanded(word: str, folder: Path) -> list[str]:
    """What a shell makes of a word with a star."""
    return [str(p.relative_to(folder)) for p in sorted(folder.glob(word))] if "*" in word else [word]


def _own_card(folder: Path, cohort: Path) -> None:
    """Write the card and split of docs/data.md, and put slides where they say."""
    card, split = card_and_split("data.md")
    (folder / "dataset.toml").write_text(card)
    (folder / "patient.toml").write_text(split)
    for name, sample in (("K1", "SIM1"), ("K2", "SIM2")):
        (folder / name).mkdir()
        (folder / name / "outs").symlink_to(cohort / sample / "outs")
        (folder / name / "he.tif").symlink_to(cohort / sample / f"{sample}_tissue_image.tif")


def card_and_split(page: str) -> list[str]:
    """The two files that a page of docs/ tells to write."""
    return re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def test_both_pages_about_own_slides_show_the_same_files() -> None:
    assert card_and_split("own-slides.md") == card_and_split("data.md")


def _own_spots(path: Path, image: Path) -> None:
    """Write spots of 55 um, 100 um apart, in the middle of an image, as an .h5ad of some other tool."""
    step = 100 / 0.2738
    middle = np.array(open_image(image).size) / 2
    xy = middle + (np.argwhere(np.ones((3, 3), bool)) - 1) * step
    counts = sparse.csr_matrix(np.arange(90).reshape(9, 10) + 30)
    AnnData(counts, obsm={"spatial": xy}).write_h5ad(path)


def test_the_example_model_runs_as_an_installed_package(
    cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    text = (ROOT / "docs" / "models.md").read_text()
    (tmp_path / "my_package.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hdstbench.models]\nmy-model = my_package:PLUGIN\n")

    words = f"run -m my-model -d {cohort_folder / 'dataset.toml'} -r 16um --folds 0".split()
    done = type_command(*words, cwd=tmp_path, cache=own_cache, env={"PYTHONPATH": str(tmp_path)})

    assert done.returncode == 0, done.stdout + done.stderr
    assert "my-model" in (tmp_path / "runs/default/simulated-16um.md").read_text()


def test_committed_tables_are_made_from_the_committed_records(tmp_path: Path, own_cache: Path) -> None:
    shutil.copytree(ROOT / "leaderboards", tmp_path / "boards")
    tables = [p for p in (tmp_path / "boards").glob("*.*") if p.suffix in (".md", ".csv", ".json")]
    kept = {p.name: p.read_bytes() for p in tables} | {"reported/README.md": REPORTED.read_bytes()}
    for name in kept:
        (tmp_path / "boards" / name).unlink()

    done = type_command("leaderboard", "boards", cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "boards" / name).read_bytes() for name in kept} == kept
    assert len(kept) == 10


def test_committed_records_are_whole_and_small() -> None:
    records = ROOT / "leaderboards" / "records"

    assert not list(records.rglob("predictions.npz"))
    for model in (p for p in records.glob("*/*") if p.is_dir()):
        assert sum(p.stat().st_size for p in model.rglob("*") if p.is_file()) < 1_000_000


@pytest.mark.parametrize(
    ("page", "models"),
    [("README.md", len(MODELS)), ("docs/index.md", len(MODELS)), ("docs/reading.md", 7)],
)
def test_a_table_shown_on_a_page_is_the_committed_one(page: str, models: int) -> None:
    shown = re.search(r"<!-- table: (\S+) -->\n(.*?)<!-- /table -->", (ROOT / page).read_text(), re.DOTALL)
    assert shown is not None
    text = (ROOT / "leaderboards" / f"{shown[1]}.md").read_text().split("`pcc_gene` by patient")[0]
    head, _, *rows = _cells(text)
    board = {row[0]: dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)}

    names, _, *lines = _cells(shown[2])
    assert len(lines) == models
    for name, *cells in lines:
        assert dict(zip(names[1:], cells, strict=True)).items() <= board[name].items()


def _cells(text: str) -> list[list[str]]:
    """Cells of all rows of tables."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_nothing_names_a_place_of_the_machine_it_was_made_on() -> None:
    assert sys.version_info >= (3, 11)
    for path in (
        p for p in ROOT.rglob("*") if p.suffix in (".py", ".md", ".toml", ".json") and ".venv" not in p.parts
    ):
        if "runs" not in path.parts and path != Path(__file__):
            assert not re.search(r"/(work|root|home)/\w", path.read_text(encoding="utf-8")), path
