"""Prepared slides: pixels under every unit, sums of every level, and nothing left by failures."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import GENES, MPP, make_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from hdstbench.data import pack
from hdstbench.data.blocks import sample_blocks
from hdstbench.data.card import Dataset, SampleCard, load_dataset
from hdstbench.data.counts import Genes, MemoryCounts
from hdstbench.data.geometry import Affine
from hdstbench.data.levels import resolution
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.data.prepare import is_prepared, prepare_slide, prepared_folder
from hdstbench.data.prepared import load_arrays, load_blocks, load_manifest
from hdstbench.data.sample import Sample
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.slide import open_slide
from hdstbench.protocol.target import find_target


@given(
    turn=st.floats(0, 2 * np.pi),
    mirror=st.booleans(),
    mpp=st.floats(0.3, 1.1),
    shift=st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
    res=st.sampled_from(["8um", "16um"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_a_landmark_lies_in_the_middle_of_its_units_patch(
    tmp_path_factory: pytest.TempPathFactory,
    turn: float,
    mirror: bool,
    mpp: float,
    shift: tuple[float, float],
    res: str,
    seed: int,
) -> None:
    """For any turn, mirror, scale and offset, also where the array hangs over the image."""
    folder = tmp_path_factory.mktemp("landmark")
    unit_um, side = int(res.removesuffix("um")), 256 // int(res.removesuffix("um"))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([1.0, -1.0 if mirror else 1.0]) * unit_um / mpp
    middle = 220 / mpp + np.array(shift)
    to_px = Affine(np.column_stack([matrix, middle - matrix @ np.full(2, side / 2 - 0.5)]))
    grid = np.argwhere(np.ones((side, side), bool))
    xy = to_px(grid[:, ::-1].astype(float))
    marked = int(np.random.default_rng(seed).integers(len(grid)))
    picture = np.full((int(440 / mpp),) * 2 + (3,), 90, np.uint8)
    x, y = np.floor(xy[marked]).astype(int)
    reach = int(np.ceil(2.2 / mpp)) + 1
    picture[max(y - reach, 0) : max(y + reach, 0), max(x - reach, 0) : max(x + reach, 0)] = 250
    Image.fromarray(picture).save(folder / "he.png")
    sample = _sample(folder, grid, xy, to_px, (unit_um, mpp))
    base = sample if unit_um == 8 else _fine(sample, side)
    (folder / "out").mkdir()

    card = SampleCard(id="x", patient="p", path="")
    write_slide(folder / "out", sample, base, card, Recipe(res=resolution(res), mpp=1.0))
    slide = open_slide(folder / "out", ("A",), find_target("log1p-cp10k"))

    at = int(np.flatnonzero((slide.grid == grid[marked]).all(axis=1))[0])
    patch = slide.patches("unit", np.array([at]))[0, ..., 0].astype(int)
    visible = 0 < x < picture.shape[1] - 1 and 0 < y < picture.shape[0] - 1
    if visible:
        assert patch[12:16, 12:16].max() > 200
        assert slide.pad_fraction("unit")[at] < 1
    inside = (np.abs(xy - picture.shape[0] / 2) < picture.shape[0] / 2 - 16 / mpp).all(axis=1)
    rows = [int(np.flatnonzero((grid == g).all(axis=1))[0]) for g in slide.grid]
    np.testing.assert_array_equal(slide.pad_fraction("unit")[inside[rows]], 0)


def _sample(
    folder: Path, grid: np.ndarray, xy: np.ndarray, to_px: Affine, scale: tuple[float, float]
) -> Sample:
    counts = sparse.csr_array(np.full((len(grid), 2), 100, np.int32))
    side = int(grid.max()) + 1
    return Sample(
        id="x",
        unit_um=scale[0],
        mpp=scale[1],
        grid=grid,
        xy_px=xy,
        to_px=to_px,
        grid_shape=(side, side),
        counts=MemoryCounts(counts, Genes(ids=("A", "B"), symbols=("A", "B"))),
        image=folder / "he.png",
        sources=(folder / "he.png",),
    )


def _fine(sample: Sample, side: int) -> Sample:
    """The 8 um bins of a sample of 16 um bins."""
    grid = np.argwhere(np.ones((2 * side, 2 * side), bool))
    matrix = sample.to_px.matrix[:, :2] / 2
    to_px = Affine(np.column_stack([matrix, sample.to_px.matrix[:, 2] - matrix @ [0.5, 0.5]]))
    xy = to_px(grid[:, ::-1].astype(float))
    return _sample(sample.image.parent, grid, xy, to_px, (8, sample.mpp))


@pytest.mark.parametrize("turn", [0.0, 0.3, 2.2, 4.0])
@pytest.mark.parametrize(("mirror", "mpp"), [(True, 0.2738), (False, 0.61), (True, 0.9)])
def test_a_patch_is_centred_on_its_bin_within_a_pixel(
    tmp_path: Path, turn: float, mirror: bool, mpp: float
) -> None:
    """A round spot is painted around the very centre of a bin; its centroid in the patch tells the error."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([1.0, -1.0 if mirror else 1.0]) * 8 / mpp
    grid = np.argwhere(np.ones((32, 32), bool))
    to_px = Affine(np.column_stack([matrix, 220 / mpp - matrix @ np.full(2, 15.5)]))
    xy = to_px(grid[:, ::-1].astype(float))
    marked = 32 * 7 + 8  # in the middle of its region
    side = int(440 / mpp)
    y, x = np.mgrid[:side, :side] + 0.5  # corner-based, as the positions are
    spot = np.exp(-((x - xy[marked, 0]) ** 2 + (y - xy[marked, 1]) ** 2) / (2 * (4 / mpp) ** 2))
    Image.fromarray(np.repeat((255 - 250 * spot).astype(np.uint8)[..., None], 3, axis=2)).save(
        tmp_path / "he.png"
    )
    sample = _sample(tmp_path, grid, xy, to_px, (8, mpp))
    (tmp_path / "out").mkdir()

    write_slide(
        tmp_path / "out",
        sample,
        sample,
        SampleCard(id="x", patient="p", path=""),
        Recipe(res=resolution("8um"), mpp=1.0),
    )
    slide = open_slide(tmp_path / "out", ("A",), find_target("log1p-cp10k"))

    at = int(np.flatnonzero((slide.grid == grid[marked]).all(axis=1))[0])
    for level in ("unit", "region"):
        index = at if level == "unit" else slide.parents(level)[at]
        patch = 255.0 - slide.patches(level, np.array([index]))[0, ..., 0]
        place = np.arange(len(patch)) + 0.5
        centroid = np.array([patch.sum(axis=0) @ place, patch.sum(axis=1) @ place]) / patch.sum()
        aim = len(patch) / 2 + slide.xy_um[at] - slide.xy_of(level)[index]
        assert np.abs(centroid - aim).max() < 0.75, level


