"""One small protocol for slide images of any format, with white outside and resampling."""

import contextlib
import os
import re
import struct
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile
from PIL import Image
from typing_extensions import override

from hdstbench.arrays import FloatArray, IntArray, Pixels
from hdstbench.errors import DataError, HdstError, MissingError, one_line

WHITE = 255
TILES_KEPT = 256
UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, SyntaxError),
    *(RuntimeError, struct.error),
)
"""What readers of pictures raise on damaged files."""
SIZES = ("imagewidth", "imagelength", "tilewidth", "tilelength", "samplesperpixel")
MAX_BYTES = 2**29
"""Of decoded tiles that are kept while squares are read in order."""
MAX_UPSAMPLING = 1.15
RGB = 3
TIFF = (".tif", ".tiff", ".btf")
FLAT = (".jpg", ".jpeg", ".png")
REFUSED = re.compile(
    r"tissue_(hires|lowres)_image|cytassist_image|(aligned|detected)_(tissue_image|fiducials)"
    r"|^Visium_HD_.*(?<!tissue)_image\.tiff?$"
)
"""Small pictures of Space Ranger, and the CytAssist image of a public download, `<ID>_image.tif`."""
COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)


class SlideImage(Protocol):
    """A full-resolution picture; reading is safe from several threads."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    def window(self, x: int, y: int, width: int, height: int) -> Pixels:
        """Pixels of a window that lies wholly inside, uint8 [height, width, 3]."""
        ...

    def order(self, corners: FloatArray, side: float) -> IntArray:
        """In which order to read squares with these top left corners, [B, 2], so that it costs least."""
        return np.lexsort((corners[:, 0], corners[:, 1] // max(side, 1.0)))


def open_image(path: Path) -> SlideImage:
    """Open a picture by its content.

    Raises:
        MissingError: If there is no such file.
        DataError: If it is no readable full-resolution RGB picture; says what to do.
    """
    if not path.is_file():
        msg = f"{path} is not there; wanted the full-resolution H&E image"
        raise MissingError(msg)
    if REFUSED.search(path.name):
        msg = (
            f"{path} is a small picture of Space Ranger by its name; give the full-resolution H&E it was "
            "made from, or rename it if it is that"
        )
        raise DataError(msg)
    with readable(path):
        if path.suffix.lower() in TIFF:
            return _open_tiff(path)
        if path.suffix.lower() in FLAT:
            return PictureImage(path)
        return VendorImage(path)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in one line what a reader of pictures raises on a damaged file.

    Raises:
        DataError: In the place of what it raised.
    """
    try:
        yield
    except HdstError:
        raise
    except UNREADABLE as error:
        msg = f"{path} is not a readable image: {one_line(error) or type(error).__name__}"
        raise DataError(msg) from error


def read_region(image: SlideImage, x: float, y: float, side: float, size_px: int) -> Pixels:
    """Read a square whose top left corner is at (x, y) and resample it to `size_px`.

    The filter widens with the reduction, so nothing aliases; outside is white.

    Args:
        image: The picture.
        x: Left edge in full-resolution pixels, corner-based.
        y: Top edge.
        side: Side of the square in full-resolution pixels.
        size_px: Side of the result.

    Returns:
        uint8 [size_px, size_px, 3].
    """
    left, top = int(np.floor(x)), int(np.floor(y))
    right, bottom = int(np.ceil(x + side)), int(np.ceil(y + side))
    pixels = padded(image, left, top, right - left, bottom - top)
    if pixels.shape[:2] == (size_px, size_px) and side == size_px and x == left and y == top:
        return pixels
    box = (x - left, y - top, x - left + side, y - top + side)
    scaled = Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling.LANCZOS, box=box)
    return np.asarray(scaled)


def read_regions(
    image: SlideImage, corners: FloatArray, side: float, size_px: int
) -> Iterator[tuple[int, Pixels]]:
    """Read many squares, each tile of the picture once.

    Args:
        image: The picture.
        corners: Top left corners in full-resolution pixels, [B, 2].
        side: Side of the squares there.
        size_px: Side of the results.

    Yields:
        Numbers of squares, in the order that suits the picture, and their pixels as `read_region` gives them.
    """
    for number in image.order(corners, side).tolist():
        x, y = corners[number]
        yield number, read_region(image, float(x), float(y), side, size_px)


def padded(image: SlideImage, x: int, y: int, width: int, height: int) -> Pixels:
    """Read a window that may reach outside, which is white, uint8 [height, width, 3]."""
    out = np.full((height, width, RGB), WHITE, np.uint8)
    full_width, full_height = image.size
    x0, x1 = max(x, 0), min(x + width, full_width)
    y0, y1 = max(y, 0), min(y + height, full_height)
    if x1 > x0 and y1 > y0:
        out[y0 - y : y1 - y, x0 - x : x1 - x] = image.window(x0, y0, x1 - x0, y1 - y0)
    return out


