"""The page that holds every number of the MagNet paper beside what was measured here, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from hdstbench.data.card import load_dataset
from hdstbench.errors import DataError
from hdstbench.protocol.rules import PAPER, slide_folds
from hdstbench.report.board import Plan, load_plan
from hdstbench.report.candidates import Candidate, Listing
from hdstbench.report.candidates_text import PAPER_DATA, load_listing, target_list
from hdstbench.report.cells import StoredCell, by_model, load_cell
from hdstbench.report.reported import METRICS, Metric, Reported, Score, reported_rows
from hdstbench.report.tables import markdown_table

TEMPLATE = "magnet_reproduction.md"
MODELS: Mapping[str, str] = {
    "ST-Net": "st-net",
    "EGN": "egn",
    "HisToGene": "his-to-gene",
    "BLEEP": "bleep",
    "His2ST": "his2st",
    "TRIPLEX": "triplex",
    "MagNet": "magnet-random",
}
"""Row of each of the paper's models in the preset `magnet-table-1`."""
VARIANTS: Mapping[str, str] = {
    "w/o GAT & multi-resolution": "magnet-random-without-both",
    "w/o GAT": "magnet-random-without-gat",
    "w/o multi-resolution": "magnet-random-without-levels",
    "w/o consistency loss": "magnet-random-without-consistency",
    "UNI encoder": "magnet-random-uni",
}
"""Row of each variant of MagNet in the presets `magnet-tables-2-3` and `magnet-table-4`."""
SHRUNK = ("quick", "tiny")
"""Recipes that may shrink networks; their scores are no attempt at a published number."""
FIELDS: Mapping[Metric, str] = {"mse": "mse", "mae": "mae", "pcc": "pcc_bin"}
"""The suite's names of the paper's metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model on the paper's public slides under its protocol; mean and sd over slides."""

    stem: str
    recipe: str
    slides: int
    scores: dict[Metric, Score]


Found = Mapping[tuple[str, str], Measured]
"""By resolution and name of the model."""


