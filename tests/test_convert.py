"""Pictures that cannot be read by region become cropped pyramids with the same pixels at the same place."""

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_convert_run import options

from hdstbench.cli.convert_job import execute
from hdstbench.data import convert as module
from hdstbench.data.card import Dataset
from hdstbench.data.convert import Capture, convert, crop_box
from hdstbench.data.crop import note_of, read_crop
from hdstbench.data.image import open_image
from hdstbench.data.pyramid import Style
from hdstbench.data.rows import Box, open_rows
from hdstbench.errors import DataError, HdstError

HEIGHT, WIDTH = 1301, 1207
JPEG_MEAN, JPEG_WORST = 2.0, 40.0
"""Errors of JPEG at quality 92 on the test picture: 0.6 and 11 grey levels."""


def _nothing(_: int, __: int) -> None:
    """No progress is shown."""


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Smooth colours, as JPEG is made for, with a structure at every scale of the pyramid."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [
        np.sin(x / 40) + np.cos(y / 90),
        np.sin((x + y) / 300) + np.cos(y / 20),
        np.cos(x / 700) - np.sin(y / 60),
    ]
    return np.stack([np.clip(128 + 50 * wave, 0, 255) for wave in waves], axis=-1).astype(np.uint8)


KINDS: dict[str, dict[str, Any]] = {
    "lzw-16-rows.tif": {"compression": "lzw", "rowsperstrip": 16, "predictor": True},
    "deflate-1-row.btf": {"compression": "deflate", "rowsperstrip": 1, "bigtiff": True},
    "lzw-one-strip.tif": {"compression": "lzw", "rowsperstrip": HEIGHT},
    "flat-rows.btf": {"rowsperstrip": 1, "bigtiff": True},
    "flat-one-strip.tif": {"rowsperstrip": HEIGHT},
    "big-endian.tif": {"compression": "zstd", "rowsperstrip": 100, "byteorder": ">"},
    "tiled.tif": {"tile": (256, 256), "compression": "lzw"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    made = {name: folder / name for name in (*KINDS, "alpha.tif", "lossless.png")}
    for name, how in KINDS.items():
        dots = {"resolution": (96, 96), "resolutionunit": "INCH"}
        tifffile.imwrite(made[name], pixels, photometric="rgb", **dots, **how)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    tifffile.imwrite(
        made["alpha.tif"], alpha, photometric="rgb", compression="lzw", extrasamples=["unassalpha"]
    )
    Image.fromarray(pixels).save(made["lossless.png"])
    return made


def _read(path: Path) -> np.ndarray:
    image = open_image(path)
    return image.window(0, 0, *image.size).astype(int)


@pytest.mark.parametrize("name", [*KINDS, "alpha.tif", "lossless.png"])
def test_the_converted_picture_shows_the_same_pixels(
    files: dict[str, Path], pixels: np.ndarray, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out.tif"

    convert(files[name], out, Style(0.25, 92), None, _nothing)

    error = np.abs(_read(out) - pixels)
    assert error.mean() < JPEG_MEAN
    assert error.max() < JPEG_WORST


@pytest.mark.parametrize("palette", [False, True])
def test_what_is_transparent_is_white_before_and_after(tmp_path: Path, palette: bool) -> None:
    pixels = np.full((64, 64, 4), (120, 60, 160, 255), np.uint8)
    pixels[:, 32:] = 0
    path, out = tmp_path / "clear.png", tmp_path / "clear.tif"
    if palette:
        picture = Image.fromarray(pixels[..., :3]).quantize(2)
        picture.save(path, transparency=picture.getpixel((60, 5)))
    else:
        Image.fromarray(pixels).save(path)

    convert(path, out, Style(0.5, 100), None, _nothing)

    before, after = (open_image(p).window(0, 0, 64, 64).astype(int) for p in (path, out))
    assert np.abs(before - after).max() < JPEG_WORST
    assert after[5, 60].min() > 240


@given(
    name=st.sampled_from([*KINDS, "lossless.png"]),
    x=st.integers(0, WIDTH - 1),
    y=st.integers(0, HEIGHT - 1),
    width=st.integers(1, WIDTH),
    height=st.integers(1, HEIGHT),
)
@settings(max_examples=60, deadline=None)
def test_bands_put_together_are_the_window(
    files: dict[str, Path], pixels: np.ndarray, name: str, x: int, y: int, width: int, height: int
) -> None:
    box = Box(x, y, min(width, WIDTH - x), min(height, HEIGHT - y))

    bands = list(open_rows(files[name]).bands(box))

    wanted = pixels[y : y + box.height, x : x + box.width]
    np.testing.assert_array_equal(np.concatenate(bands), wanted)


@given(
    x=st.integers(0, WIDTH - 1),
    y=st.integers(0, HEIGHT - 1),
    width=st.integers(1, WIDTH),
    height=st.integers(1, HEIGHT),
)
@settings(max_examples=15, deadline=None)
def test_a_crop_of_any_size_opens_and_shows_its_place(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, Path],
    pixels: np.ndarray,
    x: int,
    y: int,
    width: int,
    height: int,
) -> None:
    out = tmp_path_factory.mktemp("crop") / "crop.btf"
    box = Box(x, y, min(width, WIDTH - x), min(height, HEIGHT - y))

    convert(files["lzw-16-rows.tif"], out, Style(0.25, 92), box, _nothing)

    wanted = pixels[y : y + box.height, x : x + box.width]
    assert open_image(out).size == (box.width, box.height)
    assert np.abs(_read(out) - wanted).max() < JPEG_WORST
    assert read_crop(out).corner.tolist() == [x, y]
    assert read_crop(out).source_size == (WIDTH, HEIGHT)


def test_openslide_sees_every_level_and_the_true_pixel_size(files: dict[str, Path], tmp_path: Path) -> None:
    import openslide  # noqa: PLC0415 - as in the reader

    out = tmp_path / "out.tif"

    done = convert(files["lzw-16-rows.tif"], out, Style(0.2738, 92), None, _nothing)

    slide = openslide.OpenSlide(out)
    assert slide.level_dimensions == ((WIDTH, HEIGHT), (603, 650), (301, 325))
    assert done.levels == slide.level_count
    assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.2738)
    assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.2738)


