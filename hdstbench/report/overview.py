"""The page above all committed tables, and the tables of numbers that a paper reports."""

from collections.abc import Sequence, Sized
from itertools import groupby

from hdstbench.report.board import RANKED, Board, Row
from hdstbench.report.reported import METRICS, Reported, reported_rows
from hdstbench.report.spatial import ceiling_cell
from hdstbench.report.standing import standing_cells
from hdstbench.report.tables import limits, markdown_table

LEAKS = ("slide-leak", "patient-leak", "panel-sees-test", "duplicate-section")
READING = """\
How to read them: every table says its split, its recipe and the command that ran it. `pcc_gene` is the
headline: correlation over units, a gene at a time, meaned over genes, slides and patients. Look first at
`rank` and `ties`, not at the third decimal: models that share a letter are not shown to differ. Then at
the controls below the models: `ridge` is a line on frozen features, `shuffled-ridge` learns nothing,
`mean` sees no image. `of ceiling` says how much of what the counts' noise allows was reached. Bold is the
best value of a column, underlined the second; both are of models, not of controls, and say nothing about
chance. Formulas: [docs/metrics.md](../docs/metrics.md), [docs/statistics.md](../docs/statistics.md); what
models may see: [docs/protocol.md](../docs/protocol.md). Time, memory and dates stand in the `-cost.md`
beside each table."""
RULE = """\
**Order.** On each table that counts, a model's place is the middle of its rank interval over the number
of ranked models; the overview is sorted by the mean place over those tables. Tables of simulated data, of
splits that leak and of other targets are shown and do not count, and a model that is missing or failed on
a counting table stands after those that are whole. With intervals as wide as these, neighbours in this
order are mostly ties."""


def render_overview(boards: Sequence[Board]) -> str:
    """`README.md` of a folder of committed tables."""
    lines = [(_link(b), b.plan.title, b.plan.split_title, f"`{b.plan.recipe}`", _about(b)) for b in boards]
    head = ("table", "data", "split", "recipe", "what to know")
    parts = [
        "# Leaderboards",
        "Each table is made from the records under `records/`, and so is this page: `hdstbench leaderboard "
        "leaderboards` makes them all again, byte for byte.",
        markdown_table(head, lines),
        READING,
        "## Overview",
        _overview(boards),
        RULE,
        "Numbers that papers report stand in [tables of their own](reported/README.md) and in no table of "
        "measured ones; [beside each other](../docs/magnet-reproduction.md), never in one column, they stand "
        "where both are known.",
    ]
    return "\n\n".join(parts) + "\n"


def _link(board: Board) -> str:
    return f"[{board.plan.stem}]({board.plan.stem}.md)"


def counts(board: Board) -> bool:
    """Whether a table takes part in the order of the overview."""
    plan, flags = board.plan, {flag for row in board.rows for flag in row.flags}
    return not (plan.simulated or plan.target or flags & set(LEAKS))


def _about(board: Board) -> str:
    said = [f"{_many(board.slides, 'slide')} of {_many(board.patients, 'patient')}"]
    flags = sorted({flag for row in board.rows for flag in row.flags} & set(LEAKS))
    said += ["**simulated**"] * board.plan.simulated + [f"leaks by design (`{flag}`)" for flag in flags]
    said += [f"target `{board.plan.target}`"] * bool(board.plan.target)
    return "; ".join(said + ["does not count below"] * (not counts(board)))


def _many(things: Sized, word: str) -> str:
    return f"{len(things)} {word}{'s' * (len(things) != 1)}"


def _overview(boards: Sequence[Board]) -> str:
    """A row a model, a column a table: pcc_gene, its rank interval and share of the ceiling."""
    names = list(dict.fromkeys(row.model for b in boards for row in b.rows if row.kind != "oracle"))
    kinds = {row.model: row.kind for b in boards for row in b.rows}
    order = sorted(names, key=lambda name: (kinds[name] not in RANKED, *_place(name, boards), name))
    lines = []
    for name in order:
        shown = f"*{name}* (control)" if kinds[name] == "control" else name
        place = _place(name, boards)[1] if kinds[name] in RANKED else None
        lines.append((shown, f"{place:.2f}" if place is not None else "–", *(_cell(name, b) for b in boards)))
    return markdown_table(("model", "mean place", *(_link(b) for b in boards)), lines)


def _place(name: str, boards: Sequence[Board]) -> tuple[int, float]:
    """Counting tables that lack the model, and its mean place on the others."""
    counting = [board for board in boards if counts(board)]
    places = [_of_board(name, board) for board in counting]
    there = [place for place in places if place is not None]
    return len(places) - len(there), sum(there) / len(there) if there else 0.0


def _of_board(name: str, board: Board) -> float | None:
    row = _row(name, board)
    ranked = sum(r.standing is not None for r in board.rows)
    if row is None or row.pcc is None:
        return None
    if row.standing is None:  # a control: by its value, as it is in no rank
        return -row.pcc.value
    return (row.standing.best + row.standing.worst) / 2 / ranked


def _row(name: str, board: Board) -> Row | None:
    return next((row for row in board.rows if row.model == name), None)


def _cell(name: str, board: Board) -> str:
    row = _row(name, board)
    if row is None:
        return ""
    if row.pcc is None:
        return "failed"
    rank, _ = standing_cells(row)
    ranked = f", rank {rank}" if rank != "–" else ""
    return f"{row.pcc.value:.3f} ({limits(row.pcc)}){ranked}, {ceiling_cell(row)} of ceiling"


def render_reported() -> str:
    """`reported/README.md`: Tables 1 to 4 of the MagNet paper as printed."""
    parts = [
        "# Numbers quoted from papers",
        "What a paper reports stands in tables of its own and is never put into one column with what was "
        "measured here; [this page](../../docs/magnet-reproduction.md) has both, apart.",
        'Zhu et al., "MagNet: Multi-Level Attention Graph Network for Predicting High-Resolution Spatial '
        'Transcriptomics", MIDL 2025, arXiv 2502.21011: mean ± standard deviation over four slide-level '
        "folds, with the digits that are printed. PCC is taken across genes within a bin (`pcc_bin` here). "
        "`vumc`: private kidney slides; `crc`: the four public colorectal slides. Nobody here measured any "
        "of it.",
    ]
    for number, rows in groupby(reported_rows(), key=lambda row: row.table):
        parts += [f"## Table {number}", _table(list(rows))]
    parts.append(
        "The same numbers as CSV: [magnet_paper.csv](../../hdstbench/report/magnet_paper.csv), in the "
        "package since commands read it. This page is made by `hdstbench leaderboard leaderboards`."
    )
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Reported]) -> str:
    lines = [
        (
            row.model,
            row.variant or "full",
            row.dataset,
            f"{row.resolution}, {row.patch_px} px",
            *(row.printed[metric] for metric in METRICS),
        )
        for row in rows
    ]
    return markdown_table(("model", "variant", "data", "size", "MSE", "MAE", "PCC"), lines)
