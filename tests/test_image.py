"""Images of every kind give the same pixels, white outside, and no aliasing."""

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import test_data
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from hdstbench.data.image import ArrayImage, open_image, outside_share, padded, read_region, read_regions
from hdstbench.errors import DataError, MissingError


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (301, 407, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("images")
    made = {name: folder / name for name in ("tiled.tif", "lzw.btf", "flat.btf", "lossless.png")}
    tifffile.imwrite(made["tiled.tif"], pixels, tile=(64, 48), photometric="rgb")
    tifffile.imwrite(
        made["lzw.btf"], pixels, tile=(128, 128), compression="lzw", bigtiff=True, photometric="rgb"
    )
    tifffile.imwrite(made["flat.btf"], pixels, rowsperstrip=1, bigtiff=True, photometric="rgb")
    Image.fromarray(pixels).save(made["lossless.png"])
    return made


@pytest.mark.parametrize("name", ["tiled.tif", "lzw.btf", "flat.btf", "lossless.png"])
@given(x=st.integers(-60, 420), y=st.integers(-60, 320), width=st.integers(1, 90), height=st.integers(1, 90))
@settings(max_examples=25, deadline=None)
def test_every_kind_gives_the_pixels_and_white_outside(
    files: dict[str, Path], pixels: np.ndarray, name: str, x: int, y: int, width: int, height: int
) -> None:
    frame = np.full((301 + 400, 407 + 400, 3), 255, np.uint8)
    frame[200:501, 200:607] = pixels

    window = padded(open_image(files[name]), x, y, width, height)

    np.testing.assert_array_equal(window, frame[y + 200 : y + 200 + height, x + 200 : x + 200 + width])


def test_reading_from_many_threads_gives_the_same_pixels(files: dict[str, Path], pixels: np.ndarray) -> None:
    image = open_image(files["lzw.btf"])
    corners = np.random.default_rng(1).integers(0, 250, (200, 2))

    with ThreadPoolExecutor(8) as pool:
        windows = list(pool.map(lambda c: image.window(int(c[0]), int(c[1]), 40, 30), corners))

    for (x, y), window in zip(corners, windows, strict=True):
        np.testing.assert_array_equal(window, pixels[y : y + 30, x : x + 40])


def test_a_fine_pattern_becomes_grey_when_reduced() -> None:
    board = np.where(np.indices((400, 400)).sum(axis=0) % 2, 255, 0).astype(np.uint8)
    image = ArrayImage(np.repeat(board[:, :, None], 3, axis=2))

    small = read_region(image, 20.3, 20.7, 300.0, 60)

    inside = small[5:-5, 5:-5].astype(int)
    assert np.abs(inside - 127).max() <= 6


@given(st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.sampled_from([40, 64, 100]))
@settings(max_examples=25, deadline=None)
def test_a_region_shows_the_right_place_at_any_scale(dx: float, dy: float, size: int) -> None:
    # brightness is a plane, so the value at every place is known
    y, x = np.mgrid[0:200, 0:200]
    plane = (0.5 * x + 0.6 * y).astype(np.uint8)
    image = ArrayImage(np.repeat(plane[:, :, None], 3, axis=2))

    region = read_region(image, 30 + dx, 40 + dy, 120.0, size)

    step = 120 / size
    at = (np.arange(size) + 0.5) * step
    wanted = 0.5 * (30 + dx + at[None, :] - 0.5) + 0.6 * (40 + dy + at[:, None] - 0.5)
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(region[..., 0].astype(float)[inner] - wanted[inner]).max() < 1.6


def test_the_outside_share_is_an_area() -> None:
    image = ArrayImage(np.zeros((100, 100, 3), np.uint8))

    share = outside_share(image, np.array([10.0, -10, 95, -50]), np.array([10.0, -10, 0, -50]), 20.0)

    np.testing.assert_allclose(share, [0, 0.75, 0.75, 1])


def test_an_aperio_slide_opens() -> None:
    path = test_data() / "wsi" / "CMU-1-Small-Region.svs"
    if not path.is_file():
        pytest.skip(f"no real slide at {path}; set HDSTBENCH_TEST_DATA")

    image = open_image(path)

    assert image.size == (2220, 2967)
    assert 100 < image.window(1000, 1000, 200, 200).mean() < 250


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.tif", None, "is not there; wanted the full-resolution"),
        ("tissue_hires_image.png", "png", "small picture of Space Ranger"),
        ("cytassist_image.tiff", "png", "small picture of Space Ranger"),
        ("strips.tif", "strips", "stripped, compressed TIFF.*hdstbench data convert"),
        ("deep.tif", "deep", "uint16 with 3 samples, RGB; wanted 8-bit RGB"),
        ("grey.tif", "grey", "with 1 samples, MINISBLACK; wanted 8-bit RGB"),
        ("broken.tif", "broken", "is not a readable image"),
        ("broken.jpg", "broken", "is not a readable image"),
        ("broken.svs", "broken", "is not a readable image"),
    ],
)
def test_an_unfit_image_is_refused_by_name(tmp_path: Path, name: str, make: str | None, message: str) -> None:
    path, rgb = tmp_path / name, np.zeros((64, 64, 3), np.uint8)
    if make == "png":
        Image.fromarray(rgb).save(path, format="PNG")
    elif make == "strips":
        tifffile.imwrite(path, rgb, compression="lzw", rowsperstrip=16, photometric="rgb")
    elif make == "deep":
        tifffile.imwrite(path, rgb.astype(np.uint16), tile=(32, 32), photometric="rgb")
    elif make == "grey":
        tifffile.imwrite(path, rgb[..., 0], tile=(32, 32))
    elif make == "broken":
        path.write_bytes(b"II*\0 this is no picture")

    with pytest.raises((DataError, MissingError), match=message):
        open_image(path)


