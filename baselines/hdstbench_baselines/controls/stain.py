"""Ridge on colour and nuclear density: what can be predicted without any learnt image feature.

Stains are separated as in Ruifrok & Johnston, "Quantification of histochemical staining by color
deconvolution", Analytical and Quantitative Cytology and Histology 23, 2001.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage
from typing_extensions import override

from hdstbench.arrays import BoolArray, FloatArray, Pixels
from hdstbench.plugins.plugin import ModelPlugin, Progress
from hdstbench.protocol.slide import UNIT, Slide
from hdstbench_baselines.controls.linear import LinearModel, Table, table
from hdstbench_baselines.controls.ridge import PAPER, PENALTY

HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
"""Optical density of each stain in red, green and blue: Ruifrok & Johnston 2001, table of absorptions."""
VERSION = 1
"""Raised when the features change; part of their name in the cache."""
CHUNK_PIXELS = 4_000_000
QUANTILES = (10, 50, 90)


@dataclass(frozen=True, slots=True, kw_only=True)
class StainConfig:
    """What is measured.

    Attributes:
        mpp: Patches with finer pixels are averaged to at least half of this, um a pixel.
        background: Pixels whose mean optical density is lower are background.
        dense: Densities of haematoxylin from which on a pixel is called nuclear; the middle one
            tells nuclei apart.
        smooth_um: Haematoxylin is averaged over squares of this side before nuclei are told apart.
    """

    mpp: float = 0.5
    background: float = 0.05
    dense: tuple[float, float, float] = (0.15, 0.3, 0.45)
    smooth_um: float = 2.0


class Stain(LinearModel):
    """Predict each gene linearly from colours, stains and nuclei in the unit's patch."""

    def __init__(self, config: StainConfig) -> None:
        super().__init__()
        self.config = config

    @override
    def features(self, slides: Sequence[Slide]) -> list[Table]:
        return [table(self._cached(slide)[slide.rows(UNIT)]) for slide in slides]

    def _cached(self, slide: Slide) -> FloatArray:
        """Features of all prepared units of a slide, computed once for all folds."""
        key = json.dumps([VERSION, slide.key, asdict(self.config)])
        path = self.context.cache / f"stain-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
        if not path.is_file():
            self.context.report(Progress(share=0.0, stage=f"stains of {slide.id}"))
            part = path.with_suffix(f".part{os.getpid()}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.save(file, np.concatenate(list(self._chunks(slide.whole()))))
            part.rename(path)
        return np.asarray(np.load(path))

    def _chunks(self, slide: Slide) -> Iterator[FloatArray]:
        step = max(1, CHUNK_PIXELS // slide.patch_px[UNIT] ** 2)
        for start in range(0, len(slide), step):
            index = np.arange(start, min(start + step, len(slide)))
            yield measure(slide.patches(UNIT, index), slide.mpp, slide.unit_um, self.config)


def measure(patches: Pixels, mpp: float, unit_um: float, config: StainConfig) -> FloatArray:
    """Measure colours, stains and nuclei of each patch by itself.

    Args:
        patches: [B, S, S, 3].
        mpp: um a pixel.
        unit_um: Side of the unit in the middle of the patch.
        config: What is measured.

    Returns:
        float32 [B, F], finite for any patch, white ones too.
    """
    factor = max(1, int(config.mpp / mpp + 1e-6))
    fine = _averaged(patches, factor)
    shape = fine.shape
    density = -np.log10((fine + 1) / 256).reshape(len(fine), 3, -1)
    stain = (_unmixing() @ density).reshape(shape)
    middle = _middle(shape[-1], unit_um / (mpp * factor))
    smooth = max(1, round(config.smooth_um / (mpp * factor)))
    columns = [
        *_moments(fine / 255),
        *_moments(stain),
        *_quantiles(stain[:, :2]),
        _mean(fine[..., middle, middle] / 255),
        _mean(stain[..., middle, middle]),
        (density.mean(axis=1) < config.background).mean(axis=1)[:, None],
        *_nuclei(stain[:, 0], middle, smooth, config.dense),
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _averaged(patches: Pixels, factor: int) -> FloatArray:
    """Average squares of pixels into planes, [B, 3, s, s]; what is left at two edges is cut off."""
    planes = np.ascontiguousarray(patches.transpose(0, 3, 1, 2), np.float32)
    factor = min(factor, planes.shape[-1])
    side = planes.shape[-1] // factor
    parts = [
        planes[..., i : side * factor : factor, j : side * factor : factor]
        for i in range(factor)
        for j in range(factor)
    ]
    return np.asarray(sum(parts[1:], parts[0]) / factor**2)


def _unmixing() -> FloatArray:
    """Matrix from optical densities to haematoxylin, eosin and what is neither, [3, 3]."""
    h, e = (np.array(v) / np.linalg.norm(v) for v in (HAEMATOXYLIN, EOSIN))
    rest = np.cross(h, e)
    return np.linalg.inv(np.stack([h, e, rest / np.linalg.norm(rest)], axis=1)).astype(np.float32)


def _middle(side: int, wanted: float) -> slice:
    """The pixels of the unit itself; at least one, at most all."""
    size = int(np.clip(round(wanted), 1, side))
    return slice((side - size) // 2, (side - size) // 2 + size)


def _mean(planes: FloatArray) -> FloatArray:
    """Mean over pixels, [B, C, s, s] -> [B, C]."""
    return np.asarray(planes.reshape(*planes.shape[:2], -1).mean(axis=-1))


def _moments(planes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation over pixels, [B, C] each."""
    return _mean(planes), planes.reshape(*planes.shape[:2], -1).std(axis=-1)


def _quantiles(planes: FloatArray) -> list[FloatArray]:
    """Quantiles over pixels, [B, C] each."""
    flat = planes.reshape(*planes.shape[:2], -1)
    places = [round(q / 100 * (flat.shape[-1] - 1)) for q in QUANTILES]
    ranked = np.partition(flat, places, axis=-1)
    return [ranked[..., place] for place in places]


def _nuclei(
    haematoxylin: FloatArray, middle: slice, smooth: int, dense: tuple[float, float, float]
) -> Iterator[FloatArray]:
    """Shares of dense pixels in the patch and in its middle, then count and size of nuclei, [B, 1] each.

    Nuclei are connected dense pixels of the smoothed image; sizes are shares of the patch.
    """
    soft = ndimage.uniform_filter(haematoxylin, size=(0, smooth, smooth), mode="nearest")
    for level in dense:
        yield (soft > level).mean(axis=(1, 2))[:, None]
        yield (soft[:, middle, middle] > level).mean(axis=(1, 2))[:, None]
    count, mean, largest = _components(soft > dense[1])
    yield np.stack([count, mean, largest], axis=1)


def _components(mask: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Number, mean and largest share of the connected parts of each image, [B] each."""
    apart = np.zeros((3, 3, 3), bool)
    apart[1] = ndimage.generate_binary_structure(2, 1)
    labels, number = ndimage.label(mask, apart)
    pixels = mask[0].size
    size = np.bincount(labels.ravel(), minlength=number + 1)[1:] / pixels
    flat, image = labels.ravel(), np.zeros(number, np.int64)
    inside = np.flatnonzero(flat)
    image[flat[inside] - 1] = inside // pixels
    count = np.bincount(image, minlength=len(mask)).astype(np.float64)
    mean = np.bincount(image, size, minlength=len(mask)) / np.maximum(count, 1)
    largest = np.zeros(len(mask))
    np.maximum.at(largest, image, size)
    return count, mean, largest


PLUGIN = ModelPlugin(
    name="stain",
    kind="control",
    context="unit",
    recipes=dict.fromkeys(("official", "tuned", "common", "quick", "tiny"), StainConfig()),
    build=Stain,
    paper="Ruifrok & Johnston 2001 (colour deconvolution); " + PAPER,
    licence="Apache-2.0",
    notes=(
        "The solver of ridge on 34 hand-made features of the unit's patch: mean and spread of colours and of "
        "haematoxylin and eosin, quantiles of the stains, all means again in the unit itself, share of "
        "background, and share, number and size of what is dense in haematoxylin. Stain vectors are the "
        "published ones for every slide, not fitted to it. " + PENALTY
    ),
    exceptions={"other-seed": "nothing is drawn"},
)
