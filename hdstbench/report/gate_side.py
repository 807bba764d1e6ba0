"""What a gate compares: tables, read from their JSON files or made from records."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hdstbench.errors import DataError, MissingError
from hdstbench.report.board import load_board
from hdstbench.report.markdown import content_of

UP = ("pcc_gene", "pcc_gene_hvg50", "pcc_bin", "mse_skill")
DOWN = ("mse", "mae")
METRICS = (*UP, *DOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One model of a table.

    Attributes:
        kind: model, variant or control.
        values: Each metric; empty if the row is not whole.
        half: Half the width of the interval of pcc_gene; 0 without one.
        seed_sd: Its standard deviation over seeds; 0 with one seed.
        failed: Why it is not whole.
    """

    kind: str
    values: Mapping[str, float] = field(default_factory=dict)
    half: float = 0.0
    seed_sd: float = 0.0
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One table; `task` is the hash of what makes scores comparable, with the recipe."""

    stem: str
    task: str
    recipe: str
    rows: Mapping[str, GateRow]


def read_sides(path: Path) -> list[Side]:
    """Read a table's JSON file, a folder of such files, or the folder of a run or of committed records.

    Raises:
        MissingError: If nothing of the kind is there.
        DataError: If a file is damaged.
    """
    if path.is_file():
        return [_from_json(path)]
    plans = sorted(path.glob("*.plan.json")) or sorted(path.glob("records/*.plan.json"))
    if plans:
        return [_side(json.loads(json.dumps(content_of(load_board(p)))), str(p)) for p in plans]
    files = sorted(path.glob("*.json"))
    if not files:
        msg = f"{path}: wanted a leaderboard's .json, a folder of them, or the -o folder of a run"
        raise MissingError(msg)
    return [_from_json(file) for file in files]


def _from_json(path: Path) -> Side:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} is no table in JSON ({error}); hdstbench leaderboard writes one"
        raise DataError(msg) from error
    return _side(content, str(path))


def _side(content: Any, where: str) -> Side:  # noqa: ANN401 - any JSON
    try:
        rows = {row["model"]: _row(row) for row in content["rows"] if row["kind"] != "oracle"}
        return Side(stem=content["plan"], task=content["task"]["hash"], recipe=content["recipe"], rows=rows)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{where} is no table of this version ({error!r}); write it again with hdstbench leaderboard"
        raise DataError(msg) from error


def _row(row: Mapping[str, Any]) -> GateRow:
    if row["pcc"] is None:
        return GateRow(kind=row["kind"], failed="; ".join(row["failed"]) or "not whole")
    pcc = row["pcc"]
    ends = (pcc["low"], pcc["high"])
    return GateRow(
        kind=row["kind"],
        values={name: float(row["scores"][name]) for name in METRICS},
        half=0.0 if None in ends else (float(ends[1]) - float(ends[0])) / 2,
        seed_sd=float(row["seed_sd"] or 0.0),
    )
