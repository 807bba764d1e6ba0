"""Figures for a paper: maps of genes by model with their errors, intervals and ranks, genes and ceilings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hdstbench.errors import DataError
from hdstbench.report.board import RANKED, Board, Row
from hdstbench.report.figures import Extent, limits_of, raster, section
from hdstbench.report.html.content import GeneTable
from hdstbench.report.mapped import MappedSlide
from hdstbench.stats.bootstrap import Interval
from hdstbench.stats.ranks import Standing

FORMATS = ("png", "pdf", "svg")
MAPPED_GENES, COLUMNS, DPI = 4, 4, 200
BLUE, GREY, ORANGE = "#1f5a99", "#7b8794", "#b35806"
SIMULATED = "simulated data"
NO_DATES = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
Named = tuple[str, str]
"""Id and symbol of a gene."""


def check_formats(formats: Sequence[str]) -> None:
    """Refuse formats that are not written.

    Raises:
        DataError: If there is one.
    """
    for name in formats:
        if name not in FORMATS:
            msg = f"--format {name}: wanted {', '.join(FORMATS)}, or a list of them"
            raise DataError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """What the figures of one table are made of.

    Attributes:
        board: The table.
        table: Its genes.
        shown: The slide whose maps are drawn; None if there is none.
        genes: Those that may be mapped, of which the first are.
    """

    board: Board
    table: GeneTable
    shown: MappedSlide | None
    genes: Sequence[Named]


def write_figures(out: Path, still: Still, formats: Sequence[str]) -> Iterator[Path]:
    """Write the figures of one table.

    Args:
        out: Folder.
        still: What they are made of.
        formats: Some of `FORMATS`.

    Yields:
        Each file.
    """
    out.mkdir(parents=True, exist_ok=True)
    board, shown = still.board, still.shown
    figures = {"ranks": draw_ranks(board), "ceilings": draw_ceilings(board, still.table)}
    if shown is not None:
        figures["maps"] = draw_maps(
            board, shown, [g for g in still.genes if g[0] in shown.slide.genes][:MAPPED_GENES]
        )
    with rc_context({"svg.hashsalt": "hdstbench", "pdf.fonttype": 42}):  # same bytes; text stays text
        for name, figure in figures.items():
            for kind in formats:
                path = out / f"{board.plan.stem}-{name}.{kind}"
                figure.savefig(path, dpi=DPI, metadata=NO_DATES[kind])
                yield path


def _titled(board: Board, text: str) -> str:
    return f"{board.plan.stem}: {text}" + f" ({SIMULATED})" * board.plan.simulated


def draw_ranks(board: Board) -> Figure:
    """Each whole row's pcc_gene with its interval, and the ranks that ranked ones may have."""
    rows = [row for row in board.rows if row.pcc is not None and row.kind != "oracle"]
    figure = Figure(figsize=(7.2, 1.1 + 0.27 * len(rows)), layout="constrained")
    values, ranks = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    for place, row in enumerate(rows):
        colour = BLUE if row.kind in RANKED else GREY
        if row.pcc is not None:
            _draw_interval(values, place, row.pcc, colour)
        if row.standing is not None:
            _draw_standing(ranks, place, row.standing, colour)
    values.set(yticks=range(len(rows)), yticklabels=[_name(row) for row in rows], xlabel="pcc_gene, 95 %")
    values.invert_yaxis()
    values.axvline(0, color=GREY, linewidth=0.8)
    most = sum(row.standing is not None for row in rows)
    ranks.set(xlabel="rank; letters are ties", xlim=(0.5, most + 1.0))
    ranks.set_xticks(range(1, most + 1, max(1, most // 8)))
    for axis in (values, ranks):
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_titled(board, "intervals over these patients, and ranks"), fontsize=10)
    return figure


def _name(row: Row) -> str:
    return row.model if row.kind in RANKED else f"{row.model} ({row.kind})"


def _draw_interval(axis: Axes, place: int, pcc: Interval, colour: str) -> None:
    if pcc.low is not None and pcc.high is not None:
        axis.plot([pcc.low, pcc.high], [place, place], color=colour, linewidth=1.5)
    axis.plot(pcc.value, place, "o", color=colour, markersize=5)


def _draw_standing(axis: Axes, place: int, standing: Standing, colour: str) -> None:
    axis.plot([standing.best, standing.worst], [place, place], "-o", color=colour, linewidth=3, markersize=5)
    axis.annotate(standing.letters, (standing.worst, place), (8, 0), textcoords="offset points", va="center")


def draw_ceilings(board: Board, table: GeneTable) -> Figure:
    """Of each model and variant, every gene's correlation against its ceiling, meaned over slides."""
    models = [row.model for row in board.rows if row.pcc is not None and row.kind in RANKED] or [
        row.model for row in board.rows if row.pcc is not None and row.kind != "oracle"
    ]
    wide = min(COLUMNS, len(models))
    high = -(-len(models) // wide)
    figure = Figure(figsize=(2.4 * wide + 0.6, 2.4 * high + 0.6), layout="constrained")
    axes = figure.subplots(high, wide, sharex=True, sharey=True, squeeze=False)
    for axis, model in zip(axes.flat, models, strict=False):
        _draw_genes(axis, table.rows[table.rows["model"] == model])
        axis.set_title(model, fontsize=9)
    for axis in axes.flat[len(models) :]:
        axis.axis("off")
    figure.supxlabel("ceiling of the gene", fontsize=9)
    figure.supylabel("pcc_gene", fontsize=9)
    figure.suptitle(_titled(board, "genes and their ceilings; hollow: no measurable signal"), fontsize=10)
    return figure


def _draw_genes(axis: Axes, rows: pd.DataFrame) -> None:
    scored = rows[rows["pcc"].notna()]
    seen = scored["measurable"] > 0
    known = scored[seen].groupby("gene")[["pcc", "ceiling"]].mean().dropna()
    rest = scored[~scored["gene"].isin(known.index)].groupby("gene")[["pcc", "ceiling"]].mean()
    axis.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1)
    axis.axhline(0, color=GREY, linewidth=0.6)
    axis.plot(known["ceiling"], known["pcc"], "o", color=BLUE, markersize=3, alpha=0.7, markeredgewidth=0)
    axis.plot(rest["ceiling"].fillna(0), rest["pcc"], "o", color=ORANGE, markersize=3, fillstyle="none")
    axis.set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1))
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def draw_maps(board: Board, shown: MappedSlide, genes: Sequence[Named]) -> Figure:
    """Maps of genes, a row each: the section, what was measured, and each model with its MSE."""
    slide, models = shown.slide, list(shown.predictions)
    wide, high = 2 + len(models), len(genes)
    picture, extent = section(shown.folder, None, _reduction(shown))
    tall = (extent[2] - extent[3]) / (extent[1] - extent[0])
    figure = Figure(figsize=(1.6 * wide + 0.7, (1.6 * tall + 0.35) * high + 0.4), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False)
    for line, (gene, symbol) in zip(axes, genes, strict=True):
        line[0].imshow(picture, extent=extent)
        line[0].set_title("H&E", fontsize=8)
        colours = _draw_gene(line[1:], shown, gene, symbol, extent)
        figure.colorbar(colours, ax=list(line), shrink=0.8, pad=0.01).ax.tick_params(labelsize=7)
    for axis in axes.flat:
        axis.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        axis.axis("off")
    _draw_bar(axes[0][0], extent)
    text = f"maps of {slide.id} (patient {slide.patient}), {slide.target.name}, MSE over its scored units"
    figure.suptitle(_titled(board, text), fontsize=9)
    return figure