@pytest.mark.parametrize("name", ["tiled.tif", "lzw.btf", "flat.btf", "lossless.png"])
def test_many_squares_are_those_read_one_by_one(files: dict[str, Path], name: str) -> None:
    image = open_image(files[name])
    corners = np.random.default_rng(2).uniform(-40, 380, (60, 2))

    found = dict(read_regions(image, corners, 50.0, 25))

    assert sorted(found) == list(range(60))
    for number, (x, y) in enumerate(corners):
        np.testing.assert_array_equal(found[number], read_region(image, x, y, 50.0, 25))


def test_each_tile_is_decoded_once_however_many_squares_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((1600, 3200, 3), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", pixels, tile=(32, 32), compression="zlib", photometric="rgb")
    monkeypatch.setattr("hdstbench.data.image.TILES_KEPT", 8)
    image = open_image(tmp_path / "x.tif")
    turn = np.deg2rad(3)  # an array that lies askew, its blocks in an order of their own
    grid = np.random.default_rng(3).permutation(np.argwhere(np.ones((15, 30)))) * 90.0
    corners = grid @ np.array([[np.sin(turn), np.cos(turn)], [np.cos(turn), -np.sin(turn)]]) + [80, 110]
    decoded: list[int] = []
    plain = type(image)._read
    monkeypatch.setattr(
        type(image), "_read", lambda self, index: (decoded.append(index), plain(self, index))[1]
    )

    for _ in read_regions(image, corners, 150.0, 75):
        pass

    assert len(decoded) > 2_000
    assert len(decoded) == len(set(decoded))


def test_a_broken_picture_is_refused_when_its_pixels_are_read(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:4_000])

    with pytest.raises(DataError, match="is not a whole picture"):
        open_image(path).window(0, 0, 10, 10)


@pytest.mark.parametrize(
    "name", ["tissue_hires_image.png", "X_tissue_lowres_image.png", "Visium_HD_1_cytassist_image.tiff"]
)
def test_small_pictures_of_space_ranger_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    with pytest.raises(DataError, match=r"is a small picture .* by its name; give the full-resolution"):
        open_image(tmp_path / name)


