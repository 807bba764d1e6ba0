"""Protocol magnet-paper: random bins, tiles of the image, median-scaled target, panels, folds; hd stays."""

import hashlib
import json
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from hdstbench import ENGINE
from hdstbench.data.card import Dataset, SampleCard, load_dataset
from hdstbench.data.counts import Genes, MemoryCounts
from hdstbench.data.geometry import Affine
from hdstbench.data.levels import Resolution, resolution
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.data.prepare import prepare_slide, prepared_folder
from hdstbench.data.prepared import FORMAT, load_manifest
from hdstbench.data.sample import Sample
from hdstbench.data.tiles import tiled_resolution, tiles_of
from hdstbench.errors import DataError, HdstError
from hdstbench.protocol.panel import RULE_EVERY, choose_panel, read_panel
from hdstbench.protocol.rules import find_rules, printed_panel, slide_folds
from hdstbench.protocol.slide import Slide, all_counts, open_slide
from hdstbench.protocol.target import Target, find_target
from hdstbench.protocol.task import open_fold
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import plan_job

MPP, WIDTH, HEIGHT = 0.5, 1100, 1300
MEDIAN = find_target("median-log1p")
PAPER = Options(protocol="magnet-paper", recipe="tiny")


def bins(image: Path, um: int, name: str = "x") -> Sample:
    """Bins that hang over the image at its left, with a hole and with empty ones; nothing is aligned."""
    rows, columns = 640 // um, 560 // um
    grid = np.argwhere(np.ones((rows, columns), bool))
    place = (grid + 0.5) * um
    hole = (np.abs(place - [200, 300]) < [70, 90]).all(axis=1)
    grid = np.random.default_rng(um).permutation(grid[~hole])
    step = um / MPP
    to_px = Affine(np.array([[step, 0.03 * step, step / 2 - 31.3], [-0.03 * step, step, step / 2 + 17.7]]))
    counts = np.random.default_rng(um).poisson([0.4, 1.0, 2.5], (len(grid), 3))
    counts[::7] = 0
    genes = Genes(ids=("A", "B", "C"), symbols=("A", "B", "C"))
    return Sample(
        id=name,
        unit_um=um,
        mpp=MPP,
        grid=grid,
        xy_px=to_px(grid[:, ::-1].astype(float)),
        to_px=to_px,
        grid_shape=(rows, columns),
        counts=MemoryCounts(sparse.csr_array(counts.astype(np.int32)), genes),
        image=image,
        sources=(image,),
    )


