"""Open an .h5ad of one slide: raw counts, genes, places and what it says of um a pixel."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from hdstbench.arrays import CSR, BoolArray, FloatArray
from hdstbench.data.counts import Genes, MemoryCounts
from hdstbench.errors import DataError, MissingError

if TYPE_CHECKING:
    from anndata import AnnData

GENE_TYPE = "Gene Expression"
CONTROL = r"(?i)^(?:NegControl|BLANK|antisense|UnassignedCodeword|DeprecatedCodeword|Intergenic)"
"""Names of Xenium's control probes, which HEST keeps beside the genes."""
TRUE = ("1", "1.0", "True")
MAX_COUNT = 2**31 - 1
SHOWN = 160
"""Letters of another library's message that are shown."""


def open_h5ad(path: Path, *, backed: bool = False) -> "AnnData":
    """Open a file.

    Args:
        path: The .h5ad.
        backed: Leave the counts on the disk; the caller closes `.file`.

    Raises:
        MissingError: If it is not there.
        DataError: If it is damaged, is no AnnData, or holds no spot.
    """
    import anndata  # noqa: PLC0415 - a sweep on prepared data never needs it

    if not path.is_file():
        msg = f"{path} is not there; wanted an .h5ad"
        raise MissingError(msg)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old files, repeated names: what matters is checked here
            found = anndata.read_h5ad(path, backed="r" if backed else None)
    except Exception as error:  # a damaged element raises whatever its reader does
        text = " ".join(str(error).split())[:SHOWN]
        msg = f"{path} is not a whole .h5ad ({type(error).__name__}: {text}); get it again"
        raise DataError(msg) from error
    if not found.n_obs or not found.n_vars:
        msg = f"{path} holds {found.n_obs} spots and {found.n_vars} genes; wanted an AnnData of one slide"
        raise DataError(msg)
    return found


def in_tissue(adata: "AnnData") -> BoolArray:
    """Which spots lie in tissue, [N]; all where the file does not say."""
    if "in_tissue" not in adata.obs:
        return np.ones(adata.n_obs, bool)
    return np.asarray(adata.obs["in_tissue"].astype(str).isin(TRUE))


def positions(adata: "AnnData", path: Path) -> FloatArray:
    """Centres of all spots in full-resolution pixels, (x, y), float64 [N, 2].

    Raises:
        DataError: If there are none, or they are no numbers, or the file is an export of this suite.
    """
    if "spatial" not in adata.obsm:
        msg = (
            f"{path} has no obsm['spatial'] (found {', '.join(adata.obsm) or 'nothing'}); wanted (x, y) of "
            "each spot in pixels of the full-resolution image"
        )
        raise DataError(msg)
    if _section(adata.uns, "hdstbench").get("spatial_unit") == "um":
        msg = f"{path} is an export of a prepared slide, in um of an image that was cut up; import its source"
        raise DataError(msg)
    try:
        xy = np.asarray(adata.obsm["spatial"], dtype=np.float64)
    except (TypeError, ValueError):
        xy = np.empty(0)
    if xy.ndim != 2 or xy.shape[1] < 2 or not np.isfinite(xy[:, :2]).all():  # noqa: PLR2004 - x and y
        msg = f"{path}: obsm['spatial'] is no table of two finite numbers a spot; wanted (x, y) in pixels"
        raise DataError(msg)
    return xy[:, :2]


def pitch_px(xy: FloatArray, path: Path) -> float:
    """Distance of neighbouring spots: the median over spots of that to the nearest other one.

    Raises:
        DataError: If there are fewer than three spots, or two at the same place.
    """
    problem = ""
    if len(xy) < 3 or np.linalg.matrix_rank(xy - xy[0]) < 2:  # noqa: PLR2004 - a plane
        problem = f"holds {len(xy)} spots in tissue, on one line at most; wanted a slide of spots"
    else:
        gaps = np.asarray(cKDTree(xy).query(xy, k=2)[0])[:, 1]
        if gaps.min() == 0:
            problem = f"has {int((gaps == 0).sum())} spots on top of each other; wanted one slide a file"
    if problem:
        msg = f"{path} {problem}"
        raise DataError(msg)
    return float(np.median(gaps))


def stated_mpp(adata: "AnnData", path: Path) -> tuple[float, str] | None:
    """What the file says of um a full-resolution pixel, and where it says so; None if it does not.

    `uns["hdstbench"]["mpp"]` comes first, then `microns_per_pixel` among Space Ranger's scale factors.

    Raises:
        DataError: If it is no number above 0.
    """
    own = _section(adata.uns, "hdstbench")
    if "mpp" in own:
        return need_mpp(own["mpp"], f"{path}: uns['hdstbench']['mpp']"), "uns['hdstbench']['mpp']"
    factors = library(adata, path).get("scalefactors", {})
    if "microns_per_pixel" in factors:
        return need_mpp(factors["microns_per_pixel"], f"{path}: microns_per_pixel"), "microns_per_pixel"
    return None