@given(st.integers(0, 10**6), st.integers(1, 40))
@example(seed=359, count=2)
@example(seed=231061, count=7)
@example(seed=160096, count=1)
@example(seed=497, count=38)
@settings(max_examples=150, deadline=None)
def test_a_tiled_picture_with_wrong_bytes_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    """Flipped bytes in header and directory, and files that break off: never an error of another kind."""
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("fuzz") / "x.tif"
    tifffile.imwrite(path, np.zeros((70, 90, 3), np.uint8), tile=(32, 32), photometric="rgb")
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, 400, count):
        content[place] = rng.integers(256)
    cut = len(content) if seed % 2 else int(rng.integers(1, len(content)))
    path.write_bytes(content[:cut])

    refused = ""
    try:
        image = open_image(path)
        if max(image.size) < 1_000:
            padded(image, -5, -5, 60, 60)
    except DataError as error:
        refused = str(error)

    assert len(refused.splitlines()) <= 1


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("TileLength", r"says its tiles have 32 x 4,294,967,280 px; wanted at most 178,956,970 px a tile"),
        ("TileByteCounts", r"tile 0 cannot be decoded \(\d+ of 4294967280 bytes\); fetch it again"),
    ],
)
def test_a_damaged_directory_asks_for_no_more_memory_than_there_is(
    tmp_path: Path, tag: str, message: str
) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((20, 30, 3), np.uint8), tile=(32, 32), photometric="rgb")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[tag].offset
    content = bytearray(path.read_bytes())
    content[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 2**32 - 16)
    path.write_bytes(content)

    with pytest.raises(DataError, match=message):
        open_image(path).window(0, 0, 10, 10)


def test_memory_of_decoded_tiles_is_bounded_however_large_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdstbench.data.image.MAX_BYTES", 3 * 128 * 128 * 3)
    pixels = np.zeros((1024, 1024, 3), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", pixels, tile=(128, 128), photometric="rgb")
    image = open_image(tmp_path / "x.tif")

    image.window(0, 0, 1024, 1024)
    for _ in read_regions(image, np.argwhere(np.ones((7, 7))) * 128.0, 200.0, 100):
        pass

    assert len(image._tiles) <= 3  # type: ignore[attr-defined]


def test_other_colours_are_refused_and_what_is_transparent_is_white(tmp_path: Path) -> None:
    inks = np.zeros((64, 64, 4), np.uint8)
    tifffile.imwrite(tmp_path / "inks.tif", inks, tile=(32, 32), photometric="separated")
    clear = np.zeros((10, 10, 4), np.uint8)
    clear[:5] = [10, 20, 30, 255]
    Image.fromarray(clear, "RGBA").save(tmp_path / "clear.png")

    with pytest.raises(DataError, match="is uint8 with 4 samples, SEPARATED; wanted 8-bit RGB"):
        open_image(tmp_path / "inks.tif")
    pixels = open_image(tmp_path / "clear.png").window(0, 0, 10, 10)
    assert (pixels[:5] == [10, 20, 30]).all()
    assert (pixels[5:] == 255).all()


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("Visium_HD_Human_Colon_Cancer_P1_image.tif", True),
        ("Visium_HD_Human_Colon_Cancer_P1_tissue_image.btf", False),
        ("detected_tissue_image.jpg", True),
        ("aligned_fiducials.jpg", True),
        ("my_image.png", False),
        ("Visium_FFPE_Human_Breast_Cancer_image.tif", False),
    ],
)
def test_pictures_that_are_no_section_are_known_by_name(tmp_path: Path, name: str, refused: bool) -> None:
    (tmp_path / name).touch()

    with pytest.raises(DataError, match="is a small picture" if refused else "not a readable image"):
        open_image(tmp_path / name)
