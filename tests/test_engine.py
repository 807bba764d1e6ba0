"""The harness gives the numbers that it gave before, or says that it changed (`ENGINE`).

If a change of the harness changes predictions on purpose, raise `hdstbench.ENGINE`; if it changes scores
of the same predictions, raise `hdstbench.records.SCORES`. Then write tests/engine.json again:
HDSTBENCH_WRITE_ENGINE=1 pytest tests/test_engine.py
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers import Planted

from hdstbench import ENGINE
from hdstbench.data.card import Dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.metrics.correlation import pearson_per_gene, pearson_per_unit
from hdstbench.metrics.moments import block_moments
from hdstbench.plugins.plugin import RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.protocol.inner import split_inner
from hdstbench.protocol.panel import choose_panel
from hdstbench.protocol.target import Target
from hdstbench.protocol.task import open_fold
from hdstbench.records import SCORES
from hdstbench.stats.blocks import residual_range, widest_blocks
from hdstbench.stats.bootstrap import SlideMoments, interval, resampled_pcc
from hdstbench.sweep.options import Options
from hdstbench.sweep.oracle import ATTAINABLE, ask
from hdstbench.sweep.plan import plan_job
from hdstbench.sweep.score import score_fold

STORED = Path(__file__).parent / "engine.json"
MODELS = (
    *("mean", "ridge", "shuffled-ridge", "st-net", "magnet", "magnet-gene-pcc", "magnet-published"),
    *("his-to-gene", "his2st", "egn", "bleep", "triplex"),
)


def _numbers(planted: list[Planted], folder: Path) -> dict[str, float]:
    a, b, c = (p.slide for p in planted)
    train, val = split_inner(a)
    panel = choose_panel([planted[0].folder], [p.folder for p in planted], Target())
    out = {
        "units": len(a),
        "inner training units": len(train),
        "inner validation units": len(val),
        "first gene of the panel": sum(map(ord, panel.genes[0])),
        "mean target": float(b.need_labels().target().mean()),
    }
    out |= {f"mean {name} pixel": float(b.patches(name, np.arange(9)).mean()) for name in b.levels}
    for name in MODELS:
        plugin = load_model(name)
        model = plugin.build(plugin.recipes["tiny"])
        model.fit([train], [val], RunContext(seed=0, scratch=folder, cache=folder / "cache"))
        out |= {
            f"{name} {key}": value for key, value in _scores(model.predict(c.hidden()), planted[2]).items()
        }
    return out


def _scores(predicted: np.ndarray, test: Planted) -> dict[str, float]:
    slide = test.slide
    measured = slide.need_labels().target()
    block, width = widest_blocks(slide.xy_um)
    sums = block_moments(predicted, measured, block)
    moments = SlideMoments(slide="x", patient="p", moments=sums, scored=np.array([True, True, False]))
    found = interval(resampled_pcc([moments], 100))
    return {
        "bright": float(np.nan_to_num(pearson_per_gene(predicted, measured))[0]),
        "per unit": float(pearson_per_unit(predicted, measured).mean()),
        "range": residual_range(slide.xy_um, (predicted - measured)[:, :2], 16.0, "x"),
        "low": found.low,
        "high": found.high,
        "width": width,
    }


def _fold_numbers(cohort: Dataset) -> tuple[dict[str, float], dict[str, float]]:
    """From files to predictions, and from those to scores, of one fold of the small cohort."""
    options = Options(recipe="tiny")
    job = plan_job(cohort, "16um", options)
    res = cohort.card.resolution("16um")
    folders = {s.id: prepare_slide(cohort, s, res) for s in cohort.card.samples}
    fold = open_fold(job.task, job.split, 0, folders)
    best = ask(ATTAINABLE, fold)["SIM1"]
    predictions = {
        "units": len(best),
        "panel": int(fold.panel.hash, 16) % 10_007,
        "training mean": float(fold.train_mean.mean()),
        "attainable": float(best.mean()),
    }
    worse = best + 0.3 * np.random.default_rng(0).standard_normal(best.shape).astype(np.float32)
    scores = asdict(score_fold(fold, {"SIM1": worse}).slides[0])
    left = scores.pop("units_left_out")
    numbers = {name: value for name, value in scores.items() if not isinstance(value, str)}
    return predictions, {**numbers, **{f"left out {name}": count for name, count in left.items()}}


def test_the_numbers_are_those_of_this_engine(
    planted: list[Planted], cohort: Dataset, tmp_path: Path
) -> None:
    numbers = _numbers(planted, tmp_path)
    predictions, scores = _fold_numbers(cohort)
    found = {"numbers": numbers, "fold": predictions, "scores": scores}
    if os.environ.get("HDSTBENCH_WRITE_ENGINE"):
        STORED.write_text(json.dumps({"engine": ENGINE, "score version": SCORES, **found}, indent=1) + "\n")

    stored = json.loads(STORED.read_text())

    assert (stored["engine"], stored["score version"]) == (ENGINE, SCORES)
    for part, values in found.items():
        assert values.keys() == stored[part].keys()
        for name, value in stored[part].items():
            assert values[name] == pytest.approx(value, rel=2e-3, abs=2e-3), (part, name)
