"""Write a board as markdown, CSV and JSON; the score table holds nothing that depends on time."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from hdstbench.protocol.target import find_target
from hdstbench.report.board import METRICS, REFERENCE, Board, Plan, Row
from hdstbench.report.markers import markers_section
from hdstbench.report.marks import with_marks
from hdstbench.report.spatial import ceiling_cell, ceiling_note, maps_section, parts_section
from hdstbench.report.standing import (
    pairs_section,
    patients_section,
    standing_cells,
    standing_columns,
    standing_note,
    tissues_section,
)
from hdstbench.report.tables import limits, markdown_table, signed
from hdstbench.stats.bootstrap import Interval

BLIND = "mean"
"""The control that sees no image; its pcc_bin stands beside every other."""
MARK = "‡"
"""Stands after the name of a model that is not above the better ridge."""
FLAGS = {
    "slide-leak": "parts of one slide are in training and in test",
    "patient-leak": "slides of one patient are in training and in test",
    "panel-sees-test": "the genes were chosen by all slides, the tested ones too, as the paper does",
    "random-weights": "the image encoder started from random weights",
    "named-weights": "it starts from a file that was named (`--weights`) and may have seen the test data",
    "batch-mates": "a prediction depends on the other units of its batch, which are drawn at random",
    "other-options": "options of the model's recipe were changed; which, stands below",
    "stale-result": "made by other code, of other data or with other options (`--overwrite never`)",
    "duplicate-section": "a section in training looks like one in test, said to be of another patient",
    "related-sections": "sections of patients that are said to differ look like serial ones",
    "validation-overlaps-training": "validation units share pixels with training units",
    "encoder-saw-data": "the image encoder was trained on a collection that the data are part of",
    "elsewhere": "predictions that were made elsewhere and only scored here; nobody saw the training",
    "other-encoder": "the model's own image encoder was replaced (`--encoder`)",
}
MEANING = """\
`pcc_gene`: correlation over units, for each gene of a slide, then the mean over genes, slides of a
patient, and patients. In brackets: 95 % block bootstrap over **these patients** with the trained
models as they are; it says nothing about new patients. `over shuffled`: paired difference to
`shuffled-ridge`, which is fitted to shuffled labels, on the same resamples. `hvg50`: `pcc_gene` over the
50 most variable genes of the training slides. `skill`: 1 - squared error / that of the training mean.
`pcc_bin`: correlation over genes within a unit, the MagNet paper's PCC, beside what `mean`, which sees
no image, gets on it. `constant`: pairs of gene and slide without any variation in the prediction, which
count as 0."""
PAPER_NOTE = """\
Protocol: **magnet-paper**, the MagNet paper's data preparation as far as it is known. Headline:
**`pcc_bin`**, the paper's PCC, by which rows are sorted. Intervals, ‡ and `over shuffled` exist for
`pcc_gene` alone, so no difference in `pcc_bin` here is shown to be more than chance; hold each row against
`mean`, which sees no image. Units lie alone here: a model that looks at its sampling block sees itself.
No part of the training slides validates: networks keep their last epoch."""
NARROW = (
    "Fewer than 25 blocks, or narrower than twice the range of some model's residuals or the "
    "largest patch: the interval is likely too narrow. There is none where a slide is one block."
)
KNOWS = {
    "attainable": "each unit's true expected counts, as far as the image can show them, and its depth",
    "slide-mean": "the mean of each gene over the units that are tested on the slide",
    "depth": "each unit's library size, and the line in its logarithm that fits the tested units, a gene",
}
"""What each oracle knows."""


def write_board(board: Board, folder: Path) -> Path:
    """Write all files of a board into a folder.

    Returns:
        The markdown table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = board.plan.stem
    table = folder / f"{stem}.md"
    table.write_text(render(board), encoding="utf-8")
    (folder / f"{stem}-cost.md").write_text(render_cost(board), encoding="utf-8")
    frame(board).to_csv(folder / f"{stem}.csv", index=False, float_format="%.6f", lineterminator="\n")
    text = json.dumps(content_of(board), indent=1, sort_keys=True, allow_nan=False)
    (folder / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
    return table


def content_of(board: Board) -> dict[str, object]:
    """Everything of a table as JSON, with six digits behind the point."""
    content: dict[str, object] = {
        "plan": board.plan.stem,
        "task": board.task,
        "recipe": board.plan.recipe,
        "better_ridge": board.ridge.name or None,
        "rows": [_plain(row) for row in board.rows],
        "pairs": [_rounded({**asdict(c), "differ": c.differ}) for c in board.comparisons],
    }
    if board.markers:
        content["markers"] = [_rounded(asdict(marker)) for marker in board.markers]
    return content


def _plain(row: Row) -> dict[str, object]:
    values = asdict(row)
    del values["cost"], values["ran"]
    return _rounded(values)  # type: ignore[return-value]


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def render(board: Board) -> str:
    """The score table as markdown."""
    plan = board.plan
    parts = [f"# {plan.stem}: {plan.title}{by_headline(plan)}", _what(plan)]
    if len(plan.folds) < plan.all_folds:
        folds = ", ".join(map(str, plan.folds))
        parts.append(f"**Part of the split only: fold {folds} of {plan.all_folds} folds (counted from 0).**")
    if plan.simulated:
        parts.append("**Simulated data.** No conclusion about which model is better is drawn from it.")
    parts += [_score_table(board), _oracle_table(board), _failures(board), pairs_section(board)]
    parts += [
        patients_section(board),
        tissues_section(board),
        maps_section(board),
        parts_section(board),
        _counts(board),
        MEANING,
        flag_notes(board),
        changes_note(board),
        plan.notes,
    ]
    parts += [f"```\n{plan.command}\n```", markers_section(board.markers, board.rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def by_headline(plan: Plan) -> str:
    """What a title says of the order of rows and of smoothed labels, where they are not the usual ones."""
    order = "" if plan.headline == "pcc_gene" else f", by {plan.headline}"
    return order + ", smoothed labels" * bool(plan.target and find_target(plan.target).smooths)


def _what(plan: Plan) -> str:
    genes = f" Genes: the list `{plan.panel}`, as far as the slides have them." if plan.panel else ""
    text = f"Split: **{plan.split_title}**. Recipe: `{plan.recipe}`.{genes}"
    if plan.target:
        text += f" Target: **`{plan.target}`**, {find_target(plan.target).words}; scores are in its space."
    return text if plan.protocol == "hd" else f"{text}\n\n{PAPER_NOTE}"


def _score_table(board: Board) -> str:
    head = (
        "model",
        "pcc_gene ↑",
        "95 %",
        "rank",
        "ties",
        "of ceiling",
        "over shuffled",
        "hvg50 ↑",
        "MSE ↓",
        "MAE ↓",
        "skill ↑",
        "pcc_bin",
        "constant",
        "encoder",
        "flags",
    )
    rows = [row for row in board.rows if row.kind != "oracle"]
    blind = next((row.scores["pcc_bin"] for row in rows if row.model == BLIND and row.pcc), None)
    lines = []
    for row in rows:
        name = f"*{row.model}* (control)" if row.kind == "control" else row.model
        name += f" {MARK}" if board.marked(row) else ""
        value, between, *others = _score_cells(row)
        others[-2] = _beside_blind(row, others[-2], blind)
        setup = (row.encoder or "–", ", ".join(row.flags) or "–")
        lines.append((name, value, between, *standing_cells(row), ceiling_cell(row), *others, *setup))
    notes = [note for note in (standing_note(board), ridge_note(board), ceiling_note(board)) if note]
    lines = with_marks(head, rows, lines)
    return "\n\n".join([markdown_table(*headline_first(board.plan, head, lines)), *notes])


def _beside_blind(row: Row, cell: str, blind: float | None) -> str:
    """A pcc_bin beside that of the mean, which sees no image."""
    return cell if blind is None or row.pcc is None or row.model == BLIND else f"{cell} ({BLIND} {blind:.3f})"


def headline_first(
    plan: Plan, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Put the column of the headline behind the names, if it is not there already."""
    if plan.headline not in head[2:]:
        return head, rows
    at = list(head).index(plan.headline)
    order = [0, at, *(i for i in range(1, len(head)) if i != at)]
    return [f"{head[i]} ↑" if i == at else head[i] for i in order], [[row[i] for i in order] for row in rows]


def ridge_note(board: Board) -> str:
    """Which ridge models are held against, and what the mark means; empty without ridge or models."""
    models = [row for row in board.rows if row.pcc is not None and row.kind in ("model", "variant")]
    if not (board.ridge.name and models):
        return ""
    choice = " (of two, by squared error on inner validation)" if board.ridge.chosen else ""
    return (
        f"{MARK} Not shown to be above the better ridge, which is `{board.ridge.name}`{choice}: the 95 % "
        "interval of their paired difference on common resamples does not lie above 0. Marked: "
        f"{sum(map(board.marked, models))} of {len(models)} models."
    )


def _score_cells(row: Row) -> tuple[str, ...]:
    if row.pcc is None:
        return ("failed", *["–"] * 8)
    s = row.scores
    spread = f" (seed sd {row.seed_sd:.3f})" if row.seed_sd == row.seed_sd else ""
    return (
        f"{row.pcc.value:.3f}{spread}",
        limits(row.pcc),
        _difference(row.over_shuffled),
        f"{s['pcc_gene_hvg50']:.3f}",
        f"{s['mse']:.3f}",
        f"{s['mae']:.3f}",
        signed(s["mse_skill"]),
        f"{s['pcc_bin']:.3f}",
        str(row.constant),
    )


def _difference(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    if interval.low is None or interval.high is None:
        return signed(interval.value)
    return f"{signed(interval.value)} ({signed(interval.low)} to {signed(interval.high)})"


def _oracle_table(board: Board) -> str:
    found = [row for row in board.rows if row.kind == "oracle" and row.pcc is not None]
    if not found:
        return ""
    head = ("oracle", "pcc_gene", "95 %", "hvg50", "MSE", "MAE", "skill", "pcc_bin", "what it knows")
    lines = []
    for row in found:
        value, between, _, hvg, mse, mae, skill, unit, _ = _score_cells(row)
        lines.append((row.model, value, between, hvg, mse, mae, skill, unit, KNOWS.get(row.model, "–")))
    return "Oracles, computed from the truth; no model sees it:\n\n" + markdown_table(head, lines)


def _failures(board: Board) -> str:
    lines = [f"- {row.model}: {reason}" for row in board.rows for reason in row.failed]
    return (
        "Failed or missing cells; a model that lacks one has no score:\n\n" + "\n".join(lines)
        if lines
        else ""
    )


def _counts(board: Board) -> str:
    """What was scored on each slide, and the blocks of its bootstrap."""
    lines = []
    for s in board.slides:
        blocks = f"{s.blocks} of {s.block_um:.0f} um" + (" †" if s.slide in board.narrow else "")
        left = ", ".join(f"{count:,} {why}" for why, count in sorted(s.units_left_out.items()) if count)
        genes = (str(s.genes), str(s.genes_left_out))
        lines.append((s.slide, s.patient, f"{s.units:,}", left or "–", *genes, blocks))
    head = ("slide", "patient", "units", "units left out", "genes", "genes left out", "bootstrap blocks")
    return markdown_table(head, lines) + (f"\n\n† {NARROW}" if board.narrow else "")


def flag_notes(board: Board) -> str:
    """What the flags of a table mean, a line each."""
    used = sorted({flag for row in board.rows for flag in row.flags})
    return "\n".join(f"- `{flag}`: {FLAGS.get(flag, 'see the record')}." for flag in used)


def changes_note(board: Board) -> str:
    """What a sweep changed of each row's recipe."""
    lines = [f"- {row.model}: `{row.changes}`" for row in board.rows if row.changes]
    return "Options that were changed:\n\n" + "\n".join(lines) if lines else ""


def render_cost(board: Board) -> str:
    """Time and memory as markdown; they differ from run to run."""
    lines = []
    for row in (row for row in board.rows if row.cost and row.kind != "oracle"):
        c = row.cost
        lines.append(
            (
                row.model,
                f"{c['fit_s']:.1f}",
                f"{c['predict_s']:.1f}",
                f"{c['host_mb']:,.0f}",
                f"{c['device_mb']:,.0f}" if c["device_mb"] else "–",
                f"{c['parameters']:,.0f}" if c["parameters"] else "–",
                row.ran,
            )
        )
    head = ("model", "fit s / cell", "predict s / cell", "host MiB", "device MiB", "parameters", "ran")
    return f"# {board.plan.stem}: cost\n\n{markdown_table(head, lines)}\n"


def frame(board: Board) -> pd.DataFrame:
    """The score table with all digits, one row a model."""
    rows = []
    for row in board.rows:
        values: dict[str, object] = {"model": row.model, "kind": row.kind, "encoder": row.encoder}
        values |= {metric: row.scores.get(metric) for metric in METRICS}
        values |= _limits("pcc_gene", row.pcc) | _difference_columns(f"over_{REFERENCE}", row.over_shuffled)
        values |= _difference_columns("over_better_ridge", row.over_ridge)
        values |= _limits("new_patients", row.new_patients)
        values |= standing_columns(row)
        values |= {"not_above_better_ridge": board.marked(row)}
        values |= {name: row.more.get(name) for name in sorted({n for r in board.rows for n in r.more})}
        values |= {f"pcc_marker_{m.name}": m.pcc.get(row.model) for m in board.markers}
        rows.append(values | {"flags": " ".join(row.flags), "failed": "; ".join(row.failed)})
    return pd.DataFrame(rows)


def _limits(name: str, interval: Interval | None) -> dict[str, object]:
    ends = (interval.low, interval.high) if interval else (None, None)
    return dict(zip((f"{name}_low", f"{name}_high"), ends, strict=True))


def _difference_columns(name: str, interval: Interval | None) -> dict[str, object]:
    return {name: interval.value if interval else None, **_limits(name, interval)}