def outside_share(image: SlideImage, x: FloatArray, y: FloatArray, side: float) -> FloatArray:
    """Share of squares with top left corners (x, y) that lies outside the picture, [N]."""
    width, height = image.size
    inside_x = np.clip(np.minimum(x + side, width) - np.maximum(x, 0), 0, side)
    inside_y = np.clip(np.minimum(y + side, height) - np.maximum(y, 0), 0, side)
    return np.asarray(np.round(1 - inside_x * inside_y / side**2, 9))


class ArrayImage(SlideImage):
    """A picture held as an array."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._pixels.shape[1], self._pixels.shape[0]

    @override
    def window(self, x: int, y: int, width: int, height: int) -> Pixels:
        return np.asarray(self._pixels[y : y + height, x : x + width])


def bytes_at(tiff: tifffile.TiffFile, count: int, offset: int) -> bytes:
    """So many bytes of a file, or what there is of them; a damaged directory may ask for anything."""
    file = tiff.filehandle.fileno()
    with contextlib.suppress(TypeError, OverflowError):  # no whole number, or none of 64 bits
        if count > 0 and offset >= 0:
            return os.pread(file, min(count, os.fstat(file).st_size), offset)
    return b""


def check_page(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse what is no 8-bit RGB.

    Raises:
        DataError: If a page is something else; says what.
    """
    strange = [name for name in SIZES if not isinstance(getattr(page, name), int)]
    if strange:
        msg = f"{path}: {', '.join(strange)} in its directory is no number; it is damaged, fetch it again"
        raise DataError(msg)
    rgb = page.dtype == np.uint8 and page.samplesperpixel >= RGB and page.planarconfig == 1
    if not rgb or page.photometric not in COLOURS:
        kind = getattr(page.photometric, "name", page.photometric)
        msg = f"{path} is {page.dtype} with {page.samplesperpixel} samples, {kind}; wanted 8-bit RGB"
        raise DataError(msg)


