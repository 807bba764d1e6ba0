"""Prepared slides and predictions as AnnData."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from hdstbench.arrays import CSR, FloatArray, IntArray
from hdstbench.data.prepared import Arrays, load_arrays, load_manifest
from hdstbench.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

Transform = Callable[[IntArray, IntArray, IntArray], FloatArray]
"""Counts [N, G] and library sizes [N] to what is predicted, [N, G]."""
UNIT = "unit"
PLACE = "um from the top left corner of the image, x right, y down"


def prepared_anndata(folder: Path) -> "AnnData":
    """A prepared slide as AnnData, for looking at it with other tools.

    `X` holds raw counts over all genes, int32 [N, genes]; `obs` array_row, array_col, block, sampled (of the
    headline), window (dense window, -1 for none), library, pad (share of the patch outside the image), the
    number of the parent at each coarser level, and stratum if there are any; `obsm["spatial"]` (x, y) in um;
    `uns["hdstbench"]` the manifest.

    Raises:
        DataError: If the folder is no prepared slide.
    """
    from anndata import AnnData  # noqa: PLC0415 - a sweep on prepared data never needs it

    manifest = load_manifest(folder)
    obs = _places(folder, manifest.slide)
    counts, library = _counts(folder)
    obs["library"] = library
    strata = folder / "labels" / "strata.npz"
    if strata.is_file():
        obs["stratum"] = load_arrays(strata)["name"]
    slide = load_arrays(folder / "labels" / "slide.npz")
    var = pd.DataFrame({"symbol": slide["symbols"].astype(str)}, index=slide["gene_ids"].astype(str))
    var["feature_type"] = "Gene Expression"
    return AnnData(
        X=counts,
        obs=obs,
        var=var,
        obsm={"spatial": np.array(_unit(folder)["xy_um"])},
        uns={"hdstbench": _plain({**asdict(manifest), "spatial_unit": "um", "spatial": PLACE})},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Predictions of one test slide, float32 [N, G], and its prepared folder if that is still there."""

    slide: str
    values: FloatArray
    folder: Path | None = None


def predictions_anndata(
    genes: Sequence[str], slides: Sequence[Predicted], transform: Transform, about: Mapping[str, object]
) -> "AnnData":
    """Predictions of all test slides of a cell as one AnnData.

    `X` holds predictions in the task's target space, float32 [N, G], `obs["slide"]` whose they are. Of slides
    that are still prepared there are also `layers["target"]`, `obsm["spatial"]` in um and the columns of
    `prepared_anndata`; of others NaN stands there.

    Args:
        genes: Ids of the panel.
        slides: The test slides.
        transform: From counts, library sizes and places of all units of a slide to targets.
        about: What is known of the cell; becomes `uns["hdstbench"]`.

    Raises:
        DataError: If a prepared slide lacks a gene of the panel.
    """
    from anndata import AnnData  # noqa: PLC0415 - a sweep on prepared data never needs it

    parts = [_Part.open(one, genes, transform) for one in slides]
    symbols: dict[str, str] = {}
    for part in parts:
        symbols |= part.symbols
    var = pd.DataFrame(
        {"symbol": [symbols.get(gene, "") for gene in genes]}, index=pd.Index(genes, dtype=str)
    )
    found = AnnData(
        X=np.concatenate([one.values for one in slides]).astype(np.float32),
        obs=pd.concat([part.obs for part in parts]),
        var=var,
        uns={"hdstbench": _plain(about)},
    )
    if any(one.folder for one in slides):
        found.uns["hdstbench"] |= {"spatial_unit": "um", "spatial": PLACE}
        found.layers["target"] = np.concatenate([part.target for part in parts])
        found.obsm["spatial"] = np.concatenate([part.xy_um for part in parts])
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """What is known of one test slide's units beside their predictions."""

    obs: pd.DataFrame
    target: FloatArray
    xy_um: FloatArray
    symbols: Mapping[str, str]

    @classmethod
    def open(cls, one: Predicted, genes: Sequence[str], transform: Transform) -> "_Part":
        if one.folder is None:
            names = pd.Index([f"{one.slide}:{number}" for number in range(len(one.values))])
            nothing = np.full((len(one.values), 2), np.nan)
            obs = pd.DataFrame({"slide": one.slide}, index=names)
            return cls(obs, np.full(one.values.shape, np.nan, np.float32), nothing, {})
        obs = _places(one.folder, one.slide)
        obs.insert(0, "slide", one.slide)
        counts, obs["library"] = _counts(one.folder)
        table = load_arrays(one.folder / "labels" / "slide.npz")
        columns = pd.Index(table["gene_ids"].astype(str)).get_indexer(list(genes))
        if (columns < 0).any():
            gene = genes[int(np.flatnonzero(columns < 0)[0])]
            msg = f"{one.folder} lacks the gene {gene} of the predictions; it was prepared from other files"
            raise DataError(msg)
        panel = sparse.csr_array(counts[:, columns]).toarray()
        symbols = dict(zip(genes, table["symbols"].astype(str)[columns].tolist(), strict=True))
        target = transform(panel, obs["library"].to_numpy(), _unit(one.folder)["grid"])
        return cls(obs, target, np.array(_unit(one.folder)["xy_um"]), symbols)


