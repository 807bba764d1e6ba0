"""Render tables anew; copy what they are made from, but never predictions."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hdstbench.errors import MissingError
from hdstbench.records import save_json
from hdstbench.report.board import load_board, load_plan
from hdstbench.report.markdown import write_board

KEPT = ("record.json", "scores.json", "per_gene.parquet", "moments.npz", "config.toml")
RECORDS = "records"


def execute(source: str, output: str | None) -> Iterator[Path]:
    """Write the tables of each plan in a folder.

    Yields:
        Each markdown table.
    """
    plans = sorted(Path(source).glob("*.plan.json")) + sorted(Path(source).glob(f"{RECORDS}/*.plan.json"))
    if not plans:
        msg = f"no *.plan.json in {source}; wanted the -o folder of a run, or leaderboards/"
        raise MissingError(msg)
    for plan in plans:
        path = _copy(plan, Path(output)) if output else plan
        home = path.parent.parent if path.parent.name == RECORDS else path.parent
        yield write_board(load_board(path), home)


def _copy(path: Path, output: Path) -> Path:
    """Copy a plan, its records and its picture below `output`."""
    plan, records = load_plan(path), output / RECORDS
    cells = []
    for name in plan.cells:
        place = records / plan.stem / Path(name).parent.name / Path(name).name
        place.mkdir(parents=True, exist_ok=True)
        for kept in KEPT:
            if (path.parent / name / kept).is_file():
                shutil.copyfile(path.parent / name / kept, place / kept)
        cells.append(str(place.relative_to(records)))
    if (path.parent / f"{plan.stem}.png").is_file():
        shutil.copyfile(path.parent / f"{plan.stem}.png", output / f"{plan.stem}.png")
    save_json(records / path.name, replace(plan, cells=tuple(cells)))
    return records / path.name