def render_page(plans: Sequence[Path], listings: Sequence[Path]) -> str:
    """Write the page.

    Args:
        plans: Plans of runs; those of the paper's protocol on its public slides give measured numbers.
        listings: What the training mean scores, of any data.
    """
    found, rows = _measured(plans), reported_rows()
    done = sum(_ours(row, found) is not None for row in rows)
    words = {
        "rows": str(len(rows)),
        "state": f"Measured so far: {done or 'none'} of the rows.",
        "size": f"{_fetched_bytes() / 1e9:.0f}",
        "targets": target_list(),
        "listings": _without_image([load_listing(path) for path in listings]),
    }
    for number in sorted({row.table for row in rows}):
        words[f"table {number}"] = _table([row for row in rows if row.table == number], found)
    text = files("hdstbench.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    for name, content in words.items():
        text = text.replace(f"{{{name}}}", content)
    return text


def _table(rows: Sequence[Reported], found: Found) -> str:
    head = ["model", "data", "size", *(f"{m.upper()}, reported" for m in METRICS)]
    head += [*(f"{m.upper()}, measured" for m in METRICS), "note"]
    return markdown_table(head, [_line(row, found) for row in rows])


def _line(row: Reported, found: Found) -> list[str]:
    name = f"{row.model}, {row.variant}" if row.variant else row.model
    quoted = [row.printed[metric] for metric in METRICS]
    first = [name, row.dataset.upper(), f"{row.resolution}, {row.patch_px} px", *quoted]
    ours = _ours(row, found)
    if ours is not None:
        note = f"`{ours.stem}`, `{_plugin(row)}`, recipe `{ours.recipe}`, {ours.slides} slides"
        return [*first, *[str(ours.scores[metric]) for metric in METRICS], note]
    note = "not measured" if row.dataset == PAPER_DATA else "not measured: private slides"
    return [*first, "", "", "", note]


def _plugin(row: Reported) -> str:
    return VARIANTS[row.variant] if row.variant else MODELS[row.model]


def _ours(row: Reported, found: Found) -> Measured | None:
    return found.get((row.resolution, _plugin(row))) if row.dataset == PAPER_DATA else None


def _measured(plans: Sequence[Path]) -> Found:
    """Models whose every cell is whole, in runs of the protocol on the paper's public slides."""
    found: dict[tuple[str, str], Measured] = {}
    for path in plans:
        plan = load_plan(path)
        if plan.protocol != PAPER or plan.target or plan.simulated or len(plan.folds) < plan.all_folds:
            continue
        cells = [load_cell(path.parent / name) for name in plan.cells if (path.parent / name).is_dir()]
        for model, own in by_model(cells).items():
            task = own[0].record.task
            if not (_is_papers(plan, own) and _is_whole(plan, model, own)):
                continue
            key = (task["resolution"], model)
            if key in found and plan.recipe != found[key].recipe:
                both = f"{plan.recipe} and {found[key].recipe}"
                msg = f"{path}: {model} at {key[0]} was run by recipes {both}; keep one"
                raise DataError(msg)
            found[key] = _scores(plan, own)
    return found


def _is_papers(plan: Plan, cells: Sequence[StoredCell]) -> bool:
    """Whether cells are an attempt at the paper's numbers: its slides, genes and split, no shrunk network."""
    task = cells[0].record.task
    usual = slide_folds(load_dataset(PAPER_DATA)).name if task["dataset"] == PAPER_DATA else ""
    plain = plan.recipe not in SHRUNK and not task.get("markers")
    replaced = any("other-encoder" in cell.record.flags for cell in cells)
    return bool(usual) and task["split"] == usual and plan.panel.startswith(PAPER) and plain and not replaced


def _is_whole(plan: Plan, model: str, cells: Sequence[StoredCell]) -> bool:
    planned = sum(Path(name).parent.name == model for name in plan.cells)
    return len(cells) == planned and all(cell.record.status == "ok" for cell in cells)


def _scores(plan: Plan, cells: Sequence[StoredCell]) -> Measured:
    """Mean over seeds of each slide, then mean and sd over slides."""
    names = sorted({s.slide for cell in cells for s in cell.scores})
    scores: dict[Metric, Score] = {}
    for metric, field in FIELDS.items():
        each = [
            np.mean([getattr(s, field) for cell in cells for s in cell.scores if s.slide == name])
            for name in names
        ]
        spread = float(np.std(each, ddof=1)) if len(each) > 1 else float("nan")
        scores[metric] = Score(float(np.mean(each)), spread)
    return Measured(stem=plan.stem, recipe=plan.recipe, slides=len(names), scores=scores)


def _fetched_bytes() -> int:
    """Size of the files of the paper's public slides, as their card knows it or guesses it."""
    dataset = load_dataset(PAPER_DATA)
    slides = slide_folds(dataset).slides
    return sum(f.bytes or f.about for s in dataset.card.samples if s.id in slides for f in s.files)


def _without_image(listings: Sequence[Listing]) -> str:
    """What the training mean scores on the data that there is, simulated or real."""
    head = ("data", "size", "target", "panel", *(f"{m.upper()}, measured" for m in METRICS))
    lines = [
        (_data(listing), listing.resolution, f"`{row.target}`", row.panel, *_numbers(row))
        for listing in sorted(listings, key=lambda one: (one.simulated, one.dataset, len(one.resolution)))
        for row in listing.rows
    ]
    if not lines:
        return "No listing of the training mean is in this repository."
    return markdown_table(head, lines)


def _data(listing: Listing) -> str:
    return f"{listing.dataset}, **simulated**" if listing.simulated else listing.dataset


def _numbers(row: Candidate) -> list[str]:
    return [str(row.scores[metric]) for metric in METRICS]
