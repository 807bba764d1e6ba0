"""Compare two sets of tables and say what changed."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hdstbench.errors import MissingError
from hdstbench.report.gate import compare, read_tolerances
from hdstbench.report.gate_side import read_sides
from hdstbench.report.gate_text import render_gate


def execute(
    current: Path, baseline: Path, tolerances: Path | None, models: Sequence[str], *, as_json: bool
) -> tuple[int, str]:
    """Compare.

    Returns:
        The exit code, and what to print.

    Raises:
        HdstError: If a table, the tolerances or a model's name is not what it has to be.
    """
    rules = read_tolerances(tolerances)
    new, old = read_sides(current), read_sides(baseline)
    known = {name for side in (*new, *old) for name in side.rows}
    missing = [name for name in models if name not in known]
    if missing:
        msg = f"no row {missing[0]!r} in either; there are {', '.join(sorted(known))}"
        raise MissingError(msg)
    found = compare(new, old, rules, models)
    if as_json:
        content = {"code": found.code, **asdict(found)}
        return found.code, json.dumps(content, indent=1, sort_keys=True) + "\n"
    return found.code, render_gate(found, str(current), str(baseline))
