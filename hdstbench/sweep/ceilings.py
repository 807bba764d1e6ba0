"""Ceilings of a test slide's panel, computed once and kept beside the slide's labels."""

import hashlib
import os
import zipfile
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.metrics.ceiling import VERSION, Ceiling, ceiling, nothing
from hdstbench.protocol.slide import Slide
from hdstbench.records import CeilingScores
from hdstbench.rng import stream


def ceilings_of(view: Slide) -> Ceiling:
    """Attainable correlation of each gene of a slide's panel under the task's target.

    Draws are named by the slide, so the same units, genes and target always give the same numbers. They
    are kept in a file named after the content they come from; a file that cannot be read is made again,
    and where none can be written the numbers are computed each time.

    Args:
        view: The labelled units that are scored: `test.slide.take(test.headline)`.

    Returns:
        Of the G genes in the view's order; all unknown for smoothed labels, which are no function of a
        unit's own counts.

    Raises:
        DataError: If the slide is hidden.
    """
    if view.target.smooths:
        return nothing(len(view.genes))
    path = _folder(view) / f"ceilings-{_key(view)}.npz"
    known = _load(path, len(view.genes))
    if known is not None:
        return known
    labels = view.need_labels()
    found = ceiling(
        labels.counts(), labels.library, view.target.from_counts, stream("ceiling", view.id), view.block_of
    )
    _save(path, found)
    return found


def _folder(view: Slide) -> Path:
    """Where the labels of a slide lie."""
    return view.need_labels()._folder


def _key(view: Slide) -> str:
    """Hash of all that ceilings depend on: counts, library sizes, targets, blocks and the procedure."""
    labels = view.need_labels()
    counts = labels.counts()
    digest = hashlib.sha256(f"{VERSION}/{view.id}/{view.target.name}/{counts.shape}".encode())
    for array in (counts.data, counts.indices, counts.indptr, labels.library, view.block_of):
        digest.update(np.ascontiguousarray(array, np.int64).tobytes())
    digest.update(np.ascontiguousarray(labels.target()).tobytes())
    return digest.hexdigest()[:24]


def _load(path: Path, genes: int) -> Ceiling | None:
    """Read stored ceilings; None if they are not there, damaged or of another shape."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {field.name: file[field.name] for field in fields(Ceiling)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Ceiling(**arrays) if all(a.shape == (genes,) for a in arrays.values()) else None


def _save(path: Path, found: Ceiling) -> None:
    """Write aside and rename, so that whoever reads meanwhile sees a whole file or none."""
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        with part.open("wb") as file:
            np.savez(file, **asdict(found))
        part.replace(path)
    except OSError:  # full or read-only: only time is lost
        part.unlink(missing_ok=True)


def score_ceiling(found: Ceiling, r: FloatArray, used: IntArray) -> CeilingScores:
    """Sum up a model's correlations and what was attainable over the scored genes.

    Args:
        found: Of the slide's genes.
        r: The model's correlation of each, [G].
        used: Genes that are scored.
    """
    clear = used[found.measurable[used]]
    rest = used[~found.measurable[used]]
    means = {name: _mean(getattr(found, name)[clear]) for name in ("value", "low", "high")}
    return CeilingScores(
        genes=len(clear),
        unmeasurable=len(rest),
        pcc=_mean(r[clear]),
        sd=float(np.sqrt((found.sd[clear] ** 2).sum()) / len(clear)) if len(clear) else None,
        pcc_unmeasurable=_mean(r[rest]),
        **means,
    )


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None


def ceiling_columns(found: Ceiling) -> dict[str, FloatArray]:
    """Columns of a table of genes."""
    return {
        "ceiling": found.value,
        "ceiling_low": found.low,
        "ceiling_high": found.high,
        "ceiling_sd": found.sd,
        "measurable": found.measurable.astype(np.float64),
    }
