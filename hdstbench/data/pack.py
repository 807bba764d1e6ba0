"""Write one prepared slide: pixels and places here, counts there."""

import os
import shutil
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.data.card import SampleCard
from hdstbench.data.frame import array_frame, tile_frame
from hdstbench.data.image import (
    MAX_UPSAMPLING,
    ArrayImage,
    SlideImage,
    open_image,
    outside_share,
    read_region,
    read_regions,
)
from hdstbench.data.levels import Resolution
from hdstbench.data.packlabels import write_expected, write_labels
from hdstbench.data.prepared import FORMAT, Arrays, Digest, Manifest, save_arrays, save_blocks, save_manifest
from hdstbench.data.sample import Sample
from hdstbench.data.strata import read_strata
from hdstbench.data.surroundings import place_squares, save_squares, squares_bytes
from hdstbench.data.tiles import draw_units, tile_bytes, write_tiles
from hdstbench.data.units import Coarse, Units, choose_units, place_coarse
from hdstbench.errors import DataError

SPARE_BYTES = 64 * 2**20
TIE_PX = 1e-6
"""Offsets of a whole pixel and a half are rounded up, whatever the last digits of places say."""
MAX_OUTSIDE = 0.1
"""Share of units that may lie off the image; bins in tissue are where Space Ranger saw tissue on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a slide is prepared.

    Attributes:
        res: The resolution.
        mpp: um a pixel of patches.
        everything: Take all blocks of the tissue, not a sample.
        strata: A file of regions or labels.
        truth: A file of true rates.
    """

    res: Resolution
    mpp: float
    everything: bool = False
    strata: Path | None = None
    truth: Path | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """um a pixel of the image and of the prepared blocks, and patch sides in pixels of the latter.

    Where `tiled`, both are the same, and each patch is kept for itself.
    """

    full_mpp: float
    mpp: float
    patch_px: dict[str, int]
    tiled: bool = False


def write_slide(folder: Path, sample: Sample, base: Sample, card: SampleCard, recipe: Recipe) -> None:
    """Choose the units of a slide and write everything about them.

    Args:
        folder: An empty folder.
        sample: Bins of the task's size, or native spots.
        base: Bins from which coarse levels are summed.
        card: Names the slide and its patient.
        recipe: How.

    Raises:
        DataError: If the image is too coarse, no unit is deep enough, or the disk too small.
    """
    res = recipe.res
    mpp = sample.mpp if res.patch_px else recipe.mpp
    _check_scale(sample, mpp)
    units, coarse = _choose(sample, base, recipe)
    sides = res.patch_px or [round(level.patch_um / mpp) for level in res.levels]
    patch_px = {level.name: side for level, side in zip(res.levels, sides, strict=True)}
    scale = Scale(sample.mpp, mpp, patch_px, bool(res.patch_px))
    pixels, labels = blake2b(digest_size=16), blake2b(digest_size=16)
    if sample.patches is not None:
        _write_patches(folder / "pixels", sample, units, scale, pixels)
    else:
        write_pixels(folder / "pixels", _open(sample, units), (units, coarse), scale, pixels)
    write_labels(folder / "labels", units, coarse, (sample, base), labels)
    tiles = bool(res.patch_px) and res.summed  # such units are no squares of the array
    if recipe.strata and not tiles:
        names = read_strata(recipe.strata, sample, units)
        save_arrays(folder / "labels" / "strata.npz", {"name": names}, labels)
    if recipe.truth and not tiles:
        write_expected(folder / "labels", units, recipe.truth, res, labels)
    size = open_image(sample.image).size if sample.image else ()
    frame = tile_frame(size, res.patch_px[0], mpp) if tiles else array_frame(sample, res)
    manifest = Manifest(
        format=FORMAT,
        slide=card.id,
        patient=card.patient,
        tissue=card.tissue,
        resolution=res.name,
        mpp=mpp,
        unit_um=patch_px["unit"] * mpp if tiles else res.unit.side_um,
        block_um=res.block_um,
        patch_px=patch_px,
        units=len(units.uv_um),
        blocks=len(units.block_xy_um),
        left_out=units.left_out,
        sources=_sources(sample, base),
        software=sample.counts.software,
        affine=tuple(tuple(row) for row in frame.to_um.tolist()),
        grid_shape=frame.shape,
        image_size=size,
        image_mpp=sample.mpp,
        pixels=pixels.hexdigest(),
        labels=labels.hexdigest(),
    )
    save_manifest(folder, manifest)


def _choose(sample: Sample, base: Sample, recipe: Recipe) -> tuple[Units, list[Coarse]]:
    """The units of a slide and what lies above them."""
    if recipe.res.patch_px:
        return draw_units(sample, base, recipe.res)
    units = choose_units(sample, base, recipe.res, everything=recipe.everything)
    return units, [place_coarse(units, base, level) for level in recipe.res.coarse]


def _sources(sample: Sample, base: Sample) -> dict[str, int]:
    paths = list(dict.fromkeys((*sample.sources, *base.sources)))
    shared = os.path.commonpath([path.absolute().parent for path in paths]) if paths else ""
    return {str(path.absolute().relative_to(shared)): path.stat().st_size for path in paths}


