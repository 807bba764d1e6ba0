"""What is converted with a Space Ranger run is cut to its capture area, and positions follow."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hdstbench.cli.convert_job import execute
from hdstbench.data.card import Dataset
from hdstbench.data.convert import read_capture
from hdstbench.data.crop import note_of
from hdstbench.data.image import open_image
from hdstbench.data.rows import open_rows
from hdstbench.data.spaceranger import read_spaceranger


def options(run: Path | None = None, **given: object) -> dict[str, object]:
    """What the command line gives."""
    return {"run_folder": run and str(run), "margin_um": 20.0, "mpp": None, "quality": 92} | given


@pytest.fixture
def stripped(cohort: Dataset, tmp_path: Path) -> Path:
    """The image of the first slide as a stripped, compressed file with the placeholder tag."""
    pixels = tifffile.imread(cohort.root / cohort.card.samples[0].image).astype(np.uint8)
    path = tmp_path / "tissue_image.btf"
    dots = {"resolution": (96, 96), "resolutionunit": "INCH"}
    tifffile.imwrite(path, pixels, photometric="rgb", compression="lzw", rowsperstrip=16, **dots)
    return path


def test_after_conversion_the_same_pixels_lie_under_the_bins(
    cohort: Dataset, stripped: Path, tmp_path: Path
) -> None:
    sample = cohort.card.samples[0]
    run, before = cohort.root / sample.path, cohort.root / sample.image
    out = tmp_path / "cropped.tif"

    execute(str(stripped), str(out), options(run), lambda _: None)

    old, new = read_spaceranger(run, 8, before, "x"), read_spaceranger(run, 8, out, "x")
    assert (old.xy_px != new.xy_px).any()
    inside = [i for i in range(0, len(old.xy_px), 97) if (new.xy_px[i] > 20).all()]
    for i in inside:
        (x, y), (u, v) = np.floor(old.xy_px[i]).astype(int), np.floor(new.xy_px[i]).astype(int)
        a = open_image(before).window(x - 10, y - 10, 21, 21).astype(int)
        b = open_image(out).window(u - 10, v - 10, 21, 21).astype(int)
        assert np.abs(a - b).mean() < 8
    assert len(inside) > 20


def test_the_note_says_where_the_crop_was_cut_out(cohort: Dataset, stripped: Path, tmp_path: Path) -> None:
    run, out = cohort.root / cohort.card.samples[0].path, tmp_path / "cropped.tif"

    execute(str(stripped), str(out), options(run, margin_um=5.0), lambda _: None)

    note = json.loads(note_of(out).read_text())
    width, height = open_image(out).size
    assert note["source"] == "tissue_image.btf"
    assert note["source_size"] == list(open_rows(stripped).size)
    assert note["crop"][0] == 0  # the capture area reaches outside on the left
    # 40 um are free above it, 5 um are kept; the last row of 16 um bins reaches 12 um further
    assert note["crop"][1] == pytest.approx((40 - 5 - 12) / 0.2738, abs=2)
    assert note["crop"][2:] == [width, height]
    assert note["mpp"] == pytest.approx(0.2738)
    assert note["written_by"].startswith("hdstbench ")


def test_the_capture_area_is_that_of_the_outermost_bins(cohort: Dataset) -> None:
    capture = read_capture(cohort.root / cohort.card.samples[1].path)

    # 500 um are 32 bins of 16 um, the last one partial, turned by half a degree
    side_um = (capture.high - capture.low) * capture.mpp
    np.testing.assert_allclose(side_um, 512 + 496 * np.sin(np.deg2rad(0.5)), atol=0.1)
