"""The read-only view of a prepared slide that a model gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hdstbench.arrays import CSR, BoolArray, FloatArray, IntArray, Pixels
from hdstbench.data.image import RGB, WHITE
from hdstbench.data.prepared import load_arrays, load_images, load_manifest
from hdstbench.data.surroundings import AROUND, Surroundings, load_surroundings
from hdstbench.errors import DataError
from hdstbench.protocol.labels import Labels
from hdstbench.protocol.target import Target

UNIT = "unit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """N units of one slide: pixels and places, and labels unless it is hidden.

    A view holds all prepared units of a slide or some of them (`take`); the coarser levels then
    hold the parents of those units alone. It knows the folder of pixels and places; labels lie elsewhere,
    and only `labels` knows where.

    Attributes:
        id: Name of the slide.
        patient: Whose slide it is.
        genes: Ids of the panel, the G columns of labels and predictions.
        target: The transform between counts and what is predicted; one that is scaled by the slide's own
            counts works on no hidden slide, and none of counts alone is smoothed.
        patch_px: Side of the patch of each level, finest level ("unit") first.
        mpp: um a pixel of patches.
        unit_um: Side of a unit, or the pitch of native spots.
        key: Hash of the slide's pixels and places; names cached features.
        labels: Counts and targets; None on a hidden slide.
    """

    id: str
    patient: str
    genes: tuple[str, ...]
    target: Target
    patch_px: Mapping[str, int]
    mpp: float
    unit_um: float
    key: str
    labels: Labels | None
    _folder: Path = field(repr=False)
    _size_px: tuple[float, ...] = field(repr=False)
    _rows: Mapping[str, IntArray] = field(repr=False)

    def __len__(self) -> int:
        return len(self._rows[UNIT])

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, finest first; "unit" is always there."""
        return tuple(self.patch_px)

    @property
    def xy_um(self) -> FloatArray:
        """Unit centres in the image frame, x right, y down, um, float64 [N, 2]."""
        return self.xy_of(UNIT)

    @property
    def grid(self) -> IntArray:
        """Array row and column of each unit, int64 [N, 2]."""
        return self.grid_of(UNIT)

    def grid_of(self, level: str) -> IntArray:
        """Row and column of a level's units among all squares of the level, int64 [M, 2]."""
        return np.asarray(self._arrays(level)["grid"][self._rows[level]])

    def size(self, level: str) -> int:
        """Number of units at a level."""
        return len(self._rows[level])

    def xy_of(self, level: str) -> FloatArray:
        """Centres of a level's units in the image frame, um, float64 [M, 2]."""
        return np.asarray(self._arrays(level)["xy_um"][self._rows[level]])

    def rows(self, level: str) -> IntArray:
        """Number of each of the level's units among all prepared ones of the slide, [M]."""
        return self._rows[level]

    def pad_fraction(self, level: str) -> FloatArray:
        """Share of each patch that lies outside the image and is white, float32 [M]."""
        return np.asarray(self._arrays(level)["pad"][self._rows[level]])

    @property
    def block_of(self) -> IntArray:
        """Number of the sampling block that holds each unit, [N]."""
        return self._unit("block")

    def blocks(self) -> list[IntArray]:
        """Units of each sampling block, in the order of the slide; together all units, once."""
        block = self.block_of
        order = np.argsort(block, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(block[order])) + 1) if len(order) else []

    def parents(self, level: str) -> IntArray:
        """Index of each unit's parent among the units of a coarser level, [N]."""
        parent = self._arrays(level)["parent"][self._rows[UNIT]]
        return np.searchsorted(self._rows[level], parent)

    def patches(self, level: str, index: IntArray) -> Pixels:
        """Cut the patches of some units of a level from the stored images.

        Args:
            level: One of `levels`.
            index: Units of that level, [B].

        Returns:
            uint8 [B, S, S, 3] with S = patch_px[level]; outside of the image is white.
        """
        blocks, size = load_images(self._folder, level), self.patch_px[level]
        arrays, rows = self._arrays(level), self._rows[level][index]
        out = np.empty((len(rows), size, size, 3), np.uint8)
        for i, (block, (left, top)) in enumerate(
            zip(arrays["block"][rows], arrays["offset"][rows], strict=True)
        ):
            out[i] = blocks[block, top : top + size, left : left + size]
        return out

    def block_image(self, units: IntArray) -> tuple[Pixels, IntArray]:
        """The stored image that the patches of a block's units are cut from, and where in it they begin.

        Args:
            units: Units of one block, [B].

        Returns:
            uint8 [H, W, 3], not to be written to, and the left and top pixel of each patch, int64 [B, 2].

        Raises:
            ValueError: If the units are of several images.
        """
        arrays, rows = self._arrays(UNIT), self._rows[UNIT][units]
        (number, *others) = np.unique(arrays["block"][rows])
        if others:
            msg = f"got units of {len(others) + 1} blocks; wanted those of one"
            raise ValueError(msg)
        image: Pixels = load_images(self._folder, UNIT)[number]
        return image, np.asarray(arrays["offset"][rows], np.int64)

    def tiles_around(self, index: IntArray, side: int = AROUND) -> Pixels:
        """Cut the tiles around some units, each as large as a unit's patch.

        Args:
            index: Units, [B].
            side: Tiles along a side, odd, at most 5.

        Returns:
            uint8 [B, side^2, S, S, 3] row by row; the middle one is the unit's own patch, up to a
            shift below one pixel. Outside of the image is white. Where units come with their own
            patches and no image, all but the middle is white.

        Raises:
            ValueError: If `side` is another number.
        """
        _check_side(side)
        around, size = self._around(), self.patch_px[UNIT]
        if around is not None:
            return around.tiles(self.xy_um[index], side)
        out = np.full((len(index), side**2, size, size, RGB), WHITE, np.uint8)
        out[:, side**2 // 2] = self.patches(UNIT, index)
        return out

    def tiles_inside(self, index: IntArray, side: int = AROUND) -> BoolArray:
        """Which of the tiles around some units lie wholly in the image, [B, side^2].

        The unit's own patch in the middle always counts as inside.

        Raises:
            ValueError: If `side` is no odd number up to 5.
        """
        _check_side(side)
        around = self._around()
        out = (
            np.zeros((len(index), side**2), bool)
            if around is None
            else around.inside(self.xy_um[index], side)
        )
        out[:, side**2 // 2] = True
        return out

    def take(self, index: IntArray) -> "Slide":
        """View some units, in the given order, and their parents."""
        rows = {UNIT: self._rows[UNIT][index]}
        for level in self.levels[1:]:
            rows[level] = np.unique(self._arrays(level)["parent"][rows[UNIT]])
        return self._with(rows, None if self.labels is None else self.labels.take(rows))

    def hidden(self) -> "Slide":
        """The same view without labels: what `predict` gets."""
        return self._with(self._rows, None)

    def whole(self) -> "Slide":
        """All prepared units of the slide, hidden: what features are cached for."""
        rows = {level: np.arange(len(self._arrays(level)["xy_um"])) for level in self.levels}
        return self._with(rows, None)

    def need_labels(self) -> Labels:
        """Return the labels.

        Raises:
            DataError: If the slide is hidden.
        """
        if self.labels is None:
            msg = f"slide {self.id} is hidden: a model may use labels in fit only"
            raise DataError(msg)
        return self.labels

    def _with(self, rows: Mapping[str, IntArray], labels: Labels | None) -> "Slide":
        return Slide(
            id=self.id,
            patient=self.patient,
            genes=self.genes,
            target=self.target if labels is not None else self.target.hidden(),
            patch_px=self.patch_px,
            mpp=self.mpp,
            unit_um=self.unit_um,
            key=self.key,
            labels=labels,
            _folder=self._folder,
            _size_px=self._size_px,
            _rows=rows,
        )

    def _arrays(self, level: str) -> Mapping[str, FloatArray]:
        return load_arrays(self._folder / f"{level}.npz")

    def _around(self) -> Surroundings | None:
        return load_surroundings(self._folder, self._size_px, self.mpp, self.patch_px[UNIT])

    def _unit(self, name: str) -> IntArray:
        return np.asarray(self._arrays(UNIT)[name][self._rows[UNIT]])


def _check_side(side: int) -> None:
    if side not in range(1, AROUND + 1, 2):
        msg = f"got {side} tiles along a side; wanted an odd number up to {AROUND}"
        raise ValueError(msg)


def open_slide(folder: Path, genes: Sequence[str], target: Target) -> Slide:
    """View all prepared units of a slide, labels included.

    Raises:
        DataError: If the folder is no prepared slide or lacks a gene.
    """
    manifest, pixels = load_manifest(folder), folder / "pixels"
    order = _finest_first(manifest.patch_px)
    count = {level: len(load_arrays(pixels / f"{level}.npz")["xy_um"]) for level in order}
    rows = {level: np.arange(count[level]) for level in order}
    target = target.of_slide(load_arrays(folder / "labels" / "unit.npz")["library"])
    unit = load_arrays(pixels / f"{UNIT}.npz")
    return Slide(
        id=manifest.slide,
        patient=manifest.patient,
        genes=tuple(genes),
        target=target,
        patch_px={level: manifest.patch_px[level] for level in order},
        mpp=manifest.mpp,
        unit_um=manifest.unit_um,
        key=manifest.pixels,
        labels=Labels.open(folder / "labels", tuple(genes), target, rows, np.asarray(unit["grid"])),
        _folder=pixels,
        _size_px=tuple(side * manifest.image_mpp / manifest.mpp for side in manifest.image_size),
        _rows=rows,
    )


def _finest_first(patch_px: Mapping[str, int]) -> list[str]:
    """Levels in the order of a slide: units, then the others by the size of their patches."""
    return sorted(patch_px, key=lambda level: (level != UNIT, patch_px[level]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a slide without counts is opened with; see `Slide`."""

    id: str
    genes: tuple[str, ...]
    target: Target
    patch_px: Mapping[str, int]
    mpp: float
    unit_um: float
    key: str
    size_px: tuple[float, ...]


def open_hidden(pixels: Path, shape: Shape) -> Slide:
    """View all units of a folder of pixels that has no labels beside it.

    Args:
        pixels: The folder.
        shape: `size_px` are width and height of the image in pixels of patches.
    """
    order = _finest_first(shape.patch_px)
    rows = {level: np.arange(len(load_arrays(pixels / f"{level}.npz")["xy_um"])) for level in order}
    return Slide(
        id=shape.id,
        patient=shape.id,
        genes=shape.genes,
        target=shape.target,
        patch_px={level: shape.patch_px[level] for level in order},
        mpp=shape.mpp,
        unit_um=shape.unit_um,
        key=shape.key,
        labels=None,
        _folder=pixels,
        _size_px=shape.size_px,
        _rows=rows,
    )


def sampled(folder: Path) -> IntArray:
    """Units of a prepared slide that count for the headline, the others being in windows only."""
    return np.flatnonzero(load_arrays(folder / "pixels" / "unit.npz")["sampled"])


def all_counts(folder: Path) -> tuple[tuple[str, ...], CSR, IntArray, IntArray]:
    """Gene ids, counts [N, genes], library sizes [N] and tissue sums [genes] of a prepared slide."""
    counts, library = Labels.read_counts(folder / "labels", UNIT)
    slide = load_arrays(folder / "labels" / "slide.npz")
    return tuple(slide["gene_ids"].tolist()), counts, library, slide["pseudobulk"]


def symbols_of(folder: Path) -> dict[str, str]:
    """Symbol of each gene id of a prepared slide; several ids may share one."""
    slide = load_arrays(folder / "labels" / "slide.npz")
    return dict(zip(slide["gene_ids"].tolist(), slide["symbols"].tolist(), strict=True))