def prepared(folder: Path, res: Resolution, name: str = "x") -> tuple[Slide, Sample, Sample]:
    """A prepared slide, its bins, and those that tiles are summed from."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(picture).save(folder / "he.png")
    base = bins(folder / "he.png", 16, name)
    own = base if res.bin_um == 16 else bins(folder / "he.png", res.bin_um, name)
    out = folder / f"{name}-{res.name}"
    out.mkdir()
    write_slide(out, own, base, SampleCard(id=name, patient="p", path=""), Recipe(res=res, mpp=1.0))
    return open_slide(out, ("A", "B", "C"), MEDIAN), own, base


@pytest.fixture(scope="module")
def bins8(tmp_path_factory: pytest.TempPathFactory) -> tuple[Slide, Sample, Sample]:
    return prepared(tmp_path_factory.mktemp("bins"), replace(tiled_resolution("8um"), min_units=400))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Slide, Sample, Sample]:
    return prepared(tmp_path_factory.mktemp("tiles"), tiled_resolution("55um"))


def test_the_papers_numbers_of_units_and_pixels() -> None:
    for name in ("2um", "8um", "16um"):
        res = tiled_resolution(name)
        assert (res.min_units, res.min_umi, res.patch_px, res.base_um) == (6_000, 0, (112, 224, 512), 16)
    spots = tiled_resolution("55um")
    assert (spots.min_units, spots.patch_px, spots.bin_um) == (2_500, (224, 512), 16)


def test_a_tile_holds_its_left_and_top_edge_and_what_is_left_over_is_no_tile() -> None:
    xy = np.array([[0, 0], [224, 223.99], [447.9, 224], [448, 0], [0, 448], [-0.1, 5]])

    cells, whole = tiles_of(xy, 224, (460, 450))

    np.testing.assert_array_equal(cells[:3], [[0, 0], [0, 1], [1, 1]])
    np.testing.assert_array_equal(whole, [True, True, True, False, False, False])


@pytest.mark.parametrize(("level", "side"), [("spot", 224), ("region", 512)])
def test_tiles_are_sums_of_the_16_um_bins_whose_centre_they_hold(
    bins8: tuple[Slide, Sample, Sample], level: str, side: int
) -> None:
    slide, _, base = bins8
    counts = base.counts.sums(sparse.csr_array(np.eye(len(base.counts), dtype=np.int64)))[0].toarray()
    known, library = slide.need_labels().read_counts(slide._folder.parent / "labels", level)

    for number, (row, column) in enumerate(slide.grid_of(level)):
        low, high = np.array([column, row]) * side, np.array([column + 1, row + 1]) * side
        inside = ((base.xy_px >= low) & (base.xy_px < high)).all(axis=1)
        np.testing.assert_array_equal(known[[number]].toarray()[0], counts[inside].sum(axis=0))
        assert library[number] == counts[inside].sum()
        assert (high <= [WIDTH, HEIGHT]).all()


def test_a_bins_parent_is_the_tile_that_holds_its_centre(bins8: tuple[Slide, Sample, Sample]) -> None:
    slide = bins8[0]

    for level, side in (("spot", 224), ("region", 512)):
        own = slide.grid_of(level)[slide.parents(level)]
        np.testing.assert_array_equal(own, np.floor(slide.xy_um[:, ::-1] / MPP / side))


def test_patches_are_the_images_own_pixels(bins8: tuple[Slide, Sample, Sample]) -> None:
    slide, own, _ = bins8
    picture = np.asarray(Image.open(own.image))
    padded = np.pad(picture, ((600, 600), (600, 600), (0, 0)), constant_values=255)

    for level, side in slide.patch_px.items():
        some = np.arange(0, slide.size(level), 9)
        for number, patch in zip(some, slide.patches(level, some), strict=True):
            x, y = np.floor(slide.xy_of(level)[number] / MPP - side / 2 + 0.5).astype(int) + 600
            np.testing.assert_array_equal(patch, padded[y : y + side, x : x + side])
    assert dict(slide.patch_px) == {"unit": 112, "spot": 224, "region": 512}
    assert slide.mpp == MPP
    around = slide.tiles_around(np.arange(5), side=3)[:, 4]
    np.testing.assert_array_equal(around, slide.patches("unit", np.arange(5)))


def test_bins_are_drawn_at_random_by_seed_whatever_their_depth(
    bins8: tuple[Slide, Sample, Sample], tmp_path: Path
) -> None:
    slide, own, _ = bins8
    res = replace(tiled_resolution("8um"), min_units=400)
    again, other = (prepared(tmp_path / name, res, name)[0] for name in ("x", "y"))

    assert len(slide) == len(slide.blocks()) == 400
    np.testing.assert_array_equal(slide.grid, again.grid)
    assert slide.key == again.key
    assert not np.array_equal(slide.grid, other.grid)
    empty = slide.need_labels().library == 0
    assert 0.1 < empty.mean() < 0.25  # a seventh is without counts
    assert not slide.need_labels().target()[empty].any()
    whole = tiles_of(own.xy_px, 224, (WIDTH, HEIGHT))[1] & tiles_of(own.xy_px, 512, (WIDTH, HEIGHT))[1]
    left = load_manifest(slide._folder.parent).left_out
    assert left == {"outside of whole tiles": int((~whole).sum()), "not drawn": int(whole.sum()) - 400}


def test_spots_are_tiles_that_lie_in_tissue(tiles: tuple[Slide, Sample, Sample]) -> None:
    """The share of 1,600 places in each tile; near the limit both may differ."""
    slide, own, _ = tiles
    step = (np.arange(40) + 0.5) / 40
    mask = np.zeros(own.grid_shape, bool)
    mask[tuple(own.grid.T)] = True
    kept = {tuple(cell) for cell in slide.grid.tolist()}

    for row, column in np.argwhere(np.ones((5, 4), bool)):  # whole ones with a centre in a whole region
        xy = np.stack(np.meshgrid((column + step) * 224, (row + step) * 224), axis=-1).reshape(-1, 2)
        linear, move = own.to_px.matrix[:, :2], own.to_px.matrix[:, 2]
        at = np.round(np.linalg.solve(linear, (xy - move).T).T[:, ::-1]).astype(int)
        inside = ((at >= 0) & (at < own.grid_shape)).all(axis=1)
        share = (inside & mask[tuple(np.clip(at, 0, np.array(own.grid_shape) - 1).T)]).mean()
        if abs(share - 0.8) > 0.04:
            assert ((row, column) in kept) == (share > 0.8), (row, column, share)
    assert 4 < len(kept) < 20
    assert all(row < 5 and column < 4 for row, column in kept)
    np.testing.assert_array_equal(slide.xy_um, (slide.grid[:, ::-1] + 0.5) * 224 * MPP)
    assert slide.levels == ("unit", "region")
    assert slide.unit_um == 224 * MPP


def test_the_target_is_scaled_to_the_median_library_of_the_slide(bins8: tuple[Slide, Sample, Sample]) -> None:
    """scanpy's normalize_total without a target_sum, then log1p: empty cells have no say in the median."""
    slide = bins8[0]
    labels = slide.need_labels()
    counts, library = labels.counts().toarray(), labels.library
    median = np.median(library[library > 0])

    wanted = np.log(1 + counts / np.maximum(library, 1)[:, None] * median)

    np.testing.assert_allclose(labels.target(), wanted, rtol=1e-6)
    np.testing.assert_allclose(slide.target.from_sparse(labels.counts(), library).toarray(), wanted)
    np.testing.assert_array_equal(slide.take(np.arange(9)).need_labels().target(), labels.target()[:9])


