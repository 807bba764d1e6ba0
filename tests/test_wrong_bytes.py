"""Whatever a damaged TIFF says, each way to read a picture gives its pixels or refuses it in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hdstbench.data.image import open_image, padded
from hdstbench.data.picture import image_facts
from hdstbench.data.rows import Box, open_rows
from hdstbench.errors import DataError

KINDS: list[dict[str, object]] = [
    {"tile": (32, 32)},
    {"tile": (32, 32), "compression": "jpeg"},
    {},
    {"compression": "zlib", "rowsperstrip": 16},
]
MOST = 1_000
"""Pixels of a side beyond which a picture is not read here; a wrong size may be any."""
Damage = Callable[[int], Path]


@pytest.fixture(scope="module")
def damage(tmp_path_factory: pytest.TempPathFactory) -> Damage:
    """Write a TIFF of a seed's kind with wrong bytes in header and directory; some break off."""
    path = tmp_path_factory.mktemp("damaged") / "x.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3)).astype(np.uint8)
    whole = []
    for options in KINDS:
        tifffile.imwrite(path, pixels, photometric="rgb", **options)
        whole.append(path.read_bytes())

    def write(seed: int) -> Path:
        rng, content = np.random.default_rng(seed), bytearray(whole[seed % len(KINDS)])
        for place in rng.integers(0, 400, int(rng.integers(1, 20))):
            content[place] = rng.integers(256)
        cut = len(content) if rng.random() < 0.6 else int(rng.integers(1, len(content)))
        path.write_bytes(content[:cut])
        return path

    return write


def by_region(path: Path) -> None:
    image = open_image(path)
    if max(image.size) < MOST:
        padded(image, -5, -5, 60, 60)


def by_rows(path: Path) -> None:
    rows = open_rows(path)
    if 0 < min(rows.size) <= max(rows.size) < MOST:
        assert sum(len(band) for band in rows.bands(Box(0, 0, *rows.size))) == rows.size[1]


@pytest.mark.parametrize("read", [by_region, by_rows, image_facts])
@given(seed=st.integers(0, 10**6))
@example(seed=11323)  # an offset that is a float
@example(seed=17727)  # one that is a text
@example(seed=41790)  # a negative one
@settings(max_examples=150, deadline=None)
def test_a_damaged_picture_is_read_or_refused_in_one_line(
    damage: Damage, read: Callable[[Path], object], seed: int
) -> None:
    path, refused = damage(seed), ""

    try:
        read(path)
    except DataError as error:
        refused = str(error)

    assert len(refused.splitlines()) == (str(path) in refused)
