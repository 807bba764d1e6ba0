"""What a model predicts of a whole slide, as AnnData and as a picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hdstbench import __version__
from hdstbench.arrays import FloatArray
from hdstbench.data.overview import Overview
from hdstbench.sweep.apply import Scene
from hdstbench.sweep.kept_model import KeptModel
from hdstbench.sweep.values import Values

LOW, HIGH = 2, 98
"""Percentiles of the predictions that a colour scale spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Predictions of N units of a slide.

    Attributes:
        values: In the space of the model's target, [N, G].
        pad: Share of each patch outside of the picture, [N].
        view: A small picture of the slide.
    """

    kept: KeptModel
    scene: Scene
    values: Values
    pad: FloatArray
    view: Overview


def write_predicted(path: Path, found: Predicted, aside: Path) -> None:
    """Write an .h5ad that scanpy and squidpy plot as a spatial data set; aside first, then renamed.

    X is in the space of the model's target; `uns["hdstbench"]` says which and by what model.
    """
    from anndata import AnnData  # noqa: PLC0415 - slow to import

    kept, places, picture = found.kept, found.scene.places, found.scene.picture
    mpp, unit_um = picture.mpp, found.scene.res.unit.side_um
    names = [f"{row}x{column}" for row, column in places.grid.tolist()]
    obs = pd.DataFrame(
        {
            "array_row": places.grid[:, 0],
            "array_col": places.grid[:, 1],
            "x_um": places.xy_um[:, 0],
            "y_um": places.xy_um[:, 1],
            "pad_fraction": found.pad,
        },
        index=names,
    )
    var = pd.DataFrame({"symbol": list(kept.symbols)}, index=list(kept.genes))
    adata = AnnData(obs=obs, var=var, obsm={"spatial": places.xy_um / mpp})
    adata.uns["hdstbench"] = _said(found)
    adata.uns["spatial"] = {
        picture.name: {
            "images": {"hires": found.view.pixels},
            "scalefactors": {
                "tissue_hires_scalef": mpp / found.view.step_um,
                "spot_diameter_fullres": unit_um / mpp,
            },
        }
    }
    part = aside / path.name
    adata.write_h5ad(part)
    _add_values(part, found.values)
    part.rename(path)


def _add_values(path: Path, values: Values) -> None:
    """Write X a part at a time, as AnnData's format has it."""
    with h5py.File(path, "r+") as file:
        shape = (len(values), values.genes)
        x = file.create_dataset("X", shape, np.float32)
        x.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        begin = 0
        for part in values.parts():
            x[begin : begin + len(part)] = part
            begin += len(part)


def _said(found: Predicted) -> dict[str, str]:
    kept = found.kept
    return {
        "version": __version__,
        "model": kept.row,
        "origin": kept.origin,
        "recipe": kept.recipe,
        "encoder": kept.encoder,
        "flags": ", ".join(kept.flags),
        "target": kept.target.name,
        "target_words": kept.target.words,
        "trained_at": kept.resolution,
        "trained_on": ", ".join(kept.train),
        "training_data": "simulated" if kept.simulated else "measured",
        "units": found.scene.res.name,
        "slide": found.scene.picture.name,
        "mpp": f"{found.scene.picture.mpp:g}",
        "task": json.dumps(kept.task, sort_keys=True),
    }


def draw_predicted(path: Path, found: Predicted, genes: Sequence[int]) -> None:
    """Draw the slide and maps of some genes, each with its own colour scale."""
    figure = Figure(figsize=(3.6 * (len(genes) + 1), 4.2), layout="constrained")
    axes = figure.subplots(1, len(genes) + 1, squeeze=False)[0]
    view = found.view
    extent = (0.0, view.pixels.shape[1] * view.step_um, view.pixels.shape[0] * view.step_um, 0.0)
    axes[0].imshow(view.pixels, extent=extent)
    axes[0].set_title(found.scene.picture.name, fontsize=10)
    columns = found.values.columns(genes)
    for axis, gene, values in zip(axes[1:], genes, columns.T, strict=True):
        colours = _draw_gene(axis, found, values, extent)
        axis.set_title(found.kept.symbols[gene], fontsize=10)
        figure.colorbar(colours, ax=axis, shrink=0.7, label=found.kept.target.name)
    for axis in axes:
        axis.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        axis.axis("off")
    data = "simulated slides" if found.kept.simulated else "slides"
    figure.suptitle(
        f"Predicted by {found.kept.row}, trained on {data} of {found.kept.task['dataset']}; not measured",
        fontsize=10,
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_gene(axis: Axes, found: Predicted, values: FloatArray, extent: tuple[float, ...]) -> ScalarMappable:
    low, high = (float(v) for v in np.percentile(values, [LOW, HIGH]))
    colours = ScalarMappable(Normalize(low, high if high > low else low + 1), "viridis")
    view, side = found.view, found.scene.res.unit.side_um
    step = max(view.step_um, side)
    shape = (int(extent[2] / step) + 1, int(extent[1] / step) + 1)
    at = (found.scene.places.xy_um / step).astype(int).clip(0, np.array(shape)[::-1] - 1)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (at[:, 1], at[:, 0]), values)
    np.add.at(count, (at[:, 1], at[:, 0]), 1)
    with np.errstate(invalid="ignore"):
        image = colours.to_rgba(np.ma.masked_invalid(total / count))
    axis.imshow(image, extent=(0, shape[1] * step, shape[0] * step, 0), interpolation="nearest")
    return colours
