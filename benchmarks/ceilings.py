"""How well ceilings are estimated where they are known: simulated counts, drawn again and again.

    python benchmarks/ceilings.py -o ceilings

Two sources of true rates: the suite's simulator (expected shares of a slide of 1.2 mm in bins of 16 um) and
a generator of its own (smooth fields and clumps, with gamma noise of each unit and gene). Counts are drawn
from the same rates and library sizes many times: A is then known. The estimates see one draw. Prints two
tables in markdown and draws ceilings.png.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.data.card import load_dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.metrics.ceiling import Ceiling, ceiling
from hdstbench.protocol.slide import all_counts, open_slide
from hdstbench.protocol.target import Target
from hdstbench.rng import stream
from hdstbench.simulate.cohort import Cohort, simulate

DEPTHS = (100, 300, 1000, 3000)
PANEL, NOISE, SIDE, DRAWS = 150, 150, 64, 40
ESTIMATES = ("low", "value", "high")
COLOURS = {"low": "tab:blue", "value": "black", "high": "tab:orange"}


@dataclass(frozen=True, slots=True)
class Source:
    """True shares of G genes in N units, which of the genes are noise, and relative library sizes."""

    name: str
    share: FloatArray
    noise: BoolArray
    size: FloatArray


@dataclass(frozen=True, slots=True)
class Trial:
    """Truth and estimate of one source and mean library size."""

    source: Source
    depth: int
    truth: FloatArray
    found: Ceiling

    def error(self, name: str) -> FloatArray:
        """Estimate less truth of the genes with a pattern."""
        return (getattr(self.found, name) - self.truth)[~self.source.noise]


def independent(*, equal: bool = False, clumps_alone: bool = False) -> Source:
    """Smooth or clumpy patterns of half the genes with gamma noise on each unit; the others are constant.

    `clumps_alone` has another seed and no gamma noise; nothing was tuned on it.
    """
    rng = stream("benchmark", "ceilings", *["clumps"] * clumps_alone)
    field = np.stack([_field(rng, rng.uniform(1.5, 6)) for _ in range(PANEL)], axis=1)
    smooth = np.exp(rng.uniform(0.15, 1.0, PANEL) * field)
    clumps = np.where(field > rng.normal(0, 0.7, PANEL), 1, np.exp(-rng.uniform(0.3, 2.5, PANEL)))
    bursts = rng.gamma(5, 0.2, field.shape)
    mixed = np.where(np.arange(PANEL) % 2, smooth, clumps) * bursts
    pattern = clumps if clumps_alone else mixed
    mean = np.exp(rng.uniform(np.log(4e-4), np.log(8e-3), PANEL))
    share = np.hstack([mean * pattern / pattern.mean(axis=0), np.tile(mean, (len(field), 1))])
    share /= max(1.0, 1.2 * float(share.sum(axis=1).max()))
    size = np.ones(len(field)) if equal else np.exp(0.4 * _field(rng, 2) + rng.normal(0, 0.2, len(field)))
    name = "own generator" + ", equal libraries" * equal + ", clumps" * clumps_alone
    return Source(name, share, np.arange(2 * PANEL) >= PANEL, size / size.mean())


def _field(rng: np.random.Generator, sigma: float) -> FloatArray:
    values = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma, mode="wrap").ravel()
    return np.asarray(values / values.std())


def simulated(out: Path) -> Source:
    """Expected shares of a simulated slide, and its library sizes; genes without a pattern are noise."""
    data = out / "cohort"
    if not data.is_dir():
        simulate(Cohort(slides=1, size_mm=1.2), data)
    dataset = load_dataset(str(data / "dataset.toml"))
    folder = prepare_slide(dataset, dataset.card.samples[0], dataset.card.resolution("16um"))
    ids, counts, _, _ = all_counts(folder)
    deep = np.argsort(-np.asarray(counts.sum(axis=0)).ravel(), kind="stable")
    labels = open_slide(folder, [ids[i] for i in deep[:1000]], Target()).need_labels()
    share = labels.expected()
    assert share is not None
    flat = np.ptp(share, axis=0) == 0
    chosen = np.sort(np.concatenate([np.flatnonzero(~flat)[:PANEL], np.flatnonzero(flat)[:NOISE]]))
    return Source("simulator", share[:, chosen], flat[chosen], labels.library / labels.library.mean())


def trial(source: Source, depth: int) -> Trial:
    """Draw the truth, and estimate from one draw."""
    rng = stream("benchmark", "ceilings", source.name, depth)
    library = np.maximum(rng.poisson(depth * source.size), 1)
    found = ceiling(_measure(source, library, rng), library, Target().from_counts, rng)
    return Trial(source, depth, _truth(source, library, rng), found)


def _measure(source: Source, library: IntArray, rng: np.random.Generator) -> IntArray:
    rest = 1 - source.share.sum(axis=1, dtype=np.float64, keepdims=True)
    return rng.multinomial(library, np.hstack([source.share, rest]))[:, :-1]


def _truth(source: Source, library: IntArray, rng: np.random.Generator) -> FloatArray:
    """sqrt(corr(Y, Y')), from the variance of each unit over many draws."""
    total, square = np.zeros(source.share.shape), np.zeros(source.share.shape)
    for _ in range(DRAWS):
        values = Target().from_counts(_measure(source, library, rng), library).astype(np.float64)
        total, square = total + values, square + values**2
    mean = total / DRAWS
    within = ((square - DRAWS * mean**2) / (DRAWS - 1)).mean(axis=0)
    between = mean.var(axis=0, ddof=1) - within / DRAWS
    return np.asarray(np.sqrt(np.maximum(between, 0) / (between + within)))


def table(trials: list[Trial]) -> Iterator[str]:
    """Errors of the estimates on genes with a pattern."""
    yield (
        "| rates | UMI | true A | "
        + " | ".join(f"`{n}`" for n in ESTIMATES)
        + " | within 2 `sd` | measurable |"
    )
    yield "|---" * (len(ESTIMATES) + 5) + "|"
    for one in trials:
        here = ~one.source.noise
        cells = [one.source.name, f"{one.depth:,}", f"{one.truth[here].mean():.2f}"]
        for name in ESTIMATES:
            error = one.error(name)
            cells.append(f"{error.mean():+.3f} ({np.abs(error).mean():.3f})")
        cells.append(f"{(np.abs(one.error('value')) < 2 * one.found.sd[here]).mean():.0%}")
        yield "| " + " | ".join([*cells, f"{one.found.measurable[here].mean():.0%}"]) + " |"


def noise_table(trials: list[Trial]) -> Iterator[str]:
    """How many genes of constant share are taken for more."""
    yield "| rates | UMI | true A | `value` | measurable | beyond depth |"
    yield "|---|---|---|---|---|---|"
    for one in trials:
        here = one.source.noise
        cells = [one.source.name, f"{one.depth:,}", f"{one.truth[here].mean():.2f}"]
        cells += [f"{np.nanmean(one.found.value[here]):.2f}"]
        cells += [f"{flag[here].mean():.1%}" for flag in (one.found.measurable, one.found.beyond_depth)]
        yield "| " + " | ".join(cells) + " |"


def draw(path: Path, trials: list[Trial]) -> None:
    """Mean errors against depth, and estimate against truth at 300 UMI."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for source, style in (("simulator", "-o"), ("own generator", "--s")):
        mine = [t for t in trials if t.source.name == source]
        for name in ESTIMATES:
            errors = [t.error(name).mean() for t in mine]
            label = f"{name}, {source}"
            left.plot([t.depth for t in mine], errors, style, color=COLOURS[name], ms=4, label=label)
    left.axhline(0, color="grey", lw=0.8)
    left.set(xscale="log", xlabel="mean UMI a unit", ylabel="mean error of A", title="Error by depth")
    left.set_xticks(DEPTHS, [f"{depth:,}" for depth in DEPTHS])
    left.minorticks_off()
    left.legend(fontsize=7, ncol=2, loc="center", bbox_to_anchor=(0.5, 0.46))
    one = next(t for t in trials if t.source.name == "own generator" and t.depth == 300)
    for name in ESTIMATES:
        here = ~one.source.noise
        right.scatter(one.truth[here], getattr(one.found, name)[here], s=7, color=COLOURS[name], label=name)
    right.plot([0, 1], [0, 1], color="grey", lw=0.8)
    right.set(xlabel="true A", ylabel="estimate", title="Genes at 300 UMI, own generator")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    sources = (simulated(out), independent(), independent(clumps_alone=True))
    patterned = [trial(source, depth) for source in sources for depth in DEPTHS]
    equal = [trial(independent(equal=True), depth) for depth in DEPTHS]
    print("\n".join([*table(patterned), "", *noise_table([*equal, *patterned])]))
    draw(out / "ceilings.png", patterned)


if __name__ == "__main__":
    main()
