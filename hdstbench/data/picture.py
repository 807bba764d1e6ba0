"""What is worth knowing of a picture before it is used: size, format, levels, resolution tag."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import tifffile

from hdstbench.data.crop import read_crop
from hdstbench.data.facts import Line
from hdstbench.data.image import FLAT, TIFF, UNREADABLE, open_image, readable
from hdstbench.errors import DataError

PLACEHOLDER_UM = 25_400 / 96
"""um a pixel by a tag of 96 dots an inch, which says nothing about a scan."""
TAG_SLACK = 0.002
UM_A_UNIT = {2: 25_400.0, 3: 10_000.0}
"""By TIFF's ResolutionUnit: inch and centimetre."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """A picture; `tag_um` is what its resolution tag claims, None if it has none."""

    path: Path
    size: tuple[int, int]
    kind: str
    levels: int
    tag_um: float | None
    corner: tuple[float, float]
    source_size: tuple[int, int] | None

    @property
    def placeholder(self) -> bool:
        """Whether the tag is the 96 dots an inch that software writes when it knows nothing."""
        return self.tag_um is not None and abs(self.tag_um / PLACEHOLDER_UM - 1) < TAG_SLACK

    def lines(self) -> list[Line]:
        """As names and texts."""
        width, height = self.size
        levels = f"{self.levels} level{'s' if self.levels > 1 else ''}"
        out = [("image", f"{self.path.name}: {width} x {height} px, {self.kind}, {levels}")]
        tag = "none"
        if self.tag_um is not None:
            what = ": the placeholder of 96 dots an inch, ignored" if self.placeholder else ""
            tag = f"{self.tag_um:.4f} um a pixel{what}"
        out.append(("resolution tag", tag))
        if self.source_size:
            wide, high = self.source_size
            x, y = self.corner
            out.append(("crop", f"cut out at ({x:g}, {y:g}) of a picture of {wide} x {high} px"))
        return out


def image_facts(path: Path) -> ImageFacts:
    """Describe a picture without decoding it.

    Raises:
        MissingError: If it is not there.
        DataError: If it is no picture that can be used.
    """
    if path.is_dir():
        msg = f"{path} is a folder; wanted the file of the full-resolution H&E"
        raise DataError(msg)
    image, crop = open_image(path), read_crop(path)
    with readable(path):
        kind, levels, tag = _describe(path)
    x, y = crop.corner.tolist()
    return ImageFacts(
        path=path,
        size=image.size,
        kind=kind,
        levels=levels,
        tag_um=tag,
        corner=(x, y),
        source_size=crop.source_size,
    )


def _describe(path: Path) -> tuple[str, int, float | None]:
    """Format, number of levels, and um a pixel by the tag."""
    if path.suffix.lower() in TIFF:
        return _describe_tiff(path)
    if path.suffix.lower() in FLAT:
        return path.suffix.lstrip(".").upper(), 1, None
    import openslide  # noqa: PLC0415 - as in the reader

    with openslide.OpenSlide(path) as slide:
        tag = slide.properties.get("openslide.mpp-x")
        vendor = slide.properties.get("openslide.vendor", "unknown")
        return f"{vendor} by OpenSlide", slide.level_count, float(tag) if tag else None


def _describe_tiff(path: Path) -> tuple[str, int, float | None]:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)  # open_image has seen to it
        cut = f"tiles of {page.tilewidth} x {page.tilelength}" if page.is_tiled else "strips"
        coding = "uncompressed" if page.compression == 1 else tifffile.COMPRESSION(page.compression).name
        kind = f"{'BigTIFF' if tiff.is_bigtiff else 'TIFF'}, {cut}, {coding}"
        return kind, _levels(tiff), _tag(page)


def _levels(tiff: tifffile.TiffFile) -> int:
    """How many there are; one where the other pages cannot be read, since patches are cut from the first."""
    with contextlib.suppress(*UNREADABLE, AttributeError):
        return max(len(tiff.series[0].levels), 1 + sum(_is_reduced(p) for p in tiff.pages))
    return 1


def _tag(page: tifffile.TiffPage) -> float | None:
    """Pixel size by the resolution tag; None if it says nothing."""
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):
        many, few = page.tags["XResolution"].value
        return float(UM_A_UNIT[int(page.tags["ResolutionUnit"].value)] * few / many) or None
    return None


def _is_reduced(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    return isinstance(page, tifffile.TiffPage) and page.is_reduced
