"""Do intervals hold what they say? Simulated slides with a known correlation.

    python benchmarks/interval_coverage.py

Truth and predictions are smooth random fields with noise, joined by a correlation that is known for each
gene. Patients and their true correlations stay; the fields are drawn anew. Prints tables and draws
docs/coverage.png.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.fft import irfft2, rfft2

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.metrics.moments import block_moments
from hdstbench.rng import stream
from hdstbench.stats.blocks import residual_range, widening, widest_blocks
from hdstbench.stats.bootstrap import SlideMoments, interval, resampled_pcc
from hdstbench.stats.compare import compare_all, new_patients

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "coverage.png"
SIDE = 96
"""Units along a side of a slide, of 16 um: 12 x 12 sampling blocks of 128 um."""
UNIT_UM, BLOCK_UM = 16.0, 128.0
RANGES = (0.0, 48.0, 96.0, 144.0, 168.0, 240.0)
GENES, PROGRAMMES, RESAMPLES = 30, 5, 400


@dataclass(frozen=True, slots=True)
class World:
    """What is drawn.

    Attributes:
        range_um: Distance at which the smooth part of a field has a correlation of 1/e; 0 for noise alone.
        smooth: Share of a field's variance that is smooth.
        patients: One slide each.
        models: Rows of a table; the first is better by `gap`, the others are equal.
        gap: Of correlation.
    """

    range_um: float
    smooth: float = 0.7
    patients: int = 4
    models: int = 2
    gap: float = 0.0


def fields(world: World, rng: np.random.Generator) -> FloatArray:
    """A field a gene over a slide, of unit variance, [units, G]; periodic, so that every place is alike.

    Genes depend on each other: half of each one's variance is one of a few programmes.
    """
    own, programmes = (_independent(world, count, rng) for count in (GENES, PROGRAMMES))
    return np.asarray(np.sqrt(0.5) * (own + programmes[:, np.arange(GENES) % PROGRAMMES]))


def _independent(world: World, count: int, rng: np.random.Generator) -> FloatArray:
    white = rng.standard_normal((count, SIDE, SIDE))
    if not world.range_um:
        return np.asarray(white.reshape(count, -1).T)
    width = world.range_um / 2 / UNIT_UM  # exp(-d^2 / 4 s^2) is 1/e at 2 s
    lag = np.minimum(np.arange(SIDE), SIDE - np.arange(SIDE))
    kernel = np.exp(-(lag[:, None] ** 2 + lag**2) / (2 * width**2))
    smooth = irfft2(rfft2(rng.standard_normal((count, SIDE, SIDE))) * rfft2(kernel), s=(SIDE, SIDE))
    smooth /= np.sqrt((kernel**2).sum())
    both = np.sqrt(world.smooth) * smooth + np.sqrt(1 - world.smooth) * white
    return np.asarray(both.reshape(count, -1).T)


@dataclass(frozen=True, slots=True)
class Places:
    """Units of a slide, the bootstrap block of each, [N], and the blocks' width."""

    xy_um: FloatArray
    block: IntArray
    width: float


