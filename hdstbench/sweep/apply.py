"""Apply a kept model to a slide that nobody measured: part by part, so that memory and disk stay small."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import cast

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.image import MAX_UPSAMPLING, SlideImage
from hdstbench.data.levels import Resolution, resolution
from hdstbench.data.pack import Scale, write_pixels
from hdstbench.data.prepared import forget
from hdstbench.data.scan import Places, chunks, units_at
from hdstbench.data.surroundings import load_surroundings
from hdstbench.errors import DataError
from hdstbench.plugins.plugin import Precision, RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.protocol.slide import Shape, Slide, open_hidden
from hdstbench.sweep.device import set_policy
from hdstbench.sweep.kept_model import KeptModel, context_of, load_kept_model
from hdstbench.sweep.score import check_predictions
from hdstbench.sweep.values import Values

PART_UNITS = 8192
"""Units that are cut out and predicted at once, in whole blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A slide's image: um a pixel, and its name."""

    image: SlideImage
    mpp: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A slide, where its units lie, what a unit is, and which of them are predicted together, in order."""

    picture: Picture
    places: Places
    res: Resolution
    parts: tuple[IntArray, ...]


def lay_out(kept: KeptModel, picture: Picture, places: Places, res: Resolution) -> Scene:
    """Part the units of a slide into those that are predicted together, and order them so.

    Parts are whole blocks where a prediction depends on a unit or its block alone; a model that looks
    at the whole slide gets all at once.
    """
    whole = load_model(kept.plugin).context == "slide"
    parts = list(chunks(places, res.block_um, 0 if whole else PART_UNITS))
    ordered = places.take(np.concatenate(parts))
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    return Scene(
        picture=picture, places=ordered, res=res, parts=tuple(np.split(np.arange(len(ordered)), cuts))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a model is applied: where, on which device, and with which weights if they have been moved."""

    model: Path
    kept: KeptModel
    device: str
    weights: str = ""


def units_of(kept: KeptModel, to: str) -> Resolution:
    """What a unit is: as the model was trained, or squares of another size with the same patches.

    Raises:
        DataError: If the model is of spots that lie apart, which have no other size.
    """
    res = kept.level()
    if not to or to == res.name:
        return res
    other = resolution(to)
    if not res.block_um:
        msg = f"--to {to}: the model is of spots {res.unit.side_um:g} um apart, which have no other size"
        raise DataError(msg)
    if (res.block_um / other.unit.side_um) % 1:
        msg = f"--to {to}: blocks of {res.block_um:g} um hold no whole number of them; take 2um, 8um or 16um"
        raise DataError(msg)
    return replace(res, name=other.name, unit=replace(res.unit, side_um=other.unit.side_um))


def check_scale(kept: KeptModel, picture: Picture) -> None:
    """The picture has to be as fine as the model's patches.

    Raises:
        DataError: If it is not.
    """
    if picture.mpp / kept.mpp > MAX_UPSAMPLING:
        msg = (
            f"{picture.name} has {picture.mpp:.4f} um a pixel, the model wants {kept.mpp:g}: enlarging by "
            f"more than {MAX_UPSAMPLING} invents detail; give a finer image, or --mpp if that is wrong"
        )
        raise DataError(msg)


def apply_model(how: How, scene: Scene, out: Values, told: Callable[[int], None]) -> FloatArray:
    """Predict all units of a slide, part by part.

    Args:
        how: The model.
        scene: The slide.
        out: Takes the predictions in the space of the model's target, [N, G].
        told: Is called after each part, with how many units are done.

    Returns:
        Share of each unit's patch that lies outside of the picture, float32 [N].
    """
    set_policy(how.device, cast(Precision, how.kept.precision), deterministic=False)
    pad, done = np.zeros(len(scene.places), np.float32), 0
    for index in scene.parts:
        with tempfile.TemporaryDirectory(prefix="hdstbench-predict-") as name:
            folder = Path(name)
            slide = _cut(folder, how.kept, scene, index)
            out.append(check_predictions(slide, _predict(how, folder, slide)))
            pad[index] = slide.pad_fraction("unit")
        forget()
        load_surroundings.cache_clear()
        done += len(index)
        told(done)
    return pad


def _predict(how: How, folder: Path, slide: Slide) -> FloatArray:
    """The model is loaded for each part, so that it keeps nothing of earlier ones."""
    scratch = folder / "scratch"
    scratch.mkdir()
    context: RunContext = context_of(how.kept, scratch, device=how.device, weights=how.weights)
    return load_kept_model(how.model, how.kept, context).predict(slide)


def _cut(folder: Path, kept: KeptModel, scene: Scene, index: IntArray) -> Slide:
    """Write the pixels of a part of the slide, and view them."""
    picture, res = scene.picture, scene.res
    pixels, digest = folder / "slide" / "pixels", blake2b(digest_size=16)
    pixels.mkdir(parents=True)
    sides = dict(kept.patch_px)
    scale = Scale(picture.mpp, kept.mpp, sides)
    try:
        write_pixels(pixels, picture.image, units_at(scene.places, index, res), scale, digest)
    except OSError as error:
        msg = f"cannot write below {tempfile.gettempdir()} ({error.strerror}); free space or set TMPDIR"
        raise DataError(msg) from error
    shape = Shape(
        id=picture.name,
        genes=kept.genes,
        target=kept.target,
        patch_px=sides,
        mpp=kept.mpp,
        unit_um=res.unit.side_um,
        key=digest.hexdigest(),
        size_px=tuple(side * picture.mpp / kept.mpp for side in picture.image.size),
    )
    return open_hidden(pixels, shape)
