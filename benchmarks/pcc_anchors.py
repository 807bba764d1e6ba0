"""What scores are worth that no image earns, on five real sections: the figures of docs/pcc.md.

    HDSTBENCH_DATA=FOLDER python benchmarks/pcc_anchors.py

FOLDER holds `her2st`. Prints a table in markdown and draws docs/pcc_bin.png, whose first panel shows the
committed leaderboard.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.ndimage import gaussian_filter

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.cli.data_ready import have_slides
from hdstbench.cli.view import make_view
from hdstbench.data.card import load_dataset
from hdstbench.metrics.correlation import pearson_per_gene, pearson_per_unit, pearson_pooled
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.splits import FoldTable, Split
from hdstbench.protocol.task import Fold, open_fold
from hdstbench.report.tables import markdown_table
from hdstbench.rng import stream
from hdstbench.sweep.options import resolve
from hdstbench.sweep.oracle import depth
from hdstbench.sweep.plan import plan_job
from hdstbench.sweep.score import scored_genes

HERE = Path(__file__).resolve().parents[1]
BOARD = HERE / "leaderboards" / "her2st-100um.csv"
FIGURE = HERE / "docs" / "pcc_bin.png"
SMOOTH = 2.0
"""Width of the random fields, in pitches of the array."""


@dataclass(frozen=True, slots=True)
class Tested:
    """A test slide with the truth, and the mean of the slides that its fold trains on."""

    fold: Fold
    slide: Slide
    truth: FloatArray
    genes: IntArray
    mean: FloatArray
    folder: Path

    def pcc_bin(self) -> FloatArray:
        """The mean predictor's correlation over genes, [N]."""
        return pearson_per_unit(np.tile(self.mean, (len(self.truth), 1)), self.truth)

    def mean_r(self, predicted: FloatArray) -> float:
        """Mean over genes of the correlation over units."""
        return float(pearson_per_gene(predicted[:, self.genes], self.truth[:, self.genes]).mean())


def each_section(names: tuple[str, ...]) -> Split:
    """Each section is tested in turn, all others train."""
    tables = tuple(FoldTable(test=(name,)) for name in names)
    return Split(unit="slide", title="each section", folds=tables, leaky=True, slides=names, name="each")


def folds(split: str) -> Iterator[Tested]:
    """Test slides of a split, on the fold's own panel; without a name, each section is held out in turn."""
    options, _ = resolve({"dataset": ["her2st"], "res": ["100um"], "split": split, "models": ["mean"]}, "")
    job = plan_job(load_dataset("her2st"), "100um", options)
    folders = have_slides(job, options, make_view(as_json=False), yes=True)
    if split == "":
        job = replace(job, split=each_section(tuple(folders)))
    for number in range(len(job.split.folds)):
        fold = open_fold(job.task, job.split, number, folders)
        for test in fold.test:
            view = test.slide.take(test.headline)
            truth = view.need_labels().target()[:, fold.panel.mean250].astype(np.float64)
            mean = fold.train_mean[fold.panel.mean250]
            yield Tested(fold, view, truth, np.flatnonzero(scored_genes(truth)), mean, folders[view.id])


def of_depth(tested: Tested) -> tuple[float, float]:
    """`pcc_gene` of the logarithm of the library size, and with the best line for each gene."""
    library = np.log1p(tested.slide.need_labels().library.astype(np.float64))
    line = depth(tested.slide)[:, tested.fold.panel.mean250]
    return tested.mean_r(np.tile(library[:, None], tested.truth.shape[1])), tested.mean_r(line)


def smooth_fields(tested: Tested) -> FloatArray:
    """Fields over the array that know nothing, [N, G]."""
    grid = tested.slide.grid - tested.slide.grid.min(axis=0)
    noise = stream("smooth-fields", tested.slide.id).normal(
        size=(*(grid.max(axis=0) + 1), tested.truth.shape[1])
    )
    return np.asarray(gaussian_filter(noise, (SMOOTH, SMOOTH, 0))[grid[:, 0], grid[:, 1]])


def pooled_slide_means(slides: Sequence[Tested], genes: tuple[str, ...]) -> float:
    """Correlation over the units of all slides, of each slide's own mean, meaned over some genes."""
    parts = []
    for tested in slides:
        view = open_slide(tested.folder, genes, tested.slide.target).take(tested.slide.rows("unit"))
        truth = view.need_labels().target()
        parts.append((np.tile(truth.mean(axis=0), (len(truth), 1)), truth))
    return float(np.nanmean(pearson_pooled(parts)))


