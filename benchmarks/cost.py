"""Measure what the official recipe of a trained model needs: parameters, GFLOP a unit, memory kept of a step.

    python benchmarks/cost.py st-net magnet

On simulated bins of 8 um with patches of 112 px and 250 genes, from random weights. Prints the `Cost`
that the plugin holds.
"""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from kept import kept_mb
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hdstbench.data.card import load_dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.plugins.plugin import Cost, RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.task import open_fold
from hdstbench.simulate.cohort import Cohort, simulate
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import plan_job
from hdstbench.torchkit.space import make_space
from hdstbench.torchkit.trainer import TorchModel

GENES = 250
FEW = 32
"""Units of a slide for models that see one unit at a time; others get a whole block."""


def slides(folder: Path, name: str = "8um") -> list[Slide]:
    """The fullest block of each of three simulated slides; 256 bins at 8 um."""
    return [v.take(max(v.blocks(), key=len)) for v in whole_slides(folder, name, 0.3)]


def whole_slides(folder: Path, name: str, size_mm: float) -> list[Slide]:
    """Three simulated slides of 0.25 um a pixel, as far as they are in tissue; the last is the tested one."""
    simulate(Cohort(slides=3, size_mm=size_mm), folder / "demo")
    card = folder / "demo" / "dataset.toml"
    card.write_text(card.read_text().replace("mpp = 0.5", "mpp = 0.25"))
    dataset = load_dataset(str(card))
    job = plan_job(dataset, name, Options())
    res = dataset.card.resolution(name)
    folders = {s.id: prepare_slide(dataset, s, res) for s in dataset.card.samples}
    fold = open_fold(job.task, job.split, 0, folders)
    views = [*fold.train, fold.test[0].slide]
    return [open_slide(v._folder.parent, v.genes[:GENES], v.target) for v in views]


def measure(name: str, train: list[Slide], test: Slide, folder: Path) -> Cost:
    """Measure one model."""
    plugin = load_model(name)
    config = plugin.recipes["official"]
    if plugin.context == "unit":
        train, test = [slide.take(np.arange(FEW)) for slide in train], test.take(np.arange(FEW))
    model = plugin.build(replace(config, weights="none", epochs=1, epoch_units=1, patience=0))
    assert isinstance(model, TorchModel)
    model.fit(train, [], RunContext(seed=0, scratch=folder, cache=folder))
    model.space = make_space(config.space, train)
    model.predict(test.hidden())  # frozen features are cached now
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for part in model.batches(test.hidden(), None):
            model.infer(part)
    batch = next(iter(model.batches(train[0], np.random.default_rng(0))))
    model.net.train()
    model.net.zero_grad(set_to_none=True)
    loss, kept = kept_mb(lambda: model.loss(batch, model.labels(batch)))
    loss.backward()  # type: ignore[no-untyped-call]
    return Cost(
        parameters=model.parameters,
        gflop=float(f"{counter.get_total_flops() / len(test) / 1e9:.3g}"),
        memory_mb=float(round(kept)),
        batch=len(batch.index),
    )


def main() -> None:
    """Print the cost of each model that is named."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HDSTBENCH_CACHE"] = str(folder / "cache")
        *train, test = slides(folder)
        for model in sys.argv[1:]:
            print(model, measure(model, train, test, folder), flush=True)


if __name__ == "__main__":
    main()
