"""What a cell leaves behind: its record, its scores and its moments, and how they are read."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hdstbench.arrays import BoolArray
from hdstbench.errors import DataError
from hdstbench.metrics.moments import Moments
from hdstbench.strict import build

SCHEMA = 1
SCORES = 3
"""Raised when scores of the same predictions change; scores are then computed again."""

SCORES_FILE = "scores.json"
MASKS = ("scored", "mean250", "hvg50")

Status = Literal["ok", "failed", "oom", "timeout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One cell: model x task x fold x seed x recipe.

    Attributes:
        key: Hash of everything that changes its predictions.
        task: The fields of the task, and its hash.
        kind: model, variant, control or oracle.
        encoder: Image encoder and its weights, as shown.
        changes: Options of its recipe that the sweep changed, as shown.
        flags: What a reader has to know, such as patient-leak.
        error: One line, empty if ok.
        seconds: Of fitting, predicting and scoring.
        peak_host_mb: Most memory that the worker held.
        peak_device_mb: Most memory on the accelerator.
        parameters: Trained and frozen numbers of the model; 0 if it does not say.
        validation: Mean squared error on inner validation, as the model says; None if it does not.
        versions: Of the suite, the plugin and the libraries that compute.
    """

    schema: int = SCHEMA
    key: str
    model: str
    kind: str
    recipe: str
    fold: int
    seed: int
    task: dict[str, str]
    status: Status
    error: str = ""
    encoder: str = ""
    changes: str = ""
    flags: tuple[str, ...] = ()
    device: str = "cpu"
    precision: str = "fp32"
    deterministic: bool = False
    compiled: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    peak_host_mb: float = 0.0
    peak_device_mb: float = 0.0
    parameters: int = 0
    validation: float | None = None
    plugin: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    finished: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingScores:
    """What was attainable on a slide (`hdstbench.metrics.ceiling`), over the scored genes of the panel.

    Attributes:
        genes: Genes with a measurable signal: all means but the last are over these.
        unmeasurable: Genes without.
        pcc: Mean correlation of the model.
        value: Mean ceiling, extrapolated.
        low: Its lower bracket, sqrt(r) of thinned halves.
        high: Its upper bracket, Spearman and Brown's.
        sd: Standard error of `value`, genes taken as independent.
        pcc_unmeasurable: Mean correlation of the model over genes without a measurable signal.
    """

    genes: int
    unmeasurable: int
    pcc: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    pcc_unmeasurable: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialScores:
    """How a slide's predicted maps look, on its dense windows; on all scored units of one without.

    Means over scored genes of means over windows; None where nothing could be taken.

    Attributes:
        windows: How many.
        units: In all of them.
        moran: Moran's I of the measurement.
        moran_gap: That of the prediction less that of the measurement; above 0 where it is smoother.
        ssim: Structural similarity in windows of 7 x 7 units.
        variance_ratio: Variance of the prediction over that of the measurement.
        flat: Pairs of gene and window whose prediction is constant; they have no Moran's I.
        spots: Spots that the windows' units fill.
        pcc_spot: Correlation over those spots of the units' predictions, brought to rates, averaged and
            logged again, with what was measured in the spots.
        pcc_spot_library: The same with units weighted by their true library sizes, which no model knows.
    """

    windows: int
    units: int
    moran: float | None = None
    moran_gap: float | None = None
    ssim: float | None = None
    variance_ratio: float | None = None
    flat: int = 0
    spots: int = 0
    pcc_spot: float | None = None
    pcc_spot_library: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideScores:
    """Scores of one test slide; every mean is over the genes that are scored on it.

    Attributes:
        units: Units of the headline.
        units_left_out: Units in tissue that did not enter, by reason.
        genes: Genes scored.
        genes_left_out: Genes whose truth is constant or almost always zero.
        constant: Scored genes that the model predicts as constant; they count as 0.
        pcc_gene: Mean over genes of the correlation over units.
        pcc_gene_hvg50: The same over the most variable genes.
        pcc_bin: Mean over units of the correlation over genes (the MagNet paper's PCC).
        range_um: Distance over which residuals are correlated.
        patch_um: The largest patch, in which two units share pixels.
        blocks: Blocks of the bootstrap.
        block_um: Their width; at least twice `range_um` and `patch_um`, or the interval is too narrow.
        flat_units: Units whose genes are predicted or measured as all alike; they count as 0 in `pcc_bin`.
        pcc_gene_depth: Mean over genes of the correlation beyond a line in log library size.
        classes: pcc_gene over the thirds of the genes by training mean: high, middle, low.
        strata: pcc_gene within each labelled stratum of at least 50 units.
    """

    slide: str
    patient: str
    units: int
    genes: int
    genes_left_out: int
    constant: int
    pcc_gene: float
    pcc_gene_hvg50: float
    pcc_bin: float
    mse: float
    mae: float
    mse_skill: float
    range_um: float
    patch_um: float
    blocks: int
    block_um: float
    units_left_out: dict[str, int] = field(default_factory=dict)
    flat_units: int = 0
    pcc_gene_depth: float | None = None
    classes: dict[str, float] = field(default_factory=dict)
    strata: dict[str, float] = field(default_factory=dict)
    ceiling: CeilingScores | None = None
    spatial: SpatialScores | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneSums:
    """Moments of one test slide over the G genes of the panel, by bootstrap block.

    Attributes:
        scored: Genes that vary enough on the slide to be scored, [G].
        mean250: Genes of the headline set, [G].
        hvg50: Genes of the most variable set, [G].
    """

    moments: Moments
    scored: BoolArray
    mean250: BoolArray
    hvg50: BoolArray


