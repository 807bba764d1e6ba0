"""Parts of a table that say how sure it is: standing, patients, tissues, pairs."""

from itertools import pairwise

from hdstbench.report.board import Board, Row
from hdstbench.report.tables import limits, markdown_table, signed
from hdstbench.stats.compare import ALPHA, FEW_PATIENTS, Comparison


def standing_cells(row: Row) -> tuple[str, str]:
    """Rank interval and tie letters; dashes for what is not ranked."""
    if row.standing is None:
        return "–", "–"
    best, worst = row.standing.best, row.standing.worst
    return str(best) if best == worst else f"{best}–{worst}", row.standing.letters


def standing_columns(row: Row) -> dict[str, object]:
    """The same for a data frame."""
    found = row.standing
    if found is None:
        return {"rank_best": None, "rank_worst": None, "ties": None}
    return {"rank_best": found.best, "rank_worst": found.worst, "ties": found.letters}


def standing_note(board: Board) -> str:
    """What rank and ties mean here; empty without two ranked models."""
    if not board.comparisons:
        return ""
    patients = len(board.patients)
    few = f" and the sign agrees in each of the {patients} patients" if patients < FEW_PATIENTS else ""
    pairs = len(board.comparisons)
    return (
        "`ties`: two models share a letter unless they are shown to differ **on these patients**: the 95 % "
        f"interval of their paired difference excludes 0, its p after Holm over all {pairs} pairs is below "
        f"{ALPHA:g}{few}. `rank`: from 1 + the models shown to be above, to all less those shown to be "
        f"below. {sum(c.differ for c in board.comparisons)} of {pairs} pairs differ."
    )


def patients_section(board: Board) -> str:
    """Every patient's own value while there are few; of many the interval over new ones."""
    rows = [row for row in board.rows if row.pcc is not None]
    if len(board.patients) < FEW_PATIENTS:
        return _few(board, rows)
    lines = [(r.model, f"{r.new_patients.value:.3f}", limits(r.new_patients)) for r in rows if r.new_patients]
    known = f"as far as these {len(board.patients)} are a sample of them"
    title = f"`pcc_gene` over **new patients**, {known} (t interval):"
    return f"{title}\n\n" + markdown_table(("model", "mean", "95 %"), lines)


def _few(board: Board, rows: list[Row]) -> str:
    if len(board.patients) < 2 or not rows:  # noqa: PLR2004 - one patient is the table above
        return ""
    lines = [(row.model, *[f"{row.by_patient[p]:.3f}" for p in board.patients]) for row in rows]
    title = f"`pcc_gene` by patient (n = {len(board.patients)}; no claim about new patients):"
    return f"{title}\n\n" + markdown_table(("model", *board.patients), lines)


def tissues_section(board: Board) -> str:
    """Tissues apart, such as cancer and normal; empty where there is one."""
    rows = [row for row in board.rows if row.by_tissue]
    if not rows:
        return ""
    tissues = list(rows[0].by_tissue)
    lines = [(row.model, *[f"{row.by_tissue[t]:.3f}" for t in tissues]) for row in rows]
    return "`pcc_gene` by tissue:\n\n" + markdown_table(
        ("model", *[t or "not named" for t in tissues]), lines
    )


def pairs_section(board: Board) -> str:
    """Paired differences of neighbours in the table: what separates a model from the next one."""
    names = [row.model for row in board.rows if row.standing]
    known = {frozenset((c.first, c.second)): c for c in board.comparisons}
    lines = [_pair(known[frozenset(pair)]) for pair in pairwise(names)]
    if not lines:
        return ""
    head = ("pair", "difference", "95 %", "p (Holm)", "same sign in every patient", "differ")
    text = "Paired differences of `pcc_gene` between neighbours; every pair stands in the JSON file:\n\n"
    return text + markdown_table(head, lines)


def _pair(c: Comparison) -> tuple[str, ...]:
    p = "–" if c.holm != c.holm else "< 0.001" if c.holm < 0.001 else f"{c.holm:.3f}"  # noqa: PLR2004
    answers = ("yes" if value else "no" for value in (c.agrees, c.differ))
    d = c.difference
    return (f"{c.first} – {c.second}", signed(d.value), limits(d, sign=True), p, *answers)
