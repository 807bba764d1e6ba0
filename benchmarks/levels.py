"""What each level of the image adds where one level alone carries signal: simulated data, known truth.

    python benchmarks/levels.py -o levels

Simulates three small cohorts whose genes follow a cell's own type, the cells around it, or the region; runs
MagNet with and without its levels on each; and asks oracles that know the latent causes of each level what
a level is worth. Prints two tables in markdown. Everything on them is simulated.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from hdstbench.arrays import FloatArray
from hdstbench.data.card import Dataset, load_dataset
from hdstbench.protocol.slide import Slide, symbols_of
from hdstbench.protocol.task import Fold, open_fold
from hdstbench.records import GeneSums
from hdstbench.report.board import load_plan
from hdstbench.report.cells import by_model, load_cell
from hdstbench.simulate.cells import TYPES, Tissue
from hdstbench.simulate.cohort import Cohort, _plans, simulate
from hdstbench.simulate.expression import _macro, _neighbourhood
from hdstbench.simulate.slide import grow_section
from hdstbench.stats.bootstrap import Interval, SlideMoments, interval, paired, resampled_pcc
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import Job, plan_job
from hdstbench.sweep.score import score_fold

CARRIES = {"bin": ("TYPE", "MIXED"), "neighbourhood": ("NEIGH", "MIXED"), "region": ("REGION", "MIXED")}
"""Gene classes that follow each level where it is the only one."""
ROWS = ["magnet", "magnet-without-spot", "magnet-without-region", "magnet-without-gat", "magnet-patch-alone"]
ROWS += ["magnet-mean-colour"]
"""Forms of MagNet; `magnet-patch-alone` has neither graph nor coarser levels, `magnet-mean-colour` reduces
each unit's own patch to one pixel."""
LEFT_OUT = {
    "bin": "magnet-mean-colour",
    "neighbourhood": "magnet-patch-alone",
    "region": "magnet-without-region",
}
"""The row without what looks at a level and not at a finer one; of a unit's own patch a pixel is left."""
SWEEP = """
models = [
  "magnet", "magnet-without-spot", "magnet-without-region", "magnet-without-gat", "magnet-patch-alone",
  "magnet-mean-colour", "ridge", "ridge-levels", "shuffled-ridge",
]
[[rows]]
name = "magnet-without-spot"
model = "magnet"
set = { levels = ["region"] }
[[rows]]
name = "magnet-without-region"
model = "magnet"
set = { levels = ["spot"] }
[[rows]]
name = "magnet-patch-alone"
model = "magnet"
set = { levels = [], graph_attention = "off" }
[[rows]]
name = "magnet-mean-colour"
model = "magnet"
set = { input_px = 1 }
[[rows]]
name = "magnet-without-gat"
model = "magnet"
set = { graph_attention = "off" }
"""
BIN_SIGMA_UM, NEAR_SIGMA_UM = 6.0, 12.0