def _check_scale(sample: Sample, mpp: float) -> None:
    if sample.mpp / mpp > MAX_UPSAMPLING:
        what = sample.image or f"the patch of a unit of {sample.id}"
        msg = (
            f"{what} has {sample.mpp:.4f} um a pixel, the card wants {mpp:g}: enlarging by more than "
            f"{MAX_UPSAMPLING} invents detail; set mpp = {sample.mpp:.2f} in the card"
        )
        raise DataError(msg)


def _open(sample: Sample, units: Units) -> SlideImage:
    """Open a sample's image; the units have to lie on it."""
    assert sample.image is not None
    image = open_image(sample.image)
    size, xy = np.array(image.size), units.xy_um / sample.mpp
    outside = float(((xy < 0) | (xy > size)).any(axis=1).mean())
    if outside > MAX_OUTSIDE:
        low, high = xy.min(axis=0), xy.max(axis=0)
        msg = (
            f"{sample.image} is {size[0]} x {size[1]} px, but {outside:.0%} of the units lie outside it (x "
            f"{low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f}); give the full-resolution "
            "image that the positions belong to"
        )
        raise DataError(msg)
    return image


def write_pixels(
    folder: Path, image: SlideImage, places: tuple[Units, list[Coarse]], scale: Scale, digest: Digest
) -> None:
    """Write places, block images and surroundings of some units; see `hdstbench.data.prepared`."""
    units, coarse = places
    mpp, full_mpp = scale.mpp, scale.full_mpp
    width, height = (length * full_mpp / mpp for length in image.size)
    squares = place_squares(units.xy_um, mpp, scale.patch_px["unit"], (width, height))
    levels = {"unit": (units.xy_um, units.block, _of_units(units))}
    levels |= {c.level.name: (c.xy_um, c.block, {"parent": c.parent, "grid": c.grid}) for c in coarse}
    if scale.tiled:
        _check_disk(folder, tile_bytes(units, coarse, scale.patch_px) + squares_bytes(squares))
        own = {name: (xy, extra) for name, (xy, _, extra) in levels.items()}
        write_tiles(folder, image, own, (mpp, scale.patch_px), digest)
        save_squares(folder, image, squares, (mpp, full_mpp), digest)
        return
    side = _block_side(units, coarse, scale)
    _check_disk(folder, len(units.block_xy_um) * side**2 * 3 + squares_bytes(squares))
    origin = units.block_xy_um - side * mpp / 2
    for name, (xy, block, extra) in levels.items():
        half = scale.patch_px[name] * mpp / 2
        corner = (xy - half) / full_mpp
        pad = outside_share(image, corner[:, 0], corner[:, 1], 2 * half / full_mpp)
        offset = np.floor((xy - half - origin[block]) / mpp + 0.5 + TIE_PX).astype(np.int32)
        arrays = {"xy_um": xy, "block": block, "offset": offset, "pad": pad.astype(np.float32), **extra}
        save_arrays(folder / f"{name}.npz", arrays, digest)
    images = read_regions(image, origin / full_mpp, side * mpp / full_mpp, side)
    save_blocks(folder / "blocks.npy", images, len(origin), side, digest)
    save_squares(folder, image, squares, (mpp, full_mpp), digest)


def _of_units(units: Units) -> Arrays:
    return {"uv_um": units.uv_um, "grid": units.grid, "sampled": units.sampled, "window": units.window}


def _write_patches(folder: Path, sample: Sample, units: Units, scale: Scale, digest: Digest) -> None:
    """Units that come with their own patch: each is the image of its own block."""
    assert sample.patches is not None
    side, given = scale.patch_px["unit"], sample.patches.shape[1]
    full = side * scale.mpp / scale.full_mpp
    if full > given + 1e-6:
        msg = (
            f"{sample.id} comes with patches of {given * scale.full_mpp:g} um, the card wants "
            f"{side * scale.mpp:g}; set patch_um in the card"
        )
        raise DataError(msg)
    count = len(units.uv_um)
    arrays = {"xy_um": units.xy_um, "block": units.block, "pad": np.zeros(count, np.float32)}
    arrays |= {"offset": np.zeros((count, 2), np.int32), **_of_units(units)}
    save_arrays(folder / "unit.npz", arrays, digest)
    corner = (given - full) / 2
    patches = (ArrayImage(sample.patches[row]) for row in units.rows)
    images = ((i, read_region(patch, corner, corner, full, side)) for i, patch in enumerate(patches))
    save_blocks(folder / "blocks.npy", images, count, side, digest)


def _block_side(units: Units, coarse: list[Coarse], scale: Scale) -> int:
    """Pixels that a block image needs so that it holds every patch of every level, turned or not."""
    patch_um = {level: side * scale.mpp for level, side in scale.patch_px.items()}
    need = [_reach(units.xy_um, units.block_xy_um[units.block], patch_um["unit"])]
    need += [_reach(c.xy_um, units.block_xy_um[c.block], patch_um[c.level.name]) for c in coarse]
    return int(np.ceil(max(need) / scale.mpp - 1e-6))


def _reach(xy: FloatArray, centre: FloatArray, side: float) -> float:
    return float(2 * np.abs(xy - centre).max() + side)


def _check_disk(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < wanted + SPARE_BYTES:
        msg = (
            f"{folder.parent.parent} has {free / 1e9:.1f} GB free, this slide needs {wanted / 1e9:.1f} GB; "
            "free space or set HDSTBENCH_CACHE to another disk"
        )
        raise DataError(msg)
