"""Parts of a table about what was attainable, and how maps look."""

from hdstbench.report.board import Board, Row
from hdstbench.report.tables import markdown_table, signed

MAPS = """\
Maps, on dense windows of the test slides ({windows}): `Moran's I` of the prediction less that of the
measurement ({moran:.3f}), above 0 where the map is smoother than what was measured; `variance` of the
prediction over that of the measurement, which holds counting noise, so that even a perfect map stays
below 1; `SSIM` over windows of 7 x 7 units. Over all scored units: `beyond depth`, `pcc_gene` after a line
in log library size is taken out; `pooled`, the correlation over all tested slides together, which rewards
knowing each slide's mean.{spots}"""
SPOTS = """ `at 56 um`: the units' predictions in the windows as rates, averaged within spots
and logged again, against what was measured there; in brackets weighted by true library sizes, which no
model knows."""


def ceiling_cell(row: Row) -> str:
    """Share of what was attainable; a dash where nothing was."""
    share = row.more.get("share_of_ceiling")
    return "–" if share is None else f"{share:.0%}"


def ceiling_note(board: Board) -> str:
    """What was attainable; empty where no gene had a measurable signal."""
    row = next((row for row in board.rows if "ceiling_value" in row.more), None)
    if row is None:
        return ""
    m, (genes, rest) = row.more, board.ceiling_genes
    text = (
        "`of ceiling`: mean `pcc_gene` over the mean correlation that a perfect model would reach, as the "
        f"counts' noise allows: {m['ceiling_value']:.3f} (standard error {m['ceiling_sd']:.3f} a slide; "
        f"bracket {m['ceiling_low']:.3f} to {m['ceiling_high']:.3f}), over the {genes} pairs of gene and "
        "slide with a measurable signal. It is an upper bound: what neighbouring units share by bleeding, "
        "and what a gene varies beyond its rate, count as signal."
    )
    return text + (f" {rest} pairs have no measurable signal." if rest else "")


def maps_section(board: Board) -> str:
    """How maps look, a row a model; empty without scores of them."""
    rows = [row for row in board.rows if "moran" in row.more or "variance_ratio" in row.more]
    if not rows:
        return ""
    spots = any("pcc_spot" in row.more for row in rows)
    head = ("model", "Moran's I", "variance", "SSIM", "beyond depth", "pooled", *["at 56 um"][: int(spots)])
    lines = [(row.model, *_cells(row, spots=spots)) for row in rows]
    moran = next((row.more["moran"] for row in rows if "moran" in row.more), float("nan"))
    windows = f"{board.windows} in all" if board.windows else "none here: all scored units of a slide"
    text = MAPS.format(windows=windows, moran=moran, spots=SPOTS if spots else "")
    return f"{text}\n\n{markdown_table(head, lines)}"


def _cells(row: Row, *, spots: bool) -> list[str]:
    m = row.more
    cells = [
        signed(m["moran_gap"]) if "moran_gap" in m else "–",
        *(_number(m.get(name)) for name in ("variance_ratio", "ssim", "pcc_gene_depth", "pcc_gene_pooled")),
    ]
    if spots:
        weighted = f" ({_number(m.get('pcc_spot_library'))})" if "pcc_spot_library" in m else ""
        cells.append(_number(m.get("pcc_spot")) + weighted)
    return cells


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def parts_section(board: Board) -> str:
    """pcc_gene of classes of genes, and within strata where a card names them."""
    rows = [row for row in board.rows if any(name.startswith("class ") for name in row.more)]
    if not rows:
        return ""
    classes = [f"class {name}" for name in ("high", "middle", "low")]
    strata = sorted({name for row in rows for name in row.more if name.startswith("stratum ")})
    head = ("model", *(name.split(" ", 1)[1] for name in (*classes, *strata)))
    lines = [(row.model, *(_number(row.more.get(name)) for name in (*classes, *strata))) for row in rows]
    text = "`pcc_gene` over the thirds of the panel by training mean"
    text += ", and within strata of the tissue:" if strata else ":"
    return f"{text}\n\n{markdown_table(head, lines)}"
