"""Small prepared slides with a known answer, made from nothing: what models are tried on.

Gene BRIGHT is the brightness of the picture under the unit, NOISE is unrelated to it, CONSTANT is the
same everywhere; a filler keeps library sizes alike. PLACE, if asked for, follows the unit's place.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import sparse

from hdstbench.arrays import FloatArray, IntArray, Pixels
from hdstbench.data.card import SampleCard
from hdstbench.data.counts import Genes, MemoryCounts
from hdstbench.data.geometry import Affine
from hdstbench.data.levels import BASE_UM, resolution
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.data.sample import Sample
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.target import find_target
from hdstbench.rng import stream

BRIGHT, NOISE, CONSTANT, PLACE = "BRIGHT", "NOISE", "CONSTANT", "PLACE"
GENES = (BRIGHT, NOISE, CONSTANT)
FILL = 400
MPP = 2.0
"""Coarse pixels keep these slides small: a unit's patch of 28 um has 14 px."""
GREY_PX = 14
"""The picture's brightness changes over about so many pixels."""
SWING_UM = 800.0
"""PLACE goes up and down once over this distance."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A prepared slide with planted genes, and its folder."""

    folder: Path
    slide: Slide


def make_slide(
    folder: Path,
    name: str,
    *,
    seed: int = 0,
    side_um: int = 512,
    turn: float = 0.0,
    res: str = "16um",
    genes: tuple[str, ...] = GENES,
) -> Planted:
    """Write and open a prepared slide, patient and all.

    Args:
        folder: Where to write; the slide lies in a folder of its own below.
        name: Of the slide; its patient is named after it.
        seed: With the name, of everything that is drawn.
        side_um: Side of the square of tissue.
        turn: Radians by which the tissue is turned in the picture.
        res: Resolution; bins of 8 um, 55 um, or a multiple of 8 um.
        genes: The panel; gene PLACE is planted if it is in it.
    """
    rng = stream("test-slide", name, seed)
    picture = _picture(rng, int(side_um / MPP * 1.6))
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{name}.png"
    Image.fromarray(picture).save(image)
    tissue = _Tissue(name=name, side_um=side_um, turn=turn, image=image)
    base = tissue.sample(picture, rng, place=PLACE in genes)
    unit = base if res in ("8um", "55um") else tissue.coarser(base, int(res.removesuffix("um")))
    out = folder / f"{name}-{res}"
    out.mkdir()
    card = SampleCard(id=name, patient=f"patient-{name}", path="")
    write_slide(out, unit, base, card, Recipe(res=resolution(res), mpp=MPP))
    return Planted(out, open_slide(out, genes, find_target("log1p-cp10k")))


def affine(bin_um: float, side_um: float, turn: float) -> Affine:
    """Mirrored and turned by `turn` radians around the middle of the picture; (column, row) to px."""
    middle = side_um * 0.8 / MPP
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([1.0, -1.0]) * bin_um / MPP
    centre = np.array([side_um / bin_um / 2 - 0.5] * 2)
    return Affine(np.column_stack([matrix, np.array([middle, middle]) - matrix @ centre]))


def _picture(rng: np.random.Generator, side: int) -> Pixels:
    """A smooth random field of grey."""
    coarse = rng.uniform(40, 215, (side // GREY_PX + 2, side // GREY_PX + 2)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    return np.repeat(grey[:, :, None], 3, axis=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tissue:
    """A square of tissue in a picture."""

    name: str
    side_um: int
    turn: float
    image: Path

    def sample(self, picture: Pixels, rng: np.random.Generator, *, place: bool) -> Sample:
        """Bins of 8 um, in random order, with planted counts."""
        side = self.side_um // BASE_UM
        grid = rng.permutation(np.argwhere(np.ones((side, side), bool)))
        xy = affine(BASE_UM, self.side_um, self.turn)(grid[:, ::-1].astype(float))
        grey = picture[xy[:, 1].astype(int), xy[:, 0].astype(int), 0] / 255
        columns = [
            rng.poisson(FILL * grey),
            rng.poisson(FILL / 4, len(grid)),
            np.full(len(grid), 30),
            rng.poisson(FILL * (1.5 - grey)),
        ]
        if place:
            share = _swing(xy * MPP)
            columns.append(rng.poisson(FILL * share))
            columns[3] = columns[3] + rng.poisson(FILL * (1.5 - share))
        counts = np.stack(columns, axis=1).astype(np.int32)
        return self._sample(BASE_UM, grid, counts)

    def coarser(self, base: Sample, bin_um: int) -> Sample:
        """Sum bins of 8 um."""
        assert isinstance(base.counts, MemoryCounts)
        side = self.side_um // bin_um
        parent = base.grid // (bin_um // BASE_UM)
        number = parent[:, 0] * side + parent[:, 1]
        pick = sparse.csr_array((np.ones(len(number), np.int32), (number, np.arange(len(number)))))
        return self._sample(bin_um, np.argwhere(np.ones((side, side), bool)), pick @ base.counts.matrix)

    def _sample(self, bin_um: int, grid: IntArray, counts: IntArray | sparse.csr_array) -> Sample:
        to_px = affine(bin_um, self.side_um, self.turn)
        names = (*GENES, "FILLER", PLACE)[: counts.shape[1]]
        return Sample(
            id=self.name,
            unit_um=bin_um,
            mpp=MPP,
            grid=grid,
            xy_px=to_px(grid[:, ::-1].astype(float)),
            to_px=to_px,
            grid_shape=(self.side_um // bin_um,) * 2,
            counts=MemoryCounts(sparse.csr_array(counts), Genes(ids=names, symbols=names)),
            image=self.image,
            sources=(self.image,),
        )


def _swing(xy_um: FloatArray) -> FloatArray:
    """What PLACE follows, in [0.3, 1.1], of places [N, 2]."""
    phase = 2 * np.pi * (xy_um[:, 0] + 0.5 * xy_um[:, 1]) / SWING_UM
    return np.asarray(0.7 + 0.4 * np.sin(phase))