def test_each_level_is_the_mean_of_the_one_above(
    files: dict[str, Path], pixels: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out.tif"

    convert(files["deflate-1-row.btf"], out, Style(0.25, 95), None, _nothing)

    with tifffile.TiffFile(out) as tiff:
        small = tiff.pages[2].asarray().astype(float)
        flags = [page.subfiletype for page in tiff.pages]
    means = pixels[:1300, :1204].reshape(325, 4, 301, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - means).mean() < JPEG_MEAN
    assert flags == [0, 1, 1]


def test_memory_does_not_grow_with_the_picture(tmp_path: Path) -> None:
    height, width = 24_000, 3_000
    strip = np.full((16, width, 3), 200, np.uint8)
    coded = imagecodecs.lzw_encode(strip.tobytes())
    with tifffile.TiffWriter(tmp_path / "tall.btf", bigtiff=True) as tiff:
        shape = (height, width, 3)
        strips = (coded for _ in range(height // 16))
        tiff.write(strips, shape=shape, dtype=np.uint8, rowsperstrip=16, compression="lzw", photometric="rgb")

    tracemalloc.start()
    convert(tmp_path / "tall.btf", tmp_path / "out.tif", Style(0.25, 92), None, _nothing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < height * width * 3 / 3
    assert open_image(tmp_path / "out.tif").size == (width, height)


def test_strips_outside_the_window_are_not_decoded(
    files: dict[str, Path], pixels: np.ndarray, tmp_path: Path
) -> None:
    # given a file whose strips are all broken but those of rows 320 to 480
    path = tmp_path / "broken.tif"
    shutil.copy(files["lzw-16-rows.tif"], path)
    with tifffile.TiffFile(path) as tiff:
        offsets, counts = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    with path.open("r+b") as file:
        for number in (n for n in range(len(offsets)) if not 20 <= n < 30):
            file.seek(offsets[number])
            file.write(b"\xff" * counts[number])

    convert(path, tmp_path / "out.tif", Style(0.25, 92), Box(0, 320, WIDTH, 160), _nothing)

    assert np.abs(_read(tmp_path / "out.tif") - pixels[320:480]).max() < JPEG_WORST


def test_a_crop_of_a_crop_refers_to_the_first_picture(files: dict[str, Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first.tif", tmp_path / "second.tif"

    convert(files["tiled.tif"], first, Style(0.25, 92), Box(100, 200, 900, 800), _nothing)
    convert(first, second, Style(0.25, 92), Box(10, 20, 300, 300), _nothing)

    note = json.loads(note_of(second).read_text())
    assert note["crop"] == [110, 220, 300, 300]
    assert note["source_size"] == [WIDTH, HEIGHT]


def _capture(low: list[float], high: list[float]) -> Capture:
    return Capture(mpp=0.5, low=np.array(low), high=np.array(high), hires=None, hires_scale=0.1)


def test_a_margin_outside_the_picture_is_clipped(files: dict[str, Path]) -> None:
    capture = _capture([-50.0, 100.0], [500.0, 1290.0])

    box = crop_box(capture, 100.0, files["tiled.tif"], (WIDTH, HEIGHT))

    assert box == Box(0, 0, 700, HEIGHT)


def test_a_capture_area_outside_the_picture_is_refused(files: dict[str, Path]) -> None:
    capture = _capture([2000.0, 0.0], [3000.0, 900.0])

    with pytest.raises(DataError, match="give the image that Space Ranger got"):
        crop_box(capture, 100.0, files["tiled.tif"], (WIDTH, HEIGHT))


def test_another_picture_than_that_of_the_run_is_refused_before_work(
    cohort: Dataset, files: dict[str, Path], tmp_path: Path
) -> None:
    run = cohort.root / cohort.card.samples[0].path

    with pytest.raises(DataError, match=f"is {WIDTH} x {HEIGHT} px, the positions belong to one of"):
        execute(str(files["tiled.tif"]), str(tmp_path / "out.tif"), options(run), lambda _: None)

    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_note_is_kept(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    note_of(out).write_text("mine")

    with pytest.raises(DataError, match=r"out\.tif\.json exists; choose another name"):
        convert(files["tiled.tif"], out, Style(0.25, 92), None, _nothing)

    assert note_of(out).read_text() == "mine"
    assert not out.exists()


def test_nothing_is_left_of_a_picture_that_breaks_off(files: dict[str, Path], tmp_path: Path) -> None:
    path, out = tmp_path / "short.tif", tmp_path / "out" / "out.tif"
    path.write_bytes(files["flat-rows.btf"].read_bytes()[:2_000_000])

    with pytest.raises(DataError, match=r"cannot be decoded from row \d+ on .*fetch it again"):
        convert(path, out, Style(0.25, 92), None, _nothing)

    assert list(out.parent.iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_written(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(DataError, match=r"has 0\.0 GB free"):
        convert(files["tiled.tif"], tmp_path / "out.tif", Style(0.25, 92), None, _nothing)

    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_text("mine")

    with pytest.raises(DataError, match="exists; choose another name"):
        convert(files["tiled.tif"], out, Style(0.25, 92), None, _nothing)

    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give --run .* or --mpp"),
        ({"mpp": 96.0}, "96 um a pixel"),
        ({"mpp": 0.25, "quality": 101}, "JPEG quality 101"),
        ({"mpp": 0.25, "run_folder": "x"}, "leave --mpp out"),
        ({"run_folder": "x", "margin_um": -1.0}, "margin-um -1"),
        ({"run_folder": "x", "margin_um": float("nan")}, "margin-um nan"),
        ({"mpp": float("nan")}, "nan um a pixel"),
        ({"run_folder": "x"}, r"no square_\* folder below x"),
    ],
)
def test_wrong_options_are_named(
    files: dict[str, Path], tmp_path: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises(HdstError, match=message):
        execute(str(files["tiled.tif"]), str(tmp_path / "o.tif"), options(**given), lambda _: None)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("none.tif", None, "is not there"),
        ("deep.tif", "deep", "uint16 with 3 samples"),
        ("grey.tif", "grey", "with 1 samples"),
        ("broken.tif", "broken", "is not a readable image"),
        ("short.tif", "short", "breaks off before its pixels"),
        ("broken.jpg", "broken", "is not a readable image"),
        ("broken.svs", "broken", "is not a readable image"),
        ("tissue_hires_image.png", "png", "small picture of Space Ranger"),
    ],
)
def test_an_unfit_picture_is_refused(tmp_path: Path, name: str, kind: str | None, message: str) -> None:
    path, rgb = tmp_path / name, np.zeros((64, 64, 3), np.uint8)
    if kind == "deep":
        tifffile.imwrite(path, rgb.astype(np.uint16), photometric="rgb", compression="lzw")
    elif kind == "grey":
        tifffile.imwrite(path, rgb[..., 0], compression="lzw")
    elif kind == "short":
        tifffile.imwrite(path, rgb, photometric="rgb", compression="lzw", rowsperstrip=1)
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "png":
        Image.fromarray(rgb).save(path)
    elif kind == "broken":
        path.write_bytes(b"II*\0 this is no picture")

    with pytest.raises(HdstError, match=message):
        convert(path, tmp_path / "out.tif", Style(0.25, 92), None, _nothing)


def test_a_strip_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        shape = (60_000, 60_000, 3)
        tiff.write(
            iter([b"not much"]),
            shape=shape,
            dtype=np.uint8,
            rowsperstrip=60_000,
            compression="lzw",
            photometric="rgb",
        )

    with pytest.raises(DataError, match=r"a strip of 60000 x 60000 px .* 10.1 GB"):
        convert(path, tmp_path / "out.tif", Style(0.25, 92), None, _nothing)