def write_h5ad(adata: "AnnData", output: Path) -> None:
    """Write a new file, aside first and renamed when whole.

    Raises:
        DataError: If it exists, has another ending, or cannot be written.
    """
    check_output(output)
    part = output.with_name(f"{output.name}.part{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that strings become categories
            adata.write_h5ad(part, compression="gzip")
        part.rename(output)
    except OSError as error:
        msg = f"{output} could not be written ({error.strerror or error}); choose another place"
        raise DataError(msg) from error
    finally:
        part.unlink(missing_ok=True)


def check_output(output: Path) -> None:
    """Refuse a file that exists, or that other tools would not take for AnnData.

    Raises:
        DataError: If it is unfit.
    """
    if output.suffix != ".h5ad":
        msg = f"{output} has to end in .h5ad"
        raise DataError(msg)
    if output.exists():
        msg = f"{output} exists; choose another name, or remove it to export again"
        raise DataError(msg)


def _unit(folder: Path) -> Arrays:
    return load_arrays(folder / "pixels" / f"{UNIT}.npz")


def _places(folder: Path, slide: str) -> pd.DataFrame:
    """What is known of each unit but its counts, named <slide>:<row>_<column>."""
    arrays, manifest = _unit(folder), load_manifest(folder)
    row, column = arrays["grid"].T
    names = [f"{slide}:{r}_{c}" for r, c in zip(row.tolist(), column.tolist(), strict=True)]
    known = {"array_row": row, "array_col": column, "in_tissue": np.ones(len(row), bool)}
    known |= {name: arrays[name] for name in ("block", "sampled", "window", "pad")}
    for level in manifest.patch_px:
        if level != UNIT:
            known[level] = load_arrays(folder / "pixels" / f"{level}.npz")["parent"]
    return pd.DataFrame({name: np.array(values) for name, values in known.items()}, index=pd.Index(names))


def _counts(folder: Path) -> tuple[CSR, IntArray]:
    """Raw counts over all genes and library sizes."""
    arrays = load_arrays(folder / "labels" / f"{UNIT}.npz")
    genes = len(load_arrays(folder / "labels" / "slide.npz")["gene_ids"])
    parts = tuple(np.array(arrays[name]) for name in ("data", "indices", "indptr"))
    return sparse.csr_array(parts, shape=(len(arrays["library"]), genes)), np.array(arrays["library"])


def _numeric(value: Any) -> bool:  # noqa: ANN401 - what JSON knows
    """Whether a list, of lists perhaps, holds numbers alone."""
    if isinstance(value, list | tuple):
        return bool(value) and all(_numeric(item) for item in value)
    return isinstance(value, int | float)


def _plain(value: Any) -> Any:  # noqa: ANN401 - what JSON knows
    """What an .h5ad can hold: names without a slash, no empty list, no None."""
    if isinstance(value, Mapping):
        return {str(key).replace("/", "|"): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple) and _numeric(value):
        return np.asarray(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value
