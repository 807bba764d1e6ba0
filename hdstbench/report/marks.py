"""The best value of each column bold, the second underlined: among models and variants, controls aside."""

from collections.abc import Callable, Mapping, Sequence

from hdstbench.report.board import RANKED, Row

ENOUGH = 3
"""Models that a column needs for a second best; for a best one fewer."""


def _more(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.scores.get(name)


UP: Mapping[str, Callable[[Row], float | None]] = {
    "pcc_gene ↑": _more("pcc_gene"),
    "hvg50 ↑": _more("pcc_gene_hvg50"),
    "skill ↑": _more("mse_skill"),
}
DOWN: Mapping[str, Callable[[Row], float | None]] = {"MSE ↓": _more("mse"), "MAE ↓": _more("mae")}


def with_marks(
    head: Sequence[str], rows: Sequence[Row], lines: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """Mark cells of a table whose lines are these rows; equal values are marked alike."""
    out = [list(line) for line in lines]
    ranked = [i for i, row in enumerate(rows) if row.kind in RANKED and row.pcc is not None]
    for column, name in enumerate(head):
        get, sign = (UP[name], -1.0) if name in UP else (DOWN.get(name), 1.0)
        if get is None or len(ranked) < ENOUGH - 1:
            continue
        values = {i: sign * value for i in ranked if (value := get(rows[i])) is not None}
        best, *others = sorted(set(values.values()))
        for i, value in values.items():
            if value == best:
                out[i][column] = f"**{out[i][column]}**"
            elif others and value == others[0] and len(ranked) >= ENOUGH:
                out[i][column] = f"<u>{out[i][column]}</u>"
    return [tuple(line) for line in out]