def test_a_hidden_slide_does_not_tell_its_scale(bins8: tuple[Slide, Sample, Sample]) -> None:
    hidden = bins8[0].hidden()

    assert hidden.target == hidden.whole().target == MEDIAN
    with pytest.raises(DataError, match="median-log1p is scaled by a slide's own counts"):
        hidden.target.from_counts(np.ones((1, 3)), np.ones(1))
    assert Target().of_slide(np.arange(9)) == Target() == Target().hidden()


@pytest.fixture(scope="module")
def folders(cohort: Dataset) -> dict[str, Path]:
    res = tiled_resolution("16um")
    return {s.id: prepare_slide(cohort, s, res) for s in cohort.card.samples}


def test_a_fold_has_no_validation_and_trains_on_every_unit(cohort: Dataset, folders: dict[str, Path]) -> None:
    job = plan_job(cohort, "16um", PAPER)

    fold = open_fold(job.task, job.split, 1, folders)

    assert fold.val == ()
    assert [len(s) for s in fold.train] == [load_manifest(folders[s.id]).units for s in fold.train]
    assert [s.id for s in fold.train] == ["SIM1", "SIM3"]
    assert job.task.target == fold.train[0].target.name == "median-log1p"
    assert len({s.target.scale for s in fold.train}) == 2


def test_the_panel_is_of_all_slides_and_says_so(cohort: Dataset, folders: dict[str, Path]) -> None:
    job = plan_job(cohort, "16um", PAPER)
    every = list(folders.values())
    shares = []
    for folder in every:
        ids, _, _, bulk = all_counts(folder)
        shares.append(bulk / bulk.sum())
    wanted = {ids[i] for i in np.argsort(-np.mean(shares, axis=0), kind="stable")[:250]}

    panels = [open_fold(job.task, job.split, number, folders).panel for number in (0, 1)]

    for panel in panels:
        assert {panel.genes[i] for i in panel.mean250} == wanted
    assert panels[0].hvg50.tolist() != panels[1].hvg50.tolist()  # still of the training slides
    trained = choose_panel(every[1:], every, Target())
    assert {trained.genes[i] for i in trained.mean250} != wanted
    assert job.task.panel == RULE_EVERY
    assert job.flags == ("panel-sees-test",)