def places() -> Places:
    """A square slide of which every sampling block is taken."""
    grid = np.argwhere(np.ones((SIDE, SIDE), bool)) * UNIT_UM
    sampled = (grid // BLOCK_UM).astype(int) @ [SIDE, 1]
    _, number = np.unique(sampled, return_inverse=True)
    centre = np.stack([np.bincount(number, grid[:, i]) / np.bincount(number) for i in (0, 1)], axis=1)
    group, width = widest_blocks(centre)
    return Places(grid, group[number], width)


def truth(world: World) -> FloatArray:
    """Correlation of each patient, gene and model, [P, G, M]; the same in all repetitions."""
    rng = stream("coverage-truth", str(world))
    level = rng.uniform(0.1, 0.4, (world.patients, GENES, 1)) + rng.normal(0, 0.05, (world.patients, 1, 1))
    better = np.zeros(world.models)
    better[0] = world.gap
    return np.clip(level + better, 0.0, 0.95)


def draw(world: World, here: Places, repetition: int) -> dict[str, list[SlideMoments]]:
    """The slides of each model: all see the same truth, and half of what they get wrong is common to them.

    As in a table, the range is estimated from residuals, and the widest of any model counts.
    """
    rng = stream("coverage", str(world), repetition)
    rho = truth(world)
    out: dict[str, list[SlideMoments]] = {f"m{k}": [] for k in range(world.models)}
    for patient in range(world.patients):
        measured, common = fields(world, rng), fields(world, rng)
        predictions = []
        for k in range(world.models):
            r = rho[patient, :, k]
            wrong = np.sqrt(0.5) * (common + fields(world, rng))
            predictions.append(r * measured + np.sqrt(1 - r**2) * wrong)
        ranges = [residual_range(here.xy_um, p - measured, UNIT_UM, "coverage") for p in predictions[:2]]
        wide = widening(max(ranges), here.width, int(here.block.max()) + 1)
        for k, predicted in enumerate(predictions):
            slide = SlideMoments(
                slide=f"{patient}-{repetition}",
                patient=f"p{patient}",
                moments=block_moments(predicted, measured, here.block),
                scored=np.ones(GENES, bool),
                widening=wide,
            )
            out[f"m{k}"].append(slide)
    return out


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one repetition: is the truth inside, and which claims were made."""

    inside: bool
    width: float
    differences_inside: bool
    false: bool
    found: bool


def repeat(world: World, repetitions: int) -> Iterator[Outcome]:
    """Draw the world again and again."""
    here = places()
    rho = truth(world).mean(axis=(0, 1))
    for repetition in range(repetitions):
        drawn = draw(world, here, repetition)
        samples = {name: resampled_pcc(slides, RESAMPLES) for name, slides in drawn.items()}
        own = {n: {s.patient: float(resampled_pcc([s], 0)[0]) for s in slides} for n, slides in drawn.items()}
        pairs = compare_all(samples, own)
        first = interval(samples["m0"])
        against = next(c for c in pairs if (c.first, c.second) == ("m0", "m1"))
        equal = [c for c in pairs if world.gap == 0 or "m0" not in (c.first, c.second)]
        yield Outcome(
            inside=first.low <= rho[0] <= first.high,
            width=first.high - first.low,
            differences_inside=against.difference.low <= rho[0] - rho[1] <= against.difference.high,
            false=any(c.differ for c in equal),
            found=against.differ,
        )


def cover_new_patients(patients: int, repetitions: int) -> float:
    """Coverage of the t interval where patients' means are normal around a known one."""
    rng = stream("coverage-new", patients)
    values = rng.normal(0.2, 0.06, (repetitions, patients))
    found = [new_patients(row) for row in values]
    return float(np.mean([i is not None and i.low <= 0.2 <= i.high for i in found]))


def coverage_table(repetitions: int, width: float) -> list[tuple[float, float, float]]:
    """Coverage by the range of residuals; range over block, of a model, of a difference."""
    print(
        "| range um | range / block | model inside | its width | difference inside |\n" + "| --- " * 5 + "|"
    )
    curve = []
    for range_um in RANGES:
        found = list(repeat(World(range_um), repetitions))
        inside, pair, wide = (
            float(np.mean([getattr(o, name) for o in found]))
            for name in ("inside", "differences_inside", "width")
        )
        curve.append((range_um / width, inside, pair))
        print(f"| {range_um:.0f} | {curve[-1][0]:.2f} | {inside:.3f} | {wide:.3f} | {pair:.3f} |", flush=True)
    return curve


def claims_table(repetitions: int) -> None:
    """How often claims are made that are false, and that are true."""
    print("\n| models | patients | gap | any false difference | the gap is found |\n" + "| --- " * 5 + "|")
    for world in (World(96.0, models=6), World(96.0, models=6, gap=0.02), World(96.0, models=6, gap=0.05)):
        found = list(repeat(world, repetitions))
        false, right = (float(np.mean([getattr(o, name) for o in found])) for name in ("false", "found"))
        power = f"{right:.3f}" if world.gap else "–"
        print(f"| {world.models} | {world.patients} | {world.gap} | {false:.3f} | {power} |", flush=True)


def main() -> None:
    """Print the tables and draw the figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=200, help="repetitions of each world")
    repetitions = parser.parse_args().n
    width = places().width
    print(f"blocks of {width:.0f} um; {repetitions} repetitions; simulated\n")
    curve = coverage_table(repetitions, width)
    claims_table(repetitions)
    new = [(patients, cover_new_patients(patients, 20 * repetitions)) for patients in (6, 8, 12, 24)]
    print("\n| new patients: patients | inside |\n| --- | --- |")
    print("\n".join(f"| {patients} | {inside:.3f} |" for patients, inside in new))
    draw_figure(curve)


def draw_figure(curve: list[tuple[float, float, float]]) -> None:
    """Coverage against the range of residuals."""
    x, inside, pair = np.array(curve).T
    figure, ax = plt.subplots(figsize=(6, 3.6), constrained_layout=True)
    ax.axvspan(0.5, x.max() * 1.03, color="#eeeeee")
    ax.text(0.53, 0.53, "flagged: blocks narrower\nthan twice the range", fontsize=8)
    ax.axhspan(0.90, 0.99, color="#d9ead3")
    ax.axhline(0.95, color="black", lw=0.8)
    ax.plot(x, inside, "o-", color="#0072b2", label="pcc_gene of a model")
    ax.plot(x, pair, "s--", color="#d55e00", label="paired difference of two")
    ax.set(
        xlabel="range of residuals / width of a block",
        ylabel="truth inside the 95 % interval",
        ylim=(0.5, 1.0),
    )
    ax.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.12))
    figure.savefig(FIGURE, dpi=110)


if __name__ == "__main__":
    main()