def _check_tiles(path: Path, page: tifffile.TiffPage) -> None:
    """The directory has to name every tile; that of a damaged file may not."""
    wide, tall = page.tilewidth, page.tilelength
    whole = min(wide, tall, page.imagewidth, page.imagelength) > 0
    tiles = -(-page.imagewidth // wide) * -(-page.imagelength // tall) if whole else 0
    if not whole or min(len(page.dataoffsets), len(page.databytecounts)) < tiles:
        msg = f"{path} breaks off before its pixels; fetch it again"
        raise DataError(msg)
    if wide * tall * RGB > MAX_BYTES:
        found, most = f"{wide:,} x {tall:,} px", f"{MAX_BYTES // RGB:,} px"
        msg = f"{path} says its tiles have {found}; wanted at most {most} a tile; fetch or tile it again"
        raise DataError(msg)


class FlatImage(SlideImage):
    """The first page of a TIFF whose rows lie uncompressed one after the other.

    Rows are read, not mapped: the pages of a map would count as this process's memory.
    """

    def __init__(self, path: Path, page: tifffile.TiffPage) -> None:
        self._file = path.open("rb")
        self._start, self._samples = page.dataoffsets[0], page.samplesperpixel
        self._size = page.imagewidth, page.imagelength

    @property
    @override
    def size(self) -> tuple[int, int]:
        return self._size

    @override
    def window(self, x: int, y: int, width: int, height: int) -> Pixels:
        out = np.empty((height, width, RGB), np.uint8)
        for row in range(height):
            start = self._start + ((y + row) * self._size[0] + x) * self._samples
            data = os.pread(self._file.fileno(), width * self._samples, start)
            if len(data) < width * self._samples:
                msg = f"{self._file.name} ends in row {y + row} of {self._size[1]}; fetch it again"
                raise DataError(msg)
            out[row] = np.frombuffer(data, np.uint8).reshape(width, self._samples)[:, :RGB]
        return out


class PictureImage(SlideImage):
    """A JPEG or PNG, which is decoded as a whole when its first pixel is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _unlimited(), Image.open(path) as image:
            self._size = image.size

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    @override
    def window(self, x: int, y: int, width: int, height: int) -> Pixels:
        return np.asarray(self._pixels[y : y + height, x : x + width])

    @cached_property
    def _pixels(self) -> Pixels:
        try:
            with _unlimited(), Image.open(self._path) as image:
                return on_white(image)
        except OSError as error:
            msg = f"{self._path} is not a whole picture: {error}; fetch it again"
            raise DataError(msg) from error


def on_white(image: Image.Image) -> Pixels:
    """RGB of a picture; what is transparent is white, uint8 [H, W, 3]."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return np.asarray(image.convert("RGB"))
    solid = image.convert("RGBA")
    ground = Image.new("RGB", solid.size, (WHITE, WHITE, WHITE))
    ground.paste(solid, mask=solid.getchannel("A"))
    return np.asarray(ground)


@contextlib.contextmanager
def _unlimited() -> Iterator[None]:
    """Let Pillow open sections of 92 megapixels without a warning; beyond its error, tiles are needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            yield
        except Image.DecompressionBombError as error:
            msg = f"{error}; make it a tiled TIFF"
            raise ValueError(msg) from error


def _open_tiff(path: Path) -> SlideImage:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        if not isinstance(page, tifffile.TiffPage):
            msg = f"{path}: the first page is no picture"
            raise DataError(msg)
        check_page(path, page)
        if page.is_tiled:
            _check_tiles(path, page)
            return TiledImage(path)
        if page.is_memmappable:
            return FlatImage(path, page)
    msg = (
        f"{path} is a stripped, compressed TIFF, which cannot be read by region; make it tiled: "
        f"hdstbench data convert {path.name} -o tiled.tif --run OUTS"
    )
    raise DataError(msg)


class TiledImage(SlideImage):
    """The first page of a tiled TIFF; decoded tiles are kept for a while."""

    def __init__(self, path: Path) -> None:
        self._path, self._tiff = path, tifffile.TiffFile(path)
        page = self._tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        self._page = page
        self._most = max(1, MAX_BYTES // (page.tilelength * page.tilewidth * RGB))
        self._lock, self._kept = threading.Lock(), min(TILES_KEPT, self._most)
        self._tiles: OrderedDict[int, Pixels] = OrderedDict()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._page.imagewidth, self._page.imagelength

    @override
    def window(self, x: int, y: int, width: int, height: int) -> Pixels:
        out = np.empty((height, width, RGB), np.uint8)
        tall, wide = self._page.tilelength, self._page.tilewidth
        across = -(-self._page.imagewidth // wide)
        for row in range(y // tall, -(-(y + height) // tall)):
            for col in range(x // wide, -(-(x + width) // wide)):
                tile = self._tile(row * across + col)
                top, left = row * tall - y, col * wide - x
                y0, y1 = max(top, 0), min(top + tall, height)
                x0, x1 = max(left, 0), min(left + wide, width)
                out[y0:y1, x0:x1] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    @override
    def order(self, corners: FloatArray, side: float) -> IntArray:
        """See SlideImage; keeps as many tiles as lie across the squares, within `MAX_BYTES`."""
        tall, wide = self._page.tilelength, self._page.tilewidth
        band = corners[:, 1] // tall
        across = (np.ptp(corners[:, 0], axis=0) if len(corners) else 0) + side
        rows = side // tall + 3
        self._kept = min(self._most, max(self._kept, int(rows * (across // wide + 2))))
        return np.lexsort((corners[:, 0], band))

    def _tile(self, index: int) -> Pixels:
        with self._lock:
            if index in self._tiles:
                self._tiles.move_to_end(index)
                return self._tiles[index]
        tile = self._read(index)
        with self._lock:
            self._tiles[index] = tile
            while len(self._tiles) > self._kept:
                self._tiles.popitem(last=False)
        return tile

    def _read(self, index: int) -> Pixels:
        offset, count = self._page.dataoffsets[index], self._page.databytecounts[index]
        if count == 0:  # a tile that was never written
            return np.full((self._page.tilelength, self._page.tilewidth, RGB), WHITE, np.uint8)
        data = bytes_at(self._tiff, count, offset)
        if len(data) == count:
            with contextlib.suppress(Exception):  # every codec has errors of its own
                tile, _, shape = self._page.decode(data, index, jpegtables=self._page.jpegtables)
                if tile is not None:
                    return np.asarray(tile[0, : shape[1], : shape[2], :RGB])
        msg = f"{self._path}: tile {index} cannot be decoded ({len(data)} of {count} bytes); fetch it again"
        raise DataError(msg)


class VendorImage(SlideImage):
    """Any format that OpenSlide knows (svs, ndpi, mrxs, ...)."""

    def __init__(self, path: Path) -> None:
        import openslide  # noqa: PLC0415 - a sweep on prepared data never needs it

        self._path, self._error = path, openslide.OpenSlideError
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            msg = f"OpenSlide cannot open it ({error or 'unknown format'})"
            raise ValueError(msg) from error

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = self._slide.dimensions
        return int(width), int(height)

    @override
    def window(self, x: int, y: int, width: int, height: int) -> Pixels:
        try:
            return on_white(self._slide.read_region((x, y), 0, (width, height)))
        except self._error as error:
            msg = f"{self._path} cannot be decoded at ({x}, {y}): {error}; fetch it again"
            raise DataError(msg) from error