@pytest.mark.parametrize(
    ("res", "name", "count"),
    [("8um", "magnet-paper-8um", 248), ("16um", "magnet-paper-16um-55um", 250), ("2um", "", 0)],
)
def test_the_printed_panel_is_taken_where_there_is_one(res: str, name: str, count: int) -> None:
    crc = load_dataset("crc")

    job = plan_job(crc, res, PAPER)

    assert job.panel == printed_panel(crc.card, res) == name
    assert len(job.task.listed) == (len(read_panel(crc, name)) if name else 0) == count
    assert job.stem == f"crc-{res}-magnet-paper"
    assert job.flags == ("panel-sees-test",)


def test_each_slide_is_a_fold_and_slides_of_one_patient_are_flagged(cohort: Dataset) -> None:
    crc, first = slide_folds(load_dataset("crc")), cohort.card.samples[0]
    samples = (first, replace(cohort.card.samples[1], patient=first.patient), *cohort.card.samples[2:])
    shared = replace(cohort, card=replace(cohort.card, samples=samples, splits={}))

    job = plan_job(shared, "16um", PAPER)

    assert crc.name == "patient"
    assert not crc.leaky
    assert [fold.test for fold in job.split.folds] == [(s.id,) for s in samples]
    assert job.split.leaky
    assert job.flags == ("patient-leak", "panel-sees-test")
    assert job.stem == f"{cohort.card.name}-16um-magnet-paper"


@pytest.mark.parametrize(
    ("name", "res", "change", "message"),
    [
        ("her2st", "100um", {}, "her2st has spots of 100 um, choose protocol hd"),
        (
            "demo",
            "16um",
            {"bins": "all"},
            "draws a fixed number of units of each slide; leave out --bins all",
        ),
        ("demo", "16um", {"split": "within"}, "tests whole slides, split within parts of them; leave it out"),
        ("hd-tonsil", "16um", {}, "holds 1 slide; folds of one slide each want several"),
        ("demo", "24um", {}, "demo has no resolution '24um'"),
    ],
)
def test_what_the_protocol_cannot_do_is_one_clear_line(
    name: str, res: str, change: dict[str, str], message: str
) -> None:
    with pytest.raises(HdstError, match=message):
        plan_job(load_dataset(name), res, replace(PAPER, **change))  # type: ignore[arg-type]


def test_sizes_and_sections_that_do_not_fit_are_told(tmp_path: Path) -> None:
    card = load_dataset("demo").card
    rules = find_rules("magnet-paper")
    with pytest.raises(HdstError, match="made at 2um, 8um, 16um, 55um, not at '24um'"):
        rules.resolution(replace(card, resolutions=("24um",)), "24um")
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(tmp_path / "he.png")
    sample = bins(tmp_path / "he.png", 16)
    with pytest.raises(DataError, match="no unit in tissue lies on whole tiles of 512 px"):
        write_slide(tmp_path, sample, sample, SampleCard(id="x", patient="p", path=""), _recipe())
    with pytest.raises(HdstError, match="no protocol 'nature'; there are hd, magnet-paper"):
        find_rules("nature")


def _recipe() -> Recipe:
    return Recipe(res=tiled_resolution("16um"), mpp=1.0)


def test_hd_keeps_its_prepared_folders_and_its_tasks(cohort: Dataset) -> None:
    """Names are made as before there was another protocol, so that nothing has to be prepared again."""
    sample, res = cohort.card.samples[0], resolution("16um")
    plain = asdict(res)
    assert plain.pop("patch_px") == ()
    settings = [ENGINE, FORMAT, asdict(sample), plain, cohort.card.mpp, False, cohort.made]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    folder = prepared_folder(cohort, sample, res, everything=False)
    job = plan_job(cohort, "16um", Options(recipe="tiny"))

    assert folder.name.startswith(f"{sample.id}-{digest}-")
    assert (job.task.protocol, job.task.target, job.task.panel) == ("hd", "log1p-cp10k", "mean250+hvg50")
    assert job.stem == f"{cohort.card.name}-16um"
    assert job.flags == ()


def test_the_paper_numbers_are_part_of_the_package() -> None:
    assert files("hdstbench.report").joinpath("magnet_paper.csv").is_file()
