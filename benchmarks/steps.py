"""How far the training loop is from the bare steps, and what a device gives: `python benchmarks/steps.py`.

Each model is trained on one simulated slide (16 um bins, 0.25 um a pixel) with its official recipe and random
weights. Bare steps are forward, backward and update on the same batches, which lie in the device's memory.
On a GPU, every precision is measured, and `--compile` names models whose network is compiled too.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from cost import whole_slides
from torch.utils.flop_counter import FlopCounterMode

from hdstbench.plugins.plugin import Precision, RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.protocol.slide import Slide
from hdstbench.rng import stream
from hdstbench.sweep.device import describe, set_policy
from hdstbench.torchkit.batch import some_blocks
from hdstbench.torchkit.trainer import TorchModel, _Loop, _Trial

MODELS = ("st-net", "egn", "his-to-gene", "bleep", "his2st", "triplex", "magnet")
PRODUCT = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model at one precision; seconds are of one pass over the units, the best of a few."""

    model: str
    precision: str
    compiled: bool
    batch: int
    units: int
    bare_s: float
    loop_s: float
    predict_s: float
    busy: float
    tflop_a_pass: float
    peak_mb: float

    @property
    def ratio(self) -> float:
        """Wall time of the loop over that of the bare steps."""
        return self.loop_s / self.bare_s


def best_of(work: Callable[[], object], device: str, repeats: int = 3) -> float:
    """Seconds of the fastest of a few runs."""
    found = []
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - started)
    return min(found)


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def busy(device: str) -> Iterator[list[float]]:
    """Sample the share of time in which a GPU ran anything."""
    samples: list[float] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            samples.append(torch.cuda.utilization() / 100)

    thread = threading.Thread(target=look)
    if device == "cuda":
        thread.start()
    yield samples
    stop.set()
    if device == "cuda":
        thread.join()


def fitted(name: str, slide: Slide, context: RunContext) -> TorchModel:
    """A model that was trained for one pass, with all that it keeps."""
    plugin = load_model(name)
    model = plugin.build(replace(plugin.recipes["official"], epochs=1, patience=0))
    assert isinstance(model, TorchModel)
    model.fit([slide], [], context)
    return model


def measure(name: str, slide: Slide, context: RunContext, repeats: int, *, compiled: bool = False) -> Row:
    """Time the loop and the bare steps of a model."""
    device = context.device
    set_policy(device, context.precision, deterministic=False)
    model = fitted(name, slide, context)
    if compiled:
        model.net.compile()
    loop = _Loop(model, [slide], [], _Trial(1.0, 0, 1))
    kept = tuple(loop._drawn(stream("steps")))
    model.net.train()
    with FlopCounterMode(display=False) as flops:
        loop._one_step(*kept[0], 0)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    bare = best_of(lambda: [loop._one_step(*one, 0) for one in kept], device, repeats)
    with busy(device) as samples:
        whole = best_of(lambda: loop._epoch(0), device, repeats)
    return Row(
        model=name,
        precision=context.precision,
        compiled=compiled,
        batch=model.training.batch_size,
        units=len(slide),
        bare_s=bare,
        loop_s=whole,
        predict_s=best_of(lambda: model.predict(slide.hidden()), device, repeats if device == "cuda" else 1),
        busy=float(np.mean(samples)) if samples else float("nan"),
        tflop_a_pass=flops.get_total_flops() * len(list(model.batches(slide, None))) / 1e12,
        peak_mb=torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan"),
    )


def tried(name: str, slide: Slide, context: RunContext, repeats: int, *, compiled: bool = False) -> list[Row]:
    """The model's row; none, with a word, where it fails."""
    try:
        row = measure(name, slide, context, repeats, compiled=compiled)
    except (RuntimeError, ValueError) as error:
        print(f"{name} {context.precision} failed: {str(error)[:300]}", flush=True)
        return []
    print(row, flush=True)
    return [row]


def peak(precision: Precision) -> float:
    """TFLOP/s of a large product of matrices on a GPU."""
    set_policy("cuda", precision, deterministic=False)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(PRODUCT, PRODUCT, device="cuda", dtype=kind) for _ in range(2))
    for _ in range(3):
        a @ b
    seconds = best_of(lambda: [a @ b for _ in range(10)], "cuda") / 10
    return 2 * PRODUCT**3 / seconds / 1e12


def table(rows: list[Row], peaks: dict[str, float]) -> str:
    """Markdown."""
    head = (
        "| model | precision | batch | units/s, bare | units/s, loop | loop / bare | busy | units/s, predict "
        "| TFLOP/s (of peak) | peak MiB |"
    )
    lines = [head, "| --- " * 10 + "|"]
    for r in rows:
        rate = r.tflop_a_pass / r.bare_s
        share = f" ({rate / peaks[r.precision]:.0%})" if r.precision in peaks else ""
        name = f"{r.precision}, compiled" if r.compiled else r.precision
        lines.append(
            f"| {r.model} | {name} | {r.batch} | {r.units / r.bare_s:,.0f} | {r.units / r.loop_s:,.0f} "
            f"| {r.ratio:.2f} | {r.busy:.0%} | {r.units / r.predict_s:,.0f} | {rate:.2f}{share} "
            f"| {r.peak_mb:,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure every model and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--precisions", default="fp32", help="comma-separated: fp32, tf32, bf16")
    parser.add_argument(
        "--compile", default="", help="models that are measured compiled too, in the last one"
    )
    parser.add_argument("--side", type=int, default=300, help="um of the slide's side")
    parser.add_argument("--units", type=int, default=0, help="of the slide, in whole blocks; 0 for all")
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts")
    parser.add_argument("-o", type=Path, help="JSON file for the rows")
    given = parser.parse_args()
    precisions, rows = given.precisions.split(","), list[Row]()
    print(describe(), flush=True)
    peaks = {p: peak(p) for p in precisions} if given.device == "cuda" else {}
    print({name: round(value, 1) for name, value in peaks.items()}, "TFLOP/s, 8192 x 8192 x 8192", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        slide = some_blocks([whole_slides(place, "16um", given.side / 1000)[0]], given.units)[0]
        print(f"{len(slide)} units, {len(slide.genes)} genes, simulated", flush=True)
        for name in given.models.split(","):
            for precision in precisions:
                context = RunContext(
                    seed=0, scratch=place, cache=place, device=given.device, precision=precision
                )
                rows += tried(name, slide, context, given.repeats)
            if name in given.compile.split(","):
                rows += tried(name, slide, context, given.repeats, compiled=True)
    print(table(rows, peaks))
    if given.o:
        given.o.write_text(json.dumps({"peaks": peaks, "rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
