"""The tiles around a unit: from the right place, kept once, white outside."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spots
from helpers import MPP, make_slide
from PIL import Image

from hdstbench.data import pack
from hdstbench.data.card import SampleCard
from hdstbench.data.image import open_image, padded, read_regions
from hdstbench.data.levels import native
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.data.prepare import prepare_slide
from hdstbench.data.prepared import load_manifest
from hdstbench.data.surroundings import SQUARE_PX, place_squares
from hdstbench.errors import DataError
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.target import find_target


def _everything(slide: Slide) -> np.ndarray:
    return np.arange(len(slide))


@pytest.mark.parametrize("turn", [0.0, 0.7])
@pytest.mark.parametrize("mpp", [0.83, 1.9])
def test_the_middle_tile_is_centred_on_the_unit_as_its_own_patch_is(
    tmp_path: Path, turn: float, mpp: float
) -> None:
    """A round spot is painted around each unit; its centroid tells the error."""
    made = spots.make("A", spots.Array(side=4, turn=turn, mpp=mpp))
    y, x = np.indices(made.picture.shape[:2]) + 0.5  # corner-based, as positions are
    square = [(x - u) ** 2 + (y - v) ** 2 for u, v in made.adata.obsm["spatial"]]
    light = np.exp(-np.min(square, axis=0) / (2 * (6 / mpp) ** 2))
    painted = replace(made, picture=np.repeat((255 - 250 * light).astype(np.uint8)[..., None], 3, axis=2))
    folder = _prepare_native(spots.write_h5ad(tmp_path, painted), tmp_path / "out", patch_um=56.0)
    slide = open_slide(folder, ("ENSG0000",), find_target("log1p-cp10k"))

    middle = slide.tiles_around(_everything(slide))[:, 12]

    for patches in (middle, slide.patches("unit", _everything(slide))):
        ink = 255.0 - patches[..., 0]
        place = np.arange(28) + 0.5
        across, down = ink.sum(axis=1) @ place, ink.sum(axis=2) @ place
        error = np.stack([across, down]) / ink.sum(axis=(1, 2)) - 14
        assert np.abs(error).max() < 0.6


def test_tiles_follow_the_image_row_by_row(tmp_path: Path) -> None:
    """The image is read at its own um a pixel, so tiles are windows of it, cut without resampling."""
    slide = make_slide(tmp_path, "a", turn=0.3).slide
    index = np.array([0, 200, len(slide) - 1])

    tiles = slide.tiles_around(index)

    image = open_image(tmp_path / "a.png")
    for xy, found in zip(slide.xy_um[index] / MPP, tiles, strict=True):
        left, top = np.floor(xy - 35 + 0.5).astype(int).tolist()
        for place in range(25):
            wanted = padded(image, left + 14 * (place % 5), top + 14 * (place // 5), 14, 14)
            np.testing.assert_array_equal(found[place], wanted)


def test_a_tile_that_leaves_the_image_is_not_inside_but_the_middle_is(tmp_path: Path) -> None:
    slide = make_slide(tmp_path, "a", turn=0.785).slide
    side = int(512 / MPP * 1.6)
    left, top = np.floor(slide.xy_um / MPP - 35 + 0.5).astype(int).T

    inside = slide.tiles_inside(_everything(slide))

    step = 14 * np.arange(5)
    rows = (top[:, None] + step >= 0) & (top[:, None] + step + 14 <= side)
    columns = (left[:, None] + step >= 0) & (left[:, None] + step + 14 <= side)
    wanted = rows[:, :, None] & columns[:, None, :]
    assert not wanted.all()
    wanted[:, 2, 2] = True
    np.testing.assert_array_equal(inside, wanted.reshape(-1, 25))


def test_a_view_and_fewer_tiles_are_parts_of_all(tmp_path: Path) -> None:
    slide = make_slide(tmp_path, "a").slide
    index = np.array([3, 17, 5])
    all_tiles = slide.tiles_around(index).reshape(3, 5, 5, 14, 14, 3)

    three = slide.take(index).tiles_around(_everything(slide)[:3], side=3)

    np.testing.assert_array_equal(three.reshape(3, 3, 3, 14, 14, 3), all_tiles[:, 1:4, 1:4])
    np.testing.assert_array_equal(slide.tiles_inside(index, side=1), np.ones((3, 1), bool))
    with pytest.raises(ValueError, match="got 4 tiles along a side; wanted an odd number up to 5"):
        slide.tiles_around(index, side=4)


def test_only_squares_that_an_area_touches_are_kept() -> None:
    xy_um = np.array([[1000.0, 400.0], [1010.0, 400.0], [10.0, 10.0]])

    number = place_squares(xy_um, 1.0, 28, (2000.0, 900.0))

    kept = np.zeros((4, 8), bool)  # 930 to 1070, and 330 to 470; -60 to 80
    kept[1, 3:5] = True
    kept[0, 0] = True
    np.testing.assert_array_equal(number >= 0, kept)
    np.testing.assert_array_equal(np.sort(number[kept]), np.arange(3))


def test_each_square_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def watch(image: object, corners: np.ndarray, side: float, size: int) -> object:
        read.append((size, len(np.unique(corners, axis=0)), len(corners)))
        return read_regions(image, corners, side, size)  # type: ignore[arg-type]

    monkeypatch.setattr("hdstbench.data.surroundings.read_regions", watch)

    planted = make_slide(tmp_path, "a")

    pixels = planted.folder / "pixels"
    squares = np.load(pixels / "around.npy", mmap_mode="r")
    assert read == [(SQUARE_PX, len(squares), len(squares))]
    assert squares.shape[1:] == (SQUARE_PX, SQUARE_PX, 3)


def test_the_slides_hash_changes_with_what_lies_around_its_blocks(tmp_path: Path) -> None:
    """One pixel, too far from any block for its image and near enough for a tile."""
    spread = spots.make("A", spots.Array(side=3))
    keys = []
    for name in ("before", "after"):
        spots.write_h5ad(tmp_path / name, spread)
        path = tmp_path / name / "A.png"
        if name == "after":
            picture = spread.picture.copy()
            x, y = spread.adata.obsm["spatial"][0].astype(int)
            picture[y - 25, x - 25] ^= 255
            Image.fromarray(picture).save(path)
        keys.append(_prepare_native(path.with_suffix(".h5ad"), tmp_path / f"{name}-out", patch_um=28.0))

    blocks = [hashlib.sha256(np.load(f / "pixels" / "blocks.npy").tobytes()).hexdigest() for f in keys]
    assert blocks[0] == blocks[1]
    assert load_manifest(keys[0]).pixels != load_manifest(keys[1]).pixels


def _prepare_native(h5ad: Path, out: Path, patch_um: float) -> Path:
    dataset = spots.imported(h5ad, out)
    sample = spots.sample_of(dataset, dataset.card.samples[0].id)
    folder = out / "prepared"
    folder.mkdir()
    recipe = Recipe(res=native("100um", patch_um, 100.0), mpp=MPP)
    write_slide(folder, sample, sample, SampleCard(id="A", patient="p", path=""), recipe)
    return folder


def test_units_with_their_own_patches_have_nothing_around_them(tmp_path: Path) -> None:
    folds = [(["B", "C"], ["A"]), (["A"], ["B", "C"])]
    dataset = spots.imported(spots.write_task(tmp_path / "task", spots.slides(), folds), tmp_path / "bench")
    folder = prepare_slide(dataset, dataset.card.samples[0], dataset.card.resolution("55um"))
    slide = open_slide(folder, ("BRIGHT",), find_target("log1p-cp10k"))

    tiles, inside = slide.tiles_around(_everything(slide)), slide.tiles_inside(_everything(slide))

    np.testing.assert_array_equal(tiles[:, 12], slide.patches("unit", _everything(slide)))
    np.testing.assert_array_equal(inside, np.tile(np.arange(25) == 12, (len(slide), 1)))
    assert (tiles[~inside] == 255).all()
    assert not (folder / "pixels" / "around.npy").exists()


def test_the_disk_has_to_hold_the_squares_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = make_slide(tmp_path, "a")
    blocks = (planted.folder / "pixels" / "blocks.npy").stat().st_size
    usage = pack.shutil.disk_usage(tmp_path)
    little = usage._replace(free=blocks + pack.SPARE_BYTES + SQUARE_PX**2)

    monkeypatch.setattr(pack.shutil, "disk_usage", lambda _: little)

    with pytest.raises(DataError, match="GB free, this slide needs"):
        make_slide(tmp_path / "again", "a")