def _reduction(shown: MappedSlide) -> int:
    """Pixels of block images along one of the picture, which is then some hundred wide."""
    side = float(np.ptp(shown.slide.xy_um, axis=0).max()) / shown.slide.mpp
    return max(1, int(side / 600))


def _draw_gene(
    axes: Sequence[Axes], shown: MappedSlide, gene: str, symbol: str, extent: Extent
) -> ScalarMappable:
    """Draw what was measured and what each model predicts, on one colour scale."""
    slide = shown.slide
    column = slide.genes.index(gene)
    measured = slide.need_labels().target()[:, column]
    colours = ScalarMappable(Normalize(*limits_of(measured)), "viridis")
    size = slide.unit_um if len(slide.blocks()) < len(slide) else 0.6 * slide.unit_um
    errors = shown.scores[shown.scores["gene"] == gene].set_index("model")["mse"]
    panels = [(f"{symbol} measured", measured)]
    for model, predicted in shown.predictions.items():
        error = f"\nMSE {errors[model]:.3f}" if model in errors.index and np.isfinite(errors[model]) else ""
        panels.append((model + error, predicted[:, column]))
    for axis, (title, values) in zip(axes, panels, strict=True):
        axis.imshow(
            colours.to_rgba(raster(slide, values, size, extent)), extent=extent, interpolation="nearest"
        )
        axis.set_title(title, fontsize=8)
    return colours


def _draw_bar(axis: Axes, extent: Extent) -> None:
    """A scale bar of about a quarter of the picture."""
    width = extent[1] - extent[0]
    length = max(v for v in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if v <= max(width / 3, 10))
    left, y = extent[0] + 0.05 * width, extent[2] - 0.06 * (extent[2] - extent[3])
    axis.plot([left, left + length], [y, y], color="black", linewidth=2)
    text = f"{length} µm" if length < 1000 else f"{length / 1000:g} mm"  # noqa: PLR2004 - um in a mm
    axis.annotate(text, (left + length / 2, y), (0, 2), textcoords="offset points", ha="center", fontsize=7)
