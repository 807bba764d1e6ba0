"""The harness gives the numbers that it gave before, or says that it changed (`ENGINE`).

If a change of the harness changes predictions or scores on purpose, raise `hdstbench.ENGINE` and write
tests/engine.json again: HDSTBENCH_WRITE_ENGINE=1 pytest tests/test_engine.py
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers import Planted

from hdstbench import ENGINE
from hdstbench.metrics.correlation import pearson_per_gene, pearson_per_unit
from hdstbench.metrics.moments import block_moments
from hdstbench.plugins.plugin import RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.protocol.inner import split_inner
from hdstbench.protocol.panel import choose_panel
from hdstbench.protocol.target import Target
from hdstbench.stats.blocks import residual_range, widest_blocks
from hdstbench.stats.bootstrap import SlideMoments, interval, resampled_pcc

STORED = Path(__file__).parent / "engine.json"
MODELS = ("mean", "ridge", "shuffled-ridge", "st-net", "magnet")


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


def test_the_numbers_are_those_of_this_engine(planted: list[Planted], tmp_path: Path) -> None:
    numbers = _numbers(planted, tmp_path)
    if os.environ.get("HDSTBENCH_WRITE_ENGINE"):
        STORED.write_text(json.dumps({"engine": ENGINE, "numbers": numbers}, indent=1) + "\n")

    stored = json.loads(STORED.read_text())

    assert stored["engine"] == ENGINE
    assert numbers.keys() == stored["numbers"].keys()
    for name, value in stored["numbers"].items():
        assert numbers[name] == pytest.approx(value, rel=2e-3, abs=2e-3), name
