"""Apply a kept model to a whole slide: places, predictions, a file and a map."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hdstbench.cli.predicted import Predicted, draw_predicted, write_predicted
from hdstbench.cli.view import make_view
from hdstbench.data.image import open_image
from hdstbench.data.levels import Resolution
from hdstbench.data.overview import Overview
from hdstbench.data.picture import image_facts
from hdstbench.data.scan import Places, lay_grid, look_at, read_places, tissue_mask
from hdstbench.errors import DataError, MissingError
from hdstbench.sweep.apply import How, Picture, apply_model, check_scale, lay_out, units_of
from hdstbench.sweep.device import choose_device
from hdstbench.sweep.kept_model import KeptModel, find_kept
from hdstbench.sweep.values import Values

SHOWN = 3
LARGEST_MPP = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Options of `hdstbench predict`."""

    model: Path
    slide: Path
    output: Path
    mpp: str = "auto"
    to: str = ""
    tissue: str = "auto"
    places: Path | None = None
    genes: tuple[str, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    weights: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Asked":
        """From the command line."""
        return cls(**{name: value for name, value in given.items() if value is not None})


def execute(asked: Asked) -> Iterator[str]:
    """Predict a slide; what to print.

    Raises:
        HdstError: If model, slide or options are not what they have to be; nothing is written then.
    """
    _check_output(asked.output)
    model, kept = find_kept(asked.model)
    res = units_of(kept, asked.to)
    shown = _columns(asked.genes, kept)
    mpp, source = _mpp(asked)
    picture = Picture(image=open_image(asked.slide), mpp=mpp, name=asked.slide.stem)
    check_scale(kept, picture)
    view = look_at(picture.image, mpp)
    places = _places(asked, picture, res, view)
    scene = lay_out(kept, picture, places, res)
    width, height = picture.image.size
    yield f"slide: {asked.slide.name}, {width} x {height} px at {mpp:.4f} um a pixel ({source})"
    yield f"units: {len(places):,} of {res.unit.side_um:g} um, patches at {kept.mpp:g} um a pixel"
    yield _model_line(kept, res)
    device = choose_device(asked.device)
    how = How(model=model, kept=kept, device=device, weights=asked.weights)
    with tempfile.TemporaryDirectory(dir=asked.output.absolute().parent, prefix=".predict-") as folder:
        out = Values(Path(folder) / "values", len(kept.genes))
        with make_view(as_json=False).stage("predicting", len(scene.parts)) as advance:
            pad = apply_model(how, scene, out, lambda done: advance(f"{done:,} of {len(places):,} units"))
        found = Predicted(kept=kept, scene=scene, values=out, pad=pad, view=view)
        write_predicted(asked.output, found, Path(folder))
        drawn = asked.output.with_suffix(".png")
        draw_predicted(drawn, found, shown or _varied(out))
    yield f"predictions: {asked.output}"
    yield f"map:         {drawn}"


def _check_output(path: Path) -> None:
    if path.suffix != ".h5ad":
        msg = f"-o {path}: wanted a name that ends in .h5ad"
        raise DataError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"-o {path}: there is no folder {path.absolute().parent}; make it first"
        raise MissingError(msg)


def _mpp(asked: Asked) -> tuple[float, str]:
    """Um a pixel of the slide, and where that is from."""
    if asked.mpp != "auto":
        try:
            mpp = float(asked.mpp)
        except ValueError:
            mpp = 0.0
        if not 0 < mpp <= LARGEST_MPP:
            msg = f"--mpp {asked.mpp}: wanted auto, or um a pixel above 0 and up to {LARGEST_MPP:g}"
            raise DataError(msg)
        return mpp, "as given"
    facts = image_facts(asked.slide)
    if facts.tag_um is None or facts.placeholder or not 0 < facts.tag_um <= LARGEST_MPP:
        what = "no um a pixel" if facts.tag_um is None else f"{facts.tag_um:.4g} um a pixel, no scan's"
        msg = f"{asked.slide} says {what}; give --mpp, such as 0.25 for a 40x scan"
        raise DataError(msg)
    return facts.tag_um, "as the file says"


def _places(asked: Asked, picture: Picture, res: Resolution, view: Overview) -> Places:
    if asked.places is not None:
        if not asked.places.is_file():
            msg = f"--places {asked.places}: no such file; wanted a tissue_positions.parquet"
            raise MissingError(msg)
        return read_places(asked.places, picture.mpp, res.unit.side_um)
    size = np.array(picture.image.size) * picture.mpp
    mask = tissue_mask(view) if asked.tissue == "auto" else None
    return lay_grid(size, res.unit.side_um, view, mask)


def _columns(genes: tuple[str, ...], kept: KeptModel) -> list[int]:
    """Columns of genes by id or symbol."""
    found = []
    for gene in genes:
        names = kept.genes if gene in kept.genes else kept.symbols
        if gene not in names:
            msg = f"--genes {gene}: not among the {len(kept.genes)} genes that the model predicts"
            raise MissingError(msg)
        found.append(names.index(gene))
    return found


def _varied(values: Values) -> list[int]:
    """Genes whose predictions vary most over the slide."""
    return [int(gene) for gene in np.argsort(-values.spread(), kind="stable")[:SHOWN]]


def _model_line(kept: KeptModel, res: Resolution) -> str:
    task = kept.task
    what = "SIMULATED slides" if kept.simulated else "slides"
    other = ""
    if res.name != kept.resolution:
        other = f"; trained on units of {kept.resolution}, applied to {res.name}: no score says how well"
    return (
        f"model: {kept.row}, recipe {kept.recipe}, trained on {what} {', '.join(kept.train)} of "
        f"{task['dataset']} at {kept.resolution}, {len(kept.genes)} genes, target {kept.target.name}{other}"
    )
