"""Small slides with a known answer, and a way to type commands."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import sparse

from hdstbench.data.card import SampleCard
from hdstbench.data.counts import Counts, Genes, MemoryCounts, picks_rows
from hdstbench.data.geometry import Affine
from hdstbench.data.levels import resolution
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.data.sample import Sample
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.target import find_target
from hdstbench.rng import stream

GENES = ("BRIGHT", "NOISE", "CONSTANT")
FILL = 400
MPP = 2.0
"""Coarse pixels keep these slides small: a unit's patch of 28 um has 14 px."""


@dataclass(frozen=True)
class Planted:
    """A prepared slide of bins whose gene BRIGHT is the brightness of the picture under the bin."""

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
    """Write and open a prepared slide.

    The picture is a smooth random grey field. Gene BRIGHT follows it, NOISE follows nothing,
    CONSTANT is the same everywhere, and a filler gene keeps the library size at about 2 x FILL.
    """
    rng = stream("test-slide", name, seed)
    picture = _picture(rng, int(side_um / MPP * 1.6))
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{name}.png"
    Image.fromarray(picture).save(image)
    base = _sample(name, 8, side_um, turn, image, picture, rng)
    unit = base if res in ("8um", "55um") else _coarser(base, int(res.removesuffix("um")), turn)
    out = folder / f"{name}-{res}"
    out.mkdir()
    card = SampleCard(id=name, patient=f"patient-{name}", path="")
    write_slide(out, unit, base, card, Recipe(res=resolution(res), mpp=MPP))
    return Planted(out, open_slide(out, genes, find_target("log1p-cp10k")))


def _picture(rng: np.random.Generator, side: int) -> np.ndarray:
    coarse = rng.uniform(40, 215, (side // 14 + 2, side // 14 + 2)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    return np.repeat(grey[:, :, None], 3, axis=2)


def affine(bin_um: float, side_um: float, turn: float) -> Affine:
    """Mirrored and turned by `turn` radians around the middle of the picture; (column, row) to px."""
    middle = side_um * 0.8 / MPP
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([1.0, -1.0]) * bin_um / MPP
    centre = np.array([side_um / bin_um / 2 - 0.5] * 2)
    return Affine(np.column_stack([matrix, np.array([middle, middle]) - matrix @ centre]))


def _sample(
    name: str,
    bin_um: int,
    side_um: int,
    turn: float,
    image: Path,
    picture: np.ndarray,
    rng: np.random.Generator,
) -> Sample:
    side = side_um // bin_um
    grid = rng.permutation(np.argwhere(np.ones((side, side), bool)))
    to_px = affine(bin_um, side_um, turn)
    xy = to_px(grid[:, ::-1].astype(float))
    grey = picture[xy[:, 1].astype(int), xy[:, 0].astype(int), 0] / 255
    counts = np.stack(
        [
            rng.poisson(FILL * grey),
            rng.poisson(FILL / 4, len(grid)),
            np.full(len(grid), 30),
            rng.poisson(FILL * (1.5 - grey)),
        ],
        axis=1,
    )
    matrix = MemoryCounts(sparse.csr_array(counts.astype(np.int32)), _genes())
    return Sample(
        id=name,
        unit_um=bin_um,
        mpp=MPP,
        grid=grid,
        xy_px=xy,
        to_px=to_px,
        grid_shape=(side, side),
        counts=matrix,
        image=image,
        sources=(image,),
    )


def _genes() -> Genes:
    names = (*GENES, "FILLER")
    return Genes(ids=names, symbols=names)


def _coarser(base: Sample, bin_um: int, turn: float) -> Sample:
    """Sum bins of 8 um."""
    scale, side = bin_um // 8, base.grid_shape[0] * 8 // bin_um
    parent = base.grid // scale
    number = parent[:, 0] * side + parent[:, 1]
    pick = sparse.csr_array((np.ones(len(number), np.int32), (number, np.arange(len(number)))))
    counts = sparse.csr_array(pick @ base.counts.matrix)  # type: ignore[attr-defined]
    grid = np.argwhere(np.ones((side, side), bool))
    to_px = affine(bin_um, base.grid_shape[0] * 8, turn)
    return Sample(
        id=base.id,
        unit_um=bin_um,
        mpp=MPP,
        grid=grid,
        xy_px=to_px(grid[:, ::-1].astype(float)),
        to_px=to_px,
        grid_shape=(side, side),
        counts=MemoryCounts(counts, _genes()),
        image=base.image,
        sources=base.sources,
    )


def type_command(
    *words: str, cwd: Path, cache: Path, data: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `hdstbench ...` as a user would, in a process of its own."""
    places = {"HDSTBENCH_CACHE": str(cache), "HDSTBENCH_DATA": str(data or cache / "data")}
    return subprocess.run(
        [sys.executable, "-m", "hdstbench", *words],
        cwd=cwd,
        env={**os.environ, **places, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def take(counts: Counts, rows: np.ndarray) -> sparse.csr_array:
    """Chosen units of any counts, in the order given."""
    return counts.sums(picks_rows(rows, len(counts)))[0]


def test_data() -> Path:
    """Real files to test on, if there are any."""
    return Path(os.environ.get("HDSTBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


test_data.__test__ = False  # type: ignore[attr-defined]
