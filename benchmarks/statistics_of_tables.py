"""How long the statistics of a table take: `python benchmarks/statistics_of_tables.py` (simulated sums)."""

import argparse
import time

import numpy as np

from hdstbench.metrics.moments import block_moments
from hdstbench.rng import stream
from hdstbench.stats.bootstrap import RESAMPLES, SlideMoments, interval, resampled_pcc
from hdstbench.stats.compare import compare_all
from hdstbench.stats.ranks import standings

GENES, SIDE, BLOCKS = 250, 77, 6


def slide_of(model: int, patient: int) -> SlideMoments:
    """Moments of one model on one slide of 77 x 77 units, in 36 blocks."""
    rng, own = stream("statistics", patient), stream("statistics", patient, model)
    measured = rng.normal(size=(SIDE**2, GENES))
    predicted = 0.3 * measured + own.normal(size=measured.shape)
    row, col = np.divmod(np.arange(SIDE**2), SIDE)
    block = row * BLOCKS // SIDE * BLOCKS + col * BLOCKS // SIDE
    moments = block_moments(predicted, measured, block)
    return SlideMoments(
        slide=str(patient), patient=f"p{patient}", moments=moments, scored=np.ones(GENES, bool), widening=1.1
    )


def main() -> None:
    """Time intervals, pairs and ranks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=15)
    parser.add_argument("--slides", type=int, default=4)
    given = parser.parse_args()
    slides = {f"m{m}": [slide_of(m, p) for p in range(given.slides)] for m in range(given.models)}
    started = time.perf_counter()
    samples = {name: resampled_pcc(own) for name, own in slides.items()}
    intervals = [interval(values) for values in samples.values()]
    own = {n: {s.patient: float(resampled_pcc([s], 0)[0]) for s in found} for n, found in slides.items()}
    pairs = compare_all(samples, own)
    ranks = standings(list(slides), pairs)
    seconds = time.perf_counter() - started
    print(
        f"{given.models} models x {given.slides} slides x {GENES} genes x {RESAMPLES} resamples: "
        f"{seconds:.1f} s ({len(intervals)} intervals, {len(pairs)} pairs, {len(ranks)} ranks)"
    )


if __name__ == "__main__":
    main()
