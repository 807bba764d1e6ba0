"""Read a picture of any kind from top to bottom, a band of rows at a time."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile
from PIL import JpegImagePlugin, PngImagePlugin
from typing_extensions import override

from hdstbench.arrays import Pixels
from hdstbench.data.image import (
    FLAT,
    REFUSED,
    RGB,
    TIFF,
    WHITE,
    SlideImage,
    bytes_at,
    check_page,
    on_white,
    open_image,
    readable,
)
from hdstbench.errors import DataError, MissingError

BAND = 512
"""Rows that are asked for at once; a multiple of the usual tiles, so that each is decoded once."""
FLAT_BAND = 64
MAX_AT_ONCE = 4 * 2**30
"""Bytes that a part which can only be decoded as a whole may have: a strip, a JPEG, a PNG."""


@dataclass(frozen=True, slots=True)
class Box:
    """A window in pixels; (x, y) is its top left corner."""

    x: int
    y: int
    width: int
    height: int


class Rows(Protocol):
    """A picture that is read once, from top to bottom."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    def bands(self, box: Box) -> Iterator[Pixels]:
        """Rows of a window that lies wholly inside, uint8 [any, box.width, 3], top band first."""
        ...


def open_rows(path: Path) -> Rows:
    """Open a picture for reading from top to bottom, stripped and compressed ones included.

    Raises:
        MissingError: If there is no such file.
        DataError: If it is no readable 8-bit RGB picture, or needs too much memory.
    """
    if not path.is_file():
        msg = f"{path} is not there; wanted the full-resolution H&E image"
        raise MissingError(msg)
    suffix, small = path.suffix.lower(), REFUSED.search(path.name)
    if small or suffix not in (*TIFF, *FLAT):
        return ImageRows(open_image(path))  # which refuses what is small by name
    with readable(path):
        return WholeRows(path) if suffix in FLAT else _open_tiff(path)


def _open_tiff(path: Path) -> Rows:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        if not isinstance(page, tifffile.TiffPage) or page.is_tiled:
            return ImageRows(open_image(path))
        check_page(path, page)
        _check_strips(path, page)
        return FlatRows(path) if page.is_memmappable else StripRows(path)


def _check_strips(path: Path, page: tifffile.TiffPage) -> None:
    whole = page.imagewidth > 0 and page.imagelength > 0
    strips = -(-page.imagelength // (page.rowsperstrip or page.imagelength or 1))
    if not whole or min(len(page.dataoffsets), len(page.databytecounts)) < strips:
        msg = f"{path} breaks off before its pixels; fetch it again"
        raise DataError(msg)


class ImageRows(Rows):
    """A picture that can be read by region."""

    def __init__(self, image: SlideImage) -> None:
        self._image = image

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._image.size

    @override
    def bands(self, box: Box) -> Iterator[Pixels]:
        top, bottom = box.y, box.y + box.height
        while top < bottom:
            end = min((top // BAND + 1) * BAND, bottom)
            yield self._image.window(box.x, top, box.width, end - top)
            top = end


class WholeRows(Rows):
    """A JPEG or PNG, which is decoded as a whole.

    Pillow's plugins are called by name since `Image.open` refuses sections of 179 megapixels.
    """

    def __init__(self, path: Path) -> None:
        jpeg = path.suffix.lower() != ".png"
        self._path = path
        self._picture = (JpegImagePlugin.JpegImageFile if jpeg else PngImagePlugin.PngImageFile)(path)
        _check_memory(path, self.size, "a JPEG or PNG")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._picture.size

    @override
    def bands(self, box: Box) -> Iterator[Pixels]:
        try:
            pixels = on_white(self._picture)
        except (OSError, SyntaxError) as error:
            msg = f"{self._path} is not a whole picture: {error}; fetch it again"
            raise DataError(msg) from error
        yield pixels[box.y : box.y + box.height, box.x : box.x + box.width]


class _TiffRows(Rows):
    """The first page of a stripped TIFF."""

    def __init__(self, path: Path) -> None:
        self._path, self._tiff = path, tifffile.TiffFile(path)
        page = self._tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        self._page = page

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._page.imagewidth, self._page.imagelength

    def _bytes(self, count: int, offset: int, row: int) -> bytes:
        data = bytes_at(self._tiff, count, offset)
        if len(data) != count:
            raise DataError(self._broken(row, f"{len(data)} of {count} bytes are there"))
        return data

    def _broken(self, row: int, reason: str) -> str:
        return f"{self._path} cannot be decoded from row {row} on ({reason}); fetch it again"


class FlatRows(_TiffRows):
    """Uncompressed rows that follow each other in the file, however its strips are cut."""

    @override
    def bands(self, box: Box) -> Iterator[Pixels]:
        width, samples = self._page.imagewidth, self._page.samplesperpixel
        start = self._page.dataoffsets[0]
        for top in range(box.y, box.y + box.height, FLAT_BAND):
            rows = min(FLAT_BAND, box.y + box.height - top)
            line = width * samples
            data = self._bytes(rows * line, start + top * line, top)
            pixels = np.frombuffer(data, np.uint8).reshape(rows, width, samples)
            yield pixels[:, box.x : box.x + box.width, :RGB]


class StripRows(_TiffRows):
    """Strips of any compression; those outside the window are not decoded."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tall = min(self._page.rowsperstrip or self._page.imagelength, self._page.imagelength)
        _check_memory(path, (self._page.imagewidth, self._tall), "a strip")

    @override
    def bands(self, box: Box) -> Iterator[Pixels]:
        end = box.y + box.height
        for number in range(box.y // self._tall, -(-end // self._tall)):
            top = number * self._tall
            strip = self._strip(number)
            yield strip[max(0, box.y - top) : end - top, box.x : box.x + box.width, :RGB]

    def _strip(self, number: int) -> Pixels:
        page, top = self._page, number * self._tall
        offset, count = page.dataoffsets[number], page.databytecounts[number]
        rows = min(self._tall, page.imagelength - top)
        if count == 0:  # never written
            return np.full((rows, page.imagewidth, RGB), WHITE, np.uint8)
        data = self._bytes(count, offset, top)
        with contextlib.suppress(Exception):  # every codec has errors of its own
            strip, *_ = page.decode(data, number, jpegtables=page.jpegtables)
            if strip is not None and strip.shape[1:3] == (rows, page.imagewidth) and strip.shape[3] >= RGB:
                return np.asarray(strip[0])
        raise DataError(self._broken(top, "damaged"))


def _check_memory(path: Path, size: tuple[int, int], part: str) -> None:
    need = size[0] * size[1] * RGB
    if need > MAX_AT_ONCE:
        msg = (
            f"{path}: {part} of {size[0]} x {size[1]} px can only be decoded at once, {need / 2**30:.1f} GB; "
            "make it a tiled TIFF: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --bigtiff"
        )
        raise DataError(msg)
