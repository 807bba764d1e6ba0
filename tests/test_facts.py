"""Grids, counts and pictures are described as they are, and overlays paint each unit where it lies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from hdstbench.data.counts import Genes, MemoryCounts
from hdstbench.data.facts import CountFacts, count_facts, grid_facts, outside_units
from hdstbench.data.geometry import Affine
from hdstbench.data.image import ArrayImage
from hdstbench.data.overlay import raster
from hdstbench.data.overview import Overview, read_overview
from hdstbench.data.picture import image_facts
from hdstbench.data.problems import of_counts, of_grid, of_image, of_place
from hdstbench.data.pyramid import Style, write_pyramid
from hdstbench.data.sample import Sample


def _sample(to_px: Affine, **changes: object) -> Sample:
    grid = np.argwhere(np.ones((4, 5), bool))
    counts = sparse.csr_array(np.arange(60).reshape(20, 3))
    made = Sample(
        id="x",
        unit_um=8.0,
        mpp=8.0 / to_px.scale,
        grid=grid,
        xy_px=to_px(grid[:, ::-1].astype(float)),
        to_px=to_px,
        grid_shape=(4, 5),
        counts=MemoryCounts(counts, Genes(ids=("a", "b", "c"), symbols=("A", "B", "A"))),
        image=None,
        sources=(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@given(st.floats(-44, 44), st.integers(0, 3), st.booleans())
def test_any_orientation_is_described(degrees: float, quarter: int, mirrored: bool) -> None:
    turn = np.deg2rad(degrees + 90 * quarter)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([30.0, -30.0 if mirrored else 30.0])

    facts = grid_facts(_sample(Affine(np.column_stack([matrix, [100.0, 200.0]]))))

    ways = ["to the right (+x)", "downwards (+y)", "to the left (-x)", "upwards (-y)"]
    assert facts.col_way == ways[quarter]
    assert facts.row_way == ways[(quarter + (3 if mirrored else 1)) % 4]
    assert facts.determinant == (-1 if mirrored else 1)
    assert facts.degrees == pytest.approx(degrees, abs=1e-6)


def test_counts_are_described() -> None:
    # given units of 3, 12, 21, ... UMI, and a gene symbol that stands for two genes
    facts = count_facts(_sample(affine(8, 400, 0.0)), minimum=20)

    assert (facts.least, facts.most, facts.median) == (3, 174, 88.5)
    assert facts.mean == pytest.approx(88.5)
    assert facts.enough == 18
    assert facts.twice == ("A",)


def test_units_partly_outside_the_image_are_counted(tmp_path: Path) -> None:
    # given bins of 4 x 4 px with centres at 0, 4, 8, 12, 16 in x and at 2, 6, 10, 14 in y
    Image.new("RGB", (18, 16)).save(tmp_path / "he.png")
    sample = _sample(Affine(np.array([[4.0, 0, 0], [0, 4.0, 2]])), image=tmp_path / "he.png")

    # then the first column reaches out on the left; the last ends where the image does
    assert outside_units(sample) == 4


COUNTS = CountFacts(genes=3, twice=(), mean=1.0, median=1.0, least=0, most=9, empty=0.1, minimum=20, enough=5)


def test_facts_that_need_a_look_become_problems(tmp_path: Path) -> None:
    grid = grid_facts(_sample(affine(8, 400, 0.0)))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), tile=(32, 32), photometric="rgb")
    image = replace(image_facts(tmp_path / "a.tif"), tag_um=0.5)

    assert of_grid(grid) == of_grid(replace(grid, unit_um=200.0, determinant=1)) == []
    assert "not mirrored" in of_grid(replace(grid, determinant=1))[0].text
    assert of_counts(COUNTS) == []
    assert not of_counts(replace(COUNTS, empty=0.7))[0].stops
    assert of_counts(replace(COUNTS, enough=0))[0].stops
    assert of_image(image, 0.5) == of_image(replace(image, tag_um=None), 0.5) == []
    assert of_image(replace(image, tag_um=25_400 / 96), 0.5) == []
    assert "says 0.5000 um a pixel, the positions 0.2500" in of_image(image, 0.25)[0].text
    assert of_place(5, 100) == []
    assert "6 of 100 units lie outside" in of_place(6, 100)[0].text


@pytest.mark.parametrize(
    ("how", "kind", "tag"),
    [
        ({"tile": (64, 64)}, "TIFF, tiles of 64 x 64, uncompressed", None),
        (
            {"tile": (32, 64), "compression": "lzw", "bigtiff": True},
            "BigTIFF, tiles of 64 x 32, LZW",
            None,
        ),
        ({"resolution": (96, 96), "resolutionunit": "INCH"}, "TIFF, strips, uncompressed", 264.583),
        (
            {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"},
            "TIFF, strips, uncompressed",
            0.25,
        ),
    ],
)
def test_pictures_are_described(tmp_path: Path, how: dict[str, object], kind: str, tag: float | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((200, 300, 3), np.uint8), photometric="rgb", **how)  # type: ignore[arg-type]

    facts = image_facts(path)

    assert (facts.size, facts.kind, facts.levels) == ((300, 200), kind, 1)
    assert facts.tag_um == (None if tag is None else pytest.approx(tag, rel=1e-4))
    assert facts.placeholder == (tag == 264.583)


def test_the_levels_of_a_pyramid_are_counted(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.tif", np.full((1100, 700, 3), 200, np.uint8)
    write_pyramid(path, iter([rows]), (700, 1100), Style(0.5, 90), lambda _: None)

    facts = image_facts(path)

    assert facts.levels == 3
    assert facts.kind == "BigTIFF, tiles of 512 x 512, JPEG"
    assert facts.tag_um == pytest.approx(0.5)


@given(turn=st.floats(-3, 3), mirrored=st.booleans())
@settings(max_examples=25, deadline=None)
def test_each_unit_is_painted_where_it_lies(turn: float, mirrored: bool) -> None:
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([20.0, -20.0 if mirrored else 20.0])
    sample = _sample(Affine(np.column_stack([matrix, [200.0, 200.0]])))
    rgba = np.column_stack([np.arange(20) / 20, np.zeros(20), np.zeros(20), np.ones(20)])
    overview = Overview(np.zeros((200, 200, 3), np.uint8), np.zeros(2), 2 * sample.mpp)

    painted = raster(sample, overview, rgba)

    x, y = np.floor(sample.xy_px / 2).astype(int).T
    np.testing.assert_array_equal(painted[y, x], rgba)
    covered = (painted[..., 3] > 0).sum() * 4
    assert covered == pytest.approx(20 * 20**2, rel=0.05)


@given(x=st.integers(-30, 200), y=st.integers(-30, 200), longest=st.integers(40, 300))
@settings(max_examples=40, deadline=None)
def test_an_overview_shows_its_place(x: int, y: int, longest: int) -> None:
    # given a picture whose red rises to the right and whose green rises downwards
    down, right = np.mgrid[0:400, 0:400]
    pixels = np.stack([right / 2, down / 2, np.zeros((400, 400))], axis=-1).astype(np.uint8)
    low, side = np.array([x, y]) * 0.5, np.array([100.0, 80.0])

    overview = read_overview(ArrayImage(pixels), 0.5, low, low + side, longest)

    height, width = overview.pixels.shape[:2]
    assert overview.step_um == pytest.approx(max(100 / longest, 0.5))
    np.testing.assert_allclose((width, height), side / overview.step_um, atol=1)
    row, col = height // 2, width // 2
    place = (low + (np.array([col, row]) + 0.5) * overview.step_um) / 0.5
    assert np.abs(overview.pixels[row, col, :2] - place / 2).max() < 2