def save_json(path: Path, value: object) -> None:
    """Write a dataclass, or anything that JSON knows, with sorted keys."""
    text = json.dumps(value, indent=1, sort_keys=True, default=asdict)
    path.write_text(text + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Read a JSON file.

    Raises:
        DataError: If it is not there or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: {error}; remove its folder and run again"
        raise DataError(msg) from error


def load_record(folder: Path) -> Record:
    """Read a cell's record."""
    return build(Record, load_json(folder / "record.json"), str(folder / "record.json"))


def load_scores(folder: Path) -> tuple[SlideScores, ...]:
    """Read a cell's scores, one entry a test slide."""
    found = load_json(folder / SCORES_FILE)
    return tuple(build(SlideScores, entry, str(folder / SCORES_FILE)) for entry in found["slides"])


def scored_genes(folder: Path) -> tuple[str, ...]:
    """Ids of the genes that a cell predicted, in the order of its moments."""
    return tuple(load_json(folder / SCORES_FILE).get("genes", ()))


def scores_version(folder: Path) -> int:
    """Version of the code that made a cell's scores (`SCORES`)."""
    return int(load_json(folder / SCORES_FILE)["version"])


def save_moments(path: Path, sums: Mapping[str, GeneSums]) -> None:
    """Write moments by slide.

    They are made in float64 and stored as float32, which halves what is committed; the loss is
    1e-7 of a slide-centred sum.
    """
    arrays: dict[str, Any] = {}
    for slide, values in sums.items():
        arrays |= {f"{slide}/{name}": getattr(values, name) for name in MASKS}
        for item in fields(Moments):
            arrays[f"{slide}/{item.name}"] = getattr(values.moments, item.name).astype(np.float32)
    np.savez_compressed(path, **arrays)


def load_moments(folder: Path) -> dict[str, GeneSums]:
    """Read moments by slide, as float64."""
    with np.load(folder / "moments.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    out = {}
    for name in dict.fromkeys(name.rsplit("/", 1)[0] for name in arrays):
        parts = {f.name: arrays[f"{name}/{f.name}"].astype(np.float64) for f in fields(Moments)}
        masks = {mask: arrays[f"{name}/{mask}"] for mask in MASKS}
        out[name] = GeneSums(moments=Moments(**parts), **masks)
    return out