def print_table(
    patient: Mapping[str, Tested], sibling: Mapping[str, Tested], other: Mapping[str, Tested]
) -> None:
    """The figures of each section."""
    head = [
        "section",
        "spots",
        "mean: `pcc_bin`, other patient trains",
        "siblings alone train",
        "all other sections train",
    ]
    head += ["depth: `pcc_gene`", "depth, best line a gene", "random smooth fields: `pcc_gene`"]
    rows = []
    for name, tested in patient.items():
        siblings = f"{sibling[name].pcc_bin().mean():.2f}" if name in sibling else "–"
        plain, line = of_depth(tested)
        blind = [f"{tested.pcc_bin().mean():.2f}", siblings, f"{other[name].pcc_bin().mean():.2f}"]
        fields = f"{tested.mean_r(smooth_fields(tested)):.3f}"
        rows.append((name, str(len(tested.truth)), *blind, f"{plain:.2f}", f"{line:.2f}", fields))
    print("\n" + markdown_table(head, rows))
    c_only = [tested for name, tested in patient.items() if name != "B4"]
    for what, tested in (("C", patient["B4"]), ("B", patient["C2"])):
        genes = tuple(tested.fold.panel.genes[i] for i in tested.fold.panel.mean250)
        values = [pooled_slide_means(slides, genes) for slides in (c_only, list(patient.values()))]
        print(f"each slide's own mean, pooled, 250 genes of patient {what}: "
              f"{values[0]:.2f} over C, {values[1]:.2f} over all five")  # fmt: skip


def draw(patient: Mapping[str, Tested], sibling: Mapping[str, Tested]) -> None:
    """The figure of docs/pcc.md."""
    figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.9), constrained_layout=True)
    _draw_board(axes[0])
    _draw_spot(axes[1], patient["C2"])
    _draw_mean(axes[2], patient, sibling)
    figure.savefig(FIGURE, dpi=110)


def _draw_board(ax: Axes) -> None:
    board = pd.read_csv(BOARD)
    board = board[board.kind != "oracle"]
    for kind, colour in (("model", "#0072b2"), ("variant", "#0072b2"), ("control", "#d55e00")):
        part = board[board.kind == kind]
        ax.scatter(part.pcc_gene, part.pcc_bin, s=26, color=colour)
    named = board[board.model.isin(["mean", "magnet", "egn", "shuffled-ridge", "magnet-published", "bleep"])]
    for row in named.itertuples():
        ax.annotate(
            row.model, (row.pcc_gene, row.pcc_bin), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
    ax.set(
        xlabel="pcc_gene: pattern of each gene", ylabel="pcc_bin: profile of each spot", xlim=(-0.02, 0.19)
    )
    ax.set_title("Models (blue) and controls (orange), her2st,\nother patient trains", fontsize=9)


def _draw_spot(ax: Axes, tested: Tested) -> None:
    unit = int(np.argsort(tested.pcc_bin())[len(tested.truth) // 2])
    r = tested.pcc_bin()[unit]
    ax.scatter(tested.mean, tested.truth[unit], s=8, color="#555555")
    ax.set(xlabel="mean of the training slide (patient B)", ylabel="measured in the spot")
    ax.set_title(f"One median spot of C2, 250 genes: r = {r:.2f}\nwithout any look at the image", fontsize=9)


def _draw_mean(ax: Axes, patient: Mapping[str, Tested], sibling: Mapping[str, Tested]) -> None:
    place = np.arange(len(patient))
    other = [tested.pcc_bin().mean() for tested in patient.values()]
    own = [sibling[name].pcc_bin().mean() if name in sibling else 0 for name in patient]
    ax.bar(place - 0.2, other, 0.4, color="#56b4e9", label="other patient trains")
    ax.bar(place + 0.2, own, 0.4, color="#e69f00", label="siblings of the section train")
    ax.set_xticks(place, list(patient))
    ax.set(ylabel="pcc_bin of the training mean", ylim=(0, 0.9))
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    ax.set_title("The same blind prediction (its pcc_gene is 0)", fontsize=9)


def main() -> None:
    """Print the table and draw the figure."""
    patient = {tested.slide.id: tested for tested in folds("patient")}
    sibling = {tested.slide.id: tested for tested in folds("slide")}
    other = {tested.slide.id: tested for tested in folds("")}
    print_table(dict(sorted(patient.items())), sibling, other)
    draw(dict(sorted(patient.items())), sibling)


if __name__ == "__main__":
    main()
