"""Known expected counts of a simulated slide, kept in a file beside its counts.

A `truth.h5` holds, for C cells and G genes with a pattern: `u_um`, `v_um` [C] in the array frame,
`rates` [C, G] expected molecules before bursts and sampling, `rest` [C] the sum over all other
genes, `gene_ids` [G], `unseen` and `unseen_factor` for genes that follow a field without a trace in
the image, and the spread of molecules around their cell as a mixture of normals, `sigma_um` and
`weight`. No plugin is ever given it.
"""

from pathlib import Path

import h5py
import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.special import ndtr

from hdstbench.arrays import CSR, FloatArray
from hdstbench.errors import DataError

REACH_SIGMAS = 4.0


def expected_shares(path: Path, uv_um: FloatArray, unit_um: float) -> tuple[FloatArray, list[str]]:
    """Return the expected share of each gene among a unit's molecules, as far as an image can show it.

    Args:
        path: A `truth.h5`.
        uv_um: Unit centres in um of the array frame, [N, 2].
        unit_um: Side of a unit.

    Returns:
        float32 [N, G] and the ids of the G genes that have a pattern.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        with h5py.File(path) as file:
            content = {name: file[name][()] for name in file}
    except (OSError, KeyError) as error:
        msg = f"{path}: {error}; simulate the data set again"
        raise DataError(msg) from error
    rates = content["rates"]
    rates[:, content["unseen"]] /= content["unseen_factor"]
    weight = _catchment(content, uv_um, unit_um)
    total = weight @ (rates.sum(axis=1) + content["rest"])
    shares = (weight @ rates) / np.maximum(total, 1e-12)[:, None]
    return shares.astype(np.float32), [name.decode() for name in content["gene_ids"]]


def _catchment(content: dict[str, FloatArray], uv_um: FloatArray, unit_um: float) -> CSR:
    """Share of each cell's molecules that falls into each unit, [N, C]."""
    cells = np.column_stack([content["u_um"], content["v_um"]])
    total = sparse.csr_array((len(uv_um), len(cells)))
    for sigma, weight in zip(content["sigma_um"], content["weight"], strict=True):
        reach = REACH_SIGMAS * sigma + unit_um
        near = cKDTree(uv_um).sparse_distance_matrix(
            cKDTree(cells), reach, p=np.inf, output_type="coo_matrix"
        )
        share = np.full(len(near.data), float(weight))
        for axis in (0, 1):
            gap = uv_um[near.row, axis] - cells[near.col, axis]
            share *= ndtr((gap + unit_um / 2) / sigma) - ndtr((gap - unit_um / 2) / sigma)
        total = total + sparse.csr_array((share, (near.row, near.col)), shape=total.shape)
    return total