def need_mpp(value: object, where: str) -> float:
    """Check um a pixel.

    Raises:
        DataError: If it is no number above 0.
    """
    try:
        mpp = float(value)  # type: ignore[arg-type] # anything may stand in a file
    except (TypeError, ValueError):
        mpp = np.nan
    if not (np.isfinite(mpp) and mpp > 0):
        msg = f"{where} is {value!r}, wanted um a pixel above 0"
        raise DataError(msg)
    return mpp


def library(adata: "AnnData", path: Path) -> Mapping[str, Any]:
    """The entry of `uns["spatial"]`, with `scalefactors` and `images` as far as they are there.

    Raises:
        DataError: If the file joins several slides.
    """
    spatial = _section(adata.uns, "spatial")
    entries = {name: _section(spatial, name) for name in spatial}
    entries = {name: entry for name, entry in entries.items() if {"scalefactors", "images"} & set(entry)}
    if len(entries) > 1:
        msg = f"{path} joins {len(entries)} slides ({', '.join(entries)}); write a file for each"
        raise DataError(msg)
    return next(iter(entries.values()), {})


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def raw_counts(adata: "AnnData", path: Path, *, by_name: bool = False) -> MemoryCounts:
    """Raw counts of all spots, from `X`, `layers["counts"]` or `raw.X`: the first that holds counts.

    Whole numbers stored as floats are counts. Rows that are no gene (antibodies, Xenium's control
    probes) are left out.

    Args:
        adata: The open file.
        path: For messages.
        by_name: Name genes by `var_names` even where `var["gene_ids"]` is there.

    Raises:
        DataError: If none of them holds counts, as after normalisation, or gene ids repeat.
    """
    tried = dict.fromkeys(("X", "layers['counts']", "raw.X"), "is not there")
    for name, matrix, var in _matrices(adata):
        problem = _problem(matrix)
        if not problem:
            genes, keep = _genes(var, path, by_name=by_name)
            return MemoryCounts(_whole(matrix, keep), genes)
        tried[name] = f"holds {problem}"
    found = ", ".join(f"{name} {what}" for name, what in tried.items())
    msg = f"{path}: {found}; wanted raw counts in one of them: whole numbers, not normalised"
    raise DataError(msg)


def _matrices(adata: "AnnData") -> Iterator[tuple[str, Any, pd.DataFrame]]:
    if adata.X is not None:
        yield "X", adata.X, adata.var
    if "counts" in adata.layers:
        yield "layers['counts']", adata.layers["counts"], adata.var
    if adata.raw is not None:
        yield "raw.X", adata.raw.X, adata.raw.var


def _problem(matrix: Any) -> str:  # noqa: ANN401 - an array or any sparse matrix
    """Why a matrix holds no counts; empty if it does."""
    values = np.asarray(matrix.data if hasattr(matrix, "indptr") else matrix)
    if not np.issubdtype(values.dtype, np.number):
        return f"{values.dtype} values"
    if not (values != 0).any():
        return "zeros alone"
    with np.errstate(invalid="ignore"):
        bad = ~((values >= 0) & (values <= MAX_COUNT) & (values % 1 == 0))
    return f"{values[bad][0]:.4g}" if bad.any() else ""


def _whole(matrix: Any, keep: BoolArray) -> CSR:  # noqa: ANN401 - an array or any sparse matrix
    counts = sparse.csr_array(matrix).astype(np.int32)
    return counts if keep.all() else sparse.csr_array(counts[:, np.flatnonzero(keep)])


def gene_names(var: pd.DataFrame, *, by_name: bool = False) -> tuple[list[str], list[str], BoolArray]:
    """Ids and symbols of all rows of `var`, and which of them are genes.

    An id is `var["gene_ids"]` where there is one, else the name.
    """
    names = pd.Series(var.index.astype(str).to_numpy())
    ids = names
    if "gene_ids" in var and not by_name:
        given = var["gene_ids"].astype(object).reset_index(drop=True)
        ids = given.where(given.notna(), names).astype(str)
    keep = ~names.str.contains(CONTROL)
    if "feature_types" in var:
        keep &= (var["feature_types"].astype(str) == GENE_TYPE).to_numpy()
    return ids.tolist(), names.tolist(), np.asarray(keep)


def _genes(var: pd.DataFrame, path: Path, *, by_name: bool) -> tuple[Genes, BoolArray]:
    ids, names, keep = gene_names(var, by_name=by_name)
    rows = np.flatnonzero(keep)
    table = Genes(ids=tuple(ids[i] for i in rows), symbols=tuple(names[i] for i in rows))
    known = pd.Index(table.ids)
    again = known[known.duplicated()]
    if len(again) or not len(table):
        what = f"{len(again)} gene ids repeat, such as {again[0]}" if len(again) else "var lists no gene"
        msg = f"{path}: {what}; wanted each gene once, by var['gene_ids'] or else by name"
        raise DataError(msg)
    return table, keep
