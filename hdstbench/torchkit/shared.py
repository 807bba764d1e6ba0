"""Features of neighbouring units from one pass of a network over all of their pixels.

Patches of bins overlap: at 8 um each pixel lies in a dozen of them, and a network that looks at one patch
after the other computes as often. Here it sees the area of a block's units once; a unit's feature is the mean
of the feature map over its patch. That is not the same feature: at its edges a patch then has its neighbours,
where a patch on its own has a network's padding. `benchmarks/dense.py` says how much that is, and what it
saves.

B units, D features, h x w places of a map.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hdstbench.arrays import FloatArray, IntArray, Pixels
from hdstbench.errors import DataError
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import to_tensor
from hdstbench.torchkit.encoders import Encoder

STRIDE = 32
"""Pixels that a place of the map stands for, in common networks; areas are filled up to whole places."""
NO_MAP = "features of a block at once need a convolutional network, which this encoder is not"


@dataclass(frozen=True, slots=True)
class Area:
    """Pixels of some units, uint8 [H, W, 3], and left and top corners of their patches there, [B, 2]."""

    pixels: Pixels
    corner: IntArray


def block_features(encoder: Encoder, slide: Slide, device: str) -> Iterator[tuple[IntArray, FloatArray]]:
    """Encode the patches of all units of a view, a block at a time.

    A feature depends on which units of its block the view holds, as they bound what the network sees: give
    it `Slide.whole()` and choose rows of what comes out.

    Args:
        encoder: A convolutional network, on the device and in evaluation mode.
        slide: Whose units.
        device: Where the encoder is.

    Yields:
        Units of a block, [B], and their features, float32 [B, D].

    Raises:
        DataError: If the encoder has no map that follows its input, as a vision transformer has none.
    """
    if encoder.input_px:
        raise DataError(NO_MAP)
    for units in slide.blocks():
        yield units, _encode_block(encoder, area_of(slide, units), slide.patch_px["unit"], device)


def _encode_block(encoder: Encoder, area: Area, side: int, device: str) -> FloatArray:
    with torch.inference_mode():
        maps = encoder.map(to_tensor(area.pixels[None], device))
        if maps is None:
            raise DataError(NO_MAP)
        with torch.autocast(device, enabled=False):  # shares of places stay exact
            return np.asarray(box_means(maps[0].float(), area, side).cpu().numpy())


def area_of(slide: Slide, units: IntArray) -> Area:
    """The smallest rectangle of a block's image that holds the patches of some of its units.

    It is filled up to whole places of the map, at the right and the bottom, by its last pixels.
    """
    image, corner = slide.block_image(units)
    low = corner.min(axis=0)
    right, bottom = corner.max(axis=0) + slide.patch_px["unit"]
    pixels = np.asarray(image[low[1] : bottom, low[0] : right])
    fill = [(0, -side % STRIDE) for side in pixels.shape[:2]]
    return Area(np.pad(pixels, (*fill, (0, 0)), mode="edge"), corner - low)


def box_means(features: Tensor, area: Area, side: int) -> Tensor:
    """Mean of a map over each unit's patch, places that lie in it in part counting in part.

    Args:
        features: The map, [D, h, w].
        area: What it is a map of.
        side: Of a patch, pixels.

    Returns:
        [B, D].
    """
    high, wide = area.pixels.shape[:2]
    rows = _shares(area.corner[:, 1], side, high / features.shape[1], features.shape[1]).to(features)
    cols = _shares(area.corner[:, 0], side, wide / features.shape[2], features.shape[2]).to(features)
    along = torch.einsum("bh,dhw->bdw", rows, features)
    return torch.einsum("bdw,bw->bd", along, cols)


def _shares(start: IntArray, side: int, step: float, count: int) -> Tensor:
    """Share of each of `count` places in patches that start somewhere, [B, count]; a row adds up to 1."""
    edges = np.arange(count + 1) * step
    inside = np.minimum(edges[1:], start[:, None] + side) - np.maximum(edges[:-1], start[:, None])
    return torch.from_numpy(np.clip(inside, 0, None) / side).float()
