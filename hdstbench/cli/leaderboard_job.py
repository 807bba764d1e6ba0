"""Render tables anew; copy what they are made from, but never predictions."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hdstbench.errors import MissingError
from hdstbench.records import save_json
from hdstbench.report.board import load_board, load_plan
from hdstbench.report.candidates_text import SUFFIX, load_listing
from hdstbench.report.candidates_text import render as render_listing
from hdstbench.report.markdown import write_board
from hdstbench.report.overview import render_overview, render_reported
from hdstbench.report.reproduction import render_page

KEPT = ("record.json", "scores.json", "per_gene.parquet", "moments.npz", "config.toml")
RECORDS = "records"


def execute(source: str, output: str | None) -> Iterator[Path]:
    """Write the tables of each plan in a folder.

    Yields:
        Each markdown table, and the page above those of committed records.
    """
    for plan in find_plans(source):
        path = _copy(plan, Path(output)) if output else plan
        home = path.parent.parent if path.parent.name == RECORDS else path.parent
        yield write_board(load_board(path), home)
    committed = Path(output or source)
    if (committed / RECORDS).is_dir():
        yield _write_overview(committed)


def _write_overview(folder: Path) -> Path:
    """Write the page above all tables of committed records, and the quoted ones beside it."""
    boards = [load_board(path) for path in sorted((folder / RECORDS).glob("*.plan.json"))]
    (folder / "reported").mkdir(exist_ok=True)
    (folder / "reported" / "README.md").write_text(render_reported(), encoding="utf-8")
    page = folder / "README.md"
    page.write_text(render_overview(boards), encoding="utf-8")
    return page


def write_reproduction(source: str, page: str) -> Path:
    """Write the page that holds the MagNet paper's numbers beside those of a folder's records.

    Returns:
        The page.
    """
    text = render_page(_stored(source, "*.plan.json"), _stored(source, f"*{SUFFIX}"))
    Path(page).parent.mkdir(parents=True, exist_ok=True)
    Path(page).write_text(text, encoding="utf-8")
    return Path(page)


def find_plans(source: str) -> list[Path]:
    """Plans of a run's folder, or of committed leaderboards.

    Raises:
        MissingError: If there is none.
    """
    plans = _stored(source, "*.plan.json")
    if not plans:
        msg = f"no *.plan.json in {source}; wanted the -o folder of a run, or leaderboards/"
        raise MissingError(msg)
    return plans


def _stored(source: str, pattern: str) -> list[Path]:
    """Files of a run's folder, or of committed leaderboards."""
    return sorted(Path(source).glob(pattern)) + sorted(Path(source).glob(f"{RECORDS}/{pattern}"))


def _copy(path: Path, output: Path) -> Path:
    """Copy a plan, its records and its picture below `output`."""
    plan, records = load_plan(path), output / RECORDS
    cells, stale = [], []
    for name in plan.cells:
        place = records / plan.stem / Path(name).parent.name / Path(name).name
        place.mkdir(parents=True, exist_ok=True)
        for kept in KEPT:
            if (path.parent / name / kept).is_file():
                shutil.copyfile(path.parent / name / kept, place / kept)
        cells.append(str(place.relative_to(records)))
        stale += cells[-1:] if name in plan.stale else []
    if (path.parent / f"{plan.stem}.png").is_file():
        shutil.copyfile(path.parent / f"{plan.stem}.png", output / f"{plan.stem}.png")
    if (path.parent / f"{plan.stem}{SUFFIX}").is_file():
        listing = load_listing(path.parent / f"{plan.stem}{SUFFIX}")
        save_json(records / f"{plan.stem}{SUFFIX}", listing)
        (output / f"{plan.stem}-targets.md").write_text(render_listing(listing), encoding="utf-8")
    save_json(records / path.name, replace(plan, cells=tuple(cells), stale=tuple(stale)))
    return records / path.name