Samples = dict[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Study:
    """One signal: its data, its job, and the bootstrap samples of every row on genes that carry it."""

    signal: str
    dataset: Dataset
    job: Job
    folders: Mapping[str, Path]
    folds: tuple[Fold, ...]
    samples: Samples


def study(signal: str, out: Path, size_mm: float) -> Study:
    """Simulate, run and read one signal."""
    cohort = Cohort(slides=4, size_mm=size_mm, signal=signal)  # type: ignore[arg-type]
    data, runs, sweep = out / signal, out / "runs" / signal, out / "levels.toml"
    if not data.is_dir():
        simulate(cohort, data)
    sweep.write_text(SWEEP)
    card = str(data / "dataset.toml")
    command = [sys.executable, "-m", "hdstbench", "run", "--dataset", card, "--res", "16um"]
    subprocess.run([*command, "-C", str(sweep), "-o", str(runs)], check=True)
    from hdstbench.data.prepare import prepare_slide

    dataset = load_dataset(card)
    job = plan_job(dataset, "16um", Options())
    res = dataset.card.resolution("16um")
    folders = {s.id: prepare_slide(dataset, s, res) for s in dataset.card.samples}
    folds = tuple(open_fold(job.task, job.split, i, folders) for i in range(len(job.split.folds)))
    latents = {plan.name: grow_section(plan).tissue for plan in _plans(cohort)}
    found = Study(signal, dataset, job, folders, folds, {})
    found.samples.update(_of_runs(found, runs))
    found.samples.update(_of_oracles(found, latents))
    return found


def _carrying(one: Study, fold: Fold) -> np.ndarray:
    """Genes of a fold's headline that follow the level, [G]."""
    symbols = symbols_of(next(iter(one.folders.values())))
    named = np.array([symbols[gene].startswith(CARRIES[one.signal]) for gene in fold.panel.genes])
    head = np.zeros(len(named), bool)
    head[fold.panel.mean250] = True
    return named & head


def _samples(one: Study, parts: list[tuple[Fold, Mapping[str, GeneSums]]]) -> FloatArray:
    slides = []
    for fold, sums in parts:
        for test in fold.test:
            own = sums[test.slide.id]
            slides.append(
                SlideMoments(
                    slide=test.slide.id,
                    patient=test.slide.patient,
                    moments=own.moments,
                    scored=own.scored & _carrying(one, fold),
                )
            )
    return resampled_pcc(slides)


def _of_runs(one: Study, runs: Path) -> Samples:
    """Samples of every row whose cells, those of the last run, are all whole."""
    plan = load_plan(runs / "simulated-16um.plan.json")
    out: Samples = {}
    for row, members in by_model([load_cell(runs / name) for name in plan.cells]).items():
        cells = {cell.record.fold: cell for cell in members if cell.record.status == "ok"}
        if len(cells) == len(one.folds):
            out[row] = _samples(one, [(fold, cells[fold.number].moments) for fold in one.folds])
    return out


def _of_oracles(one: Study, latents: Mapping[str, Tissue]) -> Samples:
    """Regression on the latent causes of all levels, and of all but one."""
    out: Samples = {}
    names = {"all": ("bin", "neighbourhood", "region")}
    names |= {f"without {left}": tuple(n for n in names["all"] if n != left) for left in names["all"]}
    known = {name: _causes(tissue) for name, tissue in latents.items()}
    for name, levels in names.items():
        parts = []
        for fold in one.folds:
            train = [slide for slide in (*fold.train, *fold.val) if len(slide)]
            x = np.concatenate([_at(slide, known, levels) for slide in train])
            y = np.concatenate([slide.need_labels().target() for slide in train])
            model = make_pipeline(StandardScaler(), PolynomialFeatures(2), StandardScaler(), Ridge(100.0))
            model.fit(x, y)
            told = {
                t.slide.id: model.predict(_at(t.slide, known, levels)).astype(np.float32) for t in fold.test
            }
            parts.append((fold, score_fold(fold, told).moments))
        out[f"oracle {name}"] = _samples(one, parts)
    return out


@dataclass(frozen=True, slots=True)
class _Causes:
    """Causes of expression by level, a row a cell."""

    xy: FloatArray
    kind: FloatArray
    near: FloatArray
    region: FloatArray


def _causes(tissue: Tissue) -> _Causes:
    xy = np.column_stack([tissue.cells.x, tissue.cells.y])
    kind = np.eye(len(TYPES))[tissue.cells.kind]
    return _Causes(xy, kind, _neighbourhood(tissue), _macro(tissue))


def _at(slide: Slide, known: Mapping[str, _Causes], levels: tuple[str, ...]) -> FloatArray:
    """Causes at each unit: cells by type, weighted by distance; means of the others over near cells."""
    causes = known[slide.id]
    parts = []
    if "bin" in levels:
        parts.append(_near(slide, causes.xy, BIN_SIGMA_UM) @ causes.kind)
    weight = _near(slide, causes.xy, NEAR_SIGMA_UM)
    total = np.maximum(np.asarray(weight.sum(axis=1)), 1e-9).reshape(-1, 1)
    parts += [(weight @ causes.near) / total] * ("neighbourhood" in levels)
    parts += [(weight @ causes.region) / total] * ("region" in levels)
    return np.column_stack(parts)


def _near(slide: Slide, xy: FloatArray, sigma: float) -> sparse.csr_array:
    pairs = cKDTree(slide.xy_um).sparse_distance_matrix(cKDTree(xy), 3 * sigma, output_type="coo_matrix")
    weight = np.exp(-0.5 * (pairs.data / sigma) ** 2)
    return sparse.csr_array((weight, (pairs.row, pairs.col)), shape=(len(slide), len(xy)))


def report(studies: list[Study]) -> str:
    """Two tables: what the level is worth and how much of that MagNet has; what leaving parts out costs."""
    lines = [
        "| signal at | oracle | oracle without it | gap "
        "| MagNet | MagNet without | gain | share of the gap |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in studies:
        s, left = one.samples, LEFT_OUT[one.signal]
        gap = paired(s["oracle all"], s[f"oracle without {one.signal}"])
        cells = [one.signal, *(f"{s[n][0]:.3f}" for n in ("oracle all", f"oracle without {one.signal}"))]
        cells += [_said(gap), _said(interval(s["magnet"]))]
        gain = paired(s["magnet"], s[left])
        cells += [f"{s[left][0]:.3f} (`{left}`)", _said(gain), f"{gain.value / gap.value:.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| signal at | " + " | ".join(_rows(studies[0])) + " |"]
    lines.append("|---" * (1 + len(_rows(studies[0]))) + "|")
    for one in studies:
        cells = []
        for name in _rows(one):
            value = f"{one.samples[name][0]:.3f}"
            if name in ROWS[1:]:
                value += f" (costs {_said(paired(one.samples['magnet'], one.samples[name]))})"
            cells.append(value)
        lines.append(f"| {one.signal} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _rows(one: Study) -> list[str]:
    return [name for name in one.samples if not name.startswith(("oracle", "slide-mean", "depth"))]


def _said(value: Interval, digits: int = 3) -> str:
    if value.low is None or value.high is None:
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f}, {value.low:.{digits}f} to {value.high:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--size-mm", type=float, default=0.9)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    print(report([study(signal, given.out, given.size_mm) for signal in CARRIES]))


if __name__ == "__main__":
    main()
