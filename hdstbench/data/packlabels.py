"""Write what is known of one prepared slide but hidden from predictions: counts, sums, true shares."""

from pathlib import Path

import numpy as np

from hdstbench.arrays import CSR
from hdstbench.data.counts import Genes, gather, picks_groups
from hdstbench.data.levels import Resolution
from hdstbench.data.prepared import Arrays, Digest, save_arrays
from hdstbench.data.sample import Sample
from hdstbench.data.truth import expected_shares
from hdstbench.data.units import Coarse, Units


def write_labels(
    folder: Path, units: Units, coarse: list[Coarse], pair: tuple[Sample, Sample], digest: Digest
) -> None:
    """Write counts, read in one pass over each matrix."""
    sample, base = pair
    everything = picks_groups(np.zeros(len(sample.counts), np.int64), 1)
    own, above = {"unit": units.pick, "slide": everything}, {c.level.name: c.pick for c in coarse}
    if base is sample:
        counts = gather(sample.counts, own | above)
    else:
        counts = gather(sample.counts, own) | (gather(base.counts, above) if above else {})
    save_arrays(folder / "unit.npz", _sparse(counts["unit"]), digest)
    for c in coarse:
        arrays = {**_sparse(counts[c.level.name]), "target": c.target}
        save_arrays(folder / f"{c.level.name}.npz", arrays, digest)
    genes: Genes = sample.counts.genes
    bulk = counts["slide"].toarray()[0]
    slide = {"gene_ids": np.array(genes.ids), "symbols": np.array(genes.symbols), "pseudobulk": bulk}
    save_arrays(folder / "slide.npz", slide, digest)


def write_expected(folder: Path, units: Units, truth: Path, res: Resolution, digest: Digest) -> None:
    """Write the true expected shares of the sampled units of a simulated slide."""
    rows = np.flatnonzero(units.sampled)
    share, ids = expected_shares(truth, units.uv_um[rows], res.unit.side_um)
    save_arrays(folder / "expected.npz", {"share": share, "gene_ids": np.array(ids), "rows": rows}, digest)


def _sparse(counts: CSR) -> Arrays:
    return {
        "data": counts.data.astype(np.int32),
        "indices": counts.indices.astype(np.int32),
        "indptr": counts.indptr.astype(np.int64),
        "library": np.asarray(counts.sum(axis=1)).astype(np.int64),
    }