@pytest.mark.parametrize("res", ["8um", "16um", "55um"])
def test_coarse_counts_are_sums_of_the_8_um_bins_inside(tmp_path: Path, res: str) -> None:
    planted = make_slide(tmp_path, "a", res=res)
    fine = make_slide(tmp_path / "fine", "a", res="8um")
    labels, slide = fine.slide.need_labels(), planted.slide
    centre = (fine.slide.grid[:, ::-1] + 0.5) * 8

    for level in slide.levels if res == "55um" else slide.levels[1:]:
        side = {"unit": 56, "spot": 56, "region": 128}[level]
        cells = np.floor(centre[:, ::-1] / side).astype(int)
        counts = load_arrays(planted.folder / "labels" / f"{level}.npz")
        shape = (len(counts["library"]), 4)
        stored = sparse.csr_array(
            (counts["data"], counts["indices"], counts["indptr"]), shape=shape
        ).toarray()
        for square, row in zip(slide.grid_of(level), stored[slide.rows(level)], strict=True):
            inside = (cells == square).all(axis=1)
            np.testing.assert_array_equal(labels.counts().toarray()[inside].sum(axis=0), row[:3])


def test_parents_hold_the_centres_of_their_units(tmp_path: Path) -> None:
    slide = make_slide(tmp_path, "a", turn=0.4).slide
    centre = (slide.grid + 0.5) * 16

    for level, side in (("spot", 56), ("region", 128)):
        np.testing.assert_array_equal(slide.grid_of(level)[slide.parents(level)], centre // side)


def test_only_coarse_units_in_tissue_are_targets(tmp_path: Path) -> None:
    slide = make_slide(tmp_path, "a").slide

    _, valid = slide.need_labels().coarse("spot")

    whole = (slide.grid_of("spot") < 9).all(axis=1)  # 512 um: the tenth spot of a row is cut off at 8 um
    np.testing.assert_array_equal(valid, whole)
    assert slide.need_labels().coarse("region")[1].all()


def test_a_block_image_holds_every_patch_of_every_level(tmp_path: Path) -> None:
    for turn in (0.0, 0.5, 0.785):
        planted = make_slide(tmp_path / str(turn), "a", turn=turn)
        side = load_blocks(planted.folder).shape[1]
        for level in planted.slide.levels:
            offset = load_arrays(planted.folder / "pixels" / f"{level}.npz")["offset"]
            assert offset.min() >= 0
            assert offset.max() + planted.slide.patch_px[level] <= side


def test_dense_windows_are_whole_and_what_was_not_drawn_of_them_stays_outside_the_headline(
    tmp_path: Path,
) -> None:
    planted = make_slide(tmp_path, "a", side_um=2048)
    arrays = load_arrays(planted.folder / "pixels" / "unit.npz")
    squares = np.argwhere(np.ones((16, 16)))
    drawn = sample_blocks(squares, np.full(256, 64), 64, 6_000, "a/16um").reshape(16, 16)

    row, col = (arrays["grid"] // 8).T
    np.testing.assert_array_equal(arrays["sampled"], drawn[row, col])
    left = load_manifest(planted.folder).left_out
    assert left["in dense windows only"] == (~arrays["sampled"]).sum() > 0
    assert len(arrays["grid"]) + left["in blocks not drawn"] == 128 * 128

    assert (np.unique(arrays["window"]) == [-1, 0, 1, 2]).all()
    for number in range(3):
        members = arrays["grid"][arrays["window"] == number]
        assert len(members) == 32 * 32
        assert (np.ptp(members, axis=0) == 31).all()


def test_preparing_twice_does_nothing_and_from_scratch_gives_the_same_content(
    cohort: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, res = cohort.card.samples[0], cohort.card.resolution("16um")
    monkeypatch.setenv("HDSTBENCH_CACHE", str(tmp_path / "one"))
    first = prepare_slide(cohort, sample, res)
    stamp = (first / "manifest.json").stat().st_mtime_ns
    again = prepare_slide(cohort, sample, res)
    monkeypatch.setenv("HDSTBENCH_CACHE", str(tmp_path / "two"))
    other = prepare_slide(cohort, sample, res)

    assert again == first
    assert (first / "manifest.json").stat().st_mtime_ns == stamp
    a, b = load_manifest(first), load_manifest(other)
    assert (a.pixels, a.labels) == (b.pixels, b.labels)
    assert a.units > 300
    assert a.mpp == 0.5


def test_prepared_slides_can_be_used_without_the_files_they_were_made_from(
    cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDSTBENCH_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(cohort_folder / "SIM1", copy / "SIM1")
    shutil.copyfile(cohort_folder / "dataset.toml", copy / "dataset.toml")
    dataset = load_dataset(str(copy))
    sample, res = dataset.card.samples[0], dataset.card.resolution("16um")
    made = prepare_slide(dataset, sample, res)
    (copy / "SIM1" / "outs").rename(copy / "gone")
    with pytest.raises(MissingError, match="no square_016um below"):  # its image is still there
        prepared_folder(dataset, sample, res, everything=False)
    shutil.rmtree(copy / "SIM1")

    assert prepared_folder(dataset, sample, res, everything=False) == made
    assert is_prepared(dataset, sample, res, everything=False)
    with pytest.raises(MissingError, match="no square_008um below"):
        prepare_slide(dataset, sample, dataset.card.resolution("8um"))


def test_a_changed_input_is_prepared_anew(cohort_folder: Path, cohort: Dataset) -> None:
    sample, res = cohort.card.samples[1], cohort.card.resolution("16um")
    before = prepared_folder(cohort, sample, res, everything=False)

    (cohort_folder / sample.image).touch()

    assert prepared_folder(cohort, sample, res, everything=False) != before


def test_a_failure_leaves_nothing_behind(
    cohort: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDSTBENCH_CACHE", str(tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack, "save_blocks", fail)
    sample, res = cohort.card.samples[0], cohort.card.resolution("16um")

    with pytest.raises(DataError, match="No space left on device; free space or set HDSTBENCH_CACHE"):
        prepare_slide(cohort, sample, res)

    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_disk_that_is_too_small_is_known_before_writing(
    cohort: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDSTBENCH_CACHE", str(tmp_path))
    full = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(pack.shutil, "disk_usage", lambda _: full)

    with pytest.raises(DataError, match=r"has 0\.0 GB free, this slide needs 0\.0 GB; free space"):
        prepare_slide(cohort, cohort.card.samples[0], cohort.card.resolution("16um"))

    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_a_write_that_the_system_refuses_is_one_line_and_leaves_nothing(
    cohort_folder: Path, tmp_path: Path
) -> None:
    """The real thing: the kernel refuses to let a file grow, in the middle of writing block images."""
    resource_limit = resource.RLIMIT_FSIZE
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit({resource_limit}, (2_000_000, 2_000_000))\n"
        "from hdstbench.cli import main\n"
        "sys.argv = ['hdstbench', 'run', '-m', 'mean', '-d', sys.argv[1], '-r', '16um', '-o', sys.argv[2]]\n"
        "main()\n"
    )
    words = [sys.executable, "-c", script, str(cohort_folder / "dataset.toml"), str(tmp_path / "runs")]
    env = {**os.environ, "HDSTBENCH_CACHE": str(tmp_path / "cache")}

    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False, timeout=300)

    assert done.returncode == 2
    assert "File too large; free space or set HDSTBENCH_CACHE" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(p.is_file() for p in (tmp_path / "cache" / "prepared").rglob("*"))


def test_an_image_is_not_enlarged_beyond_measure(tmp_path: Path) -> None:
    planted = make_slide(tmp_path, "a")
    sample = Sample(
        id="a",
        unit_um=8,
        mpp=0.69,
        grid=np.zeros((1, 2), int),
        xy_px=np.zeros((1, 2)),
        to_px=Affine(np.eye(2, 3)),
        grid_shape=(1, 1),
        image=tmp_path / "a.png",
        sources=(),
        counts=MemoryCounts(sparse.csr_array((1, 1), dtype=np.int32), Genes(ids=("A",), symbols=("A",))),
    )

    with pytest.raises(DataError, match=r"the card wants 0\.25: enlarging .* set mpp = 0\.69"):
        write_slide(
            planted.folder,
            sample,
            sample,
            SampleCard(id="a", patient="p", path=""),
            Recipe(res=resolution("8um"), mpp=0.25),
        )


def test_a_slide_without_counts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a: no unit in tissue has 50 UMI"):
        _empty(tmp_path)


def _empty(tmp_path: Path) -> None:
    planted = make_slide(tmp_path, "a")
    grid = np.argwhere(np.ones((4, 4)))
    sample = Sample(
        id="a",
        unit_um=16,
        mpp=MPP,
        grid=grid,
        xy_px=grid * 8.0,
        to_px=Affine(8.0 * np.eye(2, 3)),
        grid_shape=(4, 4),
        image=tmp_path / "a.png",
        sources=(),
        counts=MemoryCounts(sparse.csr_array((16, 1), dtype=np.int32), Genes(ids=("A",), symbols=("A",))),
    )
    write_slide(
        planted.folder,
        sample,
        sample,
        SampleCard(id="a", patient="p", path=""),
        Recipe(res=resolution("16um"), mpp=MPP),
    )


def test_genes_of_the_panel_have_to_be_there(tmp_path: Path) -> None:
    planted = make_slide(tmp_path, "a")

    with pytest.raises(DataError, match="lacks 1 genes of the panel, such as OTHER"):
        open_slide(planted.folder, (*GENES, "OTHER"), find_target("log1p-cp10k"))
