"""The windows of HisToGene and Hist2ST, and the rows of their position tables."""

from pathlib import Path

import numpy as np
import pytest
import spots
from helpers import MPP, Planted

from hdstbench.arrays import IntArray
from hdstbench.data.card import SampleCard
from hdstbench.data.levels import native
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.plugins.plugin import AnyPlugin, RunContext
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.target import find_target
from hdstbench_baselines import his2st, his_to_gene
from hdstbench_baselines.positions import PositionMap
from hdstbench_baselines.windows import TILE, whole_windows, window_batches, windows

PLUGINS = (his_to_gene.PLUGIN, his2st.PLUGIN)


@pytest.fixture(scope="module")
def native_slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """Spots of a 20 x 20 array: one full tile, and three that are cut off, the last with 15 spots."""
    folder = tmp_path_factory.mktemp("native")
    made = spots.make("A", spots.Array(side=20))
    dataset = spots.imported(spots.write_h5ad(folder, made), folder / "out")
    sample, prepared = spots.sample_of(dataset, "A"), folder / "prepared"
    prepared.mkdir()
    recipe = Recipe(res=native("100um", 28.0, 100.0), mpp=MPP)
    write_slide(prepared, sample, sample, SampleCard(id="A", patient="p", path=""), recipe)
    return open_slide(prepared, ("ENSG0000", "ENSG0002"), find_target("log1p-cp10k"))


def as_sets(slide: Slide, parts: list[IntArray]) -> set[frozenset[tuple[int, ...]]]:
    """Array places of each window, whatever the order."""
    return {frozenset(map(tuple, slide.grid[part].tolist())) for part in parts}


def test_a_window_of_bins_is_a_block(planted: list[Planted]) -> None:
    slide = planted[0].slide

    assert as_sets(slide, windows(slide)) == as_sets(slide, slide.blocks())


def test_a_window_of_native_spots_is_a_tile_of_the_array(native_slide: Slide) -> None:
    parts = windows(native_slide)

    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(native_slide)))
    assert sorted(map(len, parts))[-1] == TILE**2
    assert len(parts) == 4
    for part in parts:
        assert len(np.unique(native_slide.grid[part] // TILE, axis=0)) == 1


@pytest.mark.parametrize("which", ["bins", "spots"])
def test_the_order_of_units_changes_no_window(
    which: str, planted: list[Planted], native_slide: Slide
) -> None:
    slide = planted[0].slide if which == "bins" else native_slide
    shuffled = slide.take(np.random.default_rng(0).permutation(len(slide)))

    for ours, theirs in zip(windows(slide), windows(shuffled), strict=True):
        np.testing.assert_array_equal(slide.grid[ours], shuffled.grid[theirs])


def test_to_predict_some_units_their_windows_are_whole(native_slide: Slide) -> None:
    chosen = np.array([7, 391, 4])
    view, whole = native_slide.take(chosen), native_slide.whole()

    found = list(whole_windows(view))

    assert as_sets(whole, [members for members, _, _ in found]) < as_sets(whole, windows(whole))
    for members, kept, mine in found:
        np.testing.assert_array_equal(members[kept], chosen[mine])
    assert sorted(np.concatenate([mine for _, _, mine in found]).tolist()) == [0, 1, 2]


def test_to_train_windows_hold_the_view_alone_in_drawn_order(native_slide: Slide) -> None:
    view = native_slide.take(np.arange(0, len(native_slide), 3))

    first, again = (list(window_batches(view, np.random.default_rng(5))) for _ in range(2))

    assert [b.index.tolist() for b, _, _ in first] == [b.index.tolist() for b, _, _ in again]
    assert sorted(np.concatenate([b.index for b, _, _ in first]).tolist()) == list(range(len(view)))
    for batch, of, members in first:
        assert of is view
        np.testing.assert_array_equal(members, batch.index)
        np.testing.assert_array_equal(batch.inputs["grid"].numpy(), view.grid[members])


def test_the_column_is_x_and_the_row_is_y() -> None:
    places = PositionMap(extent=50)

    assert places.rows == 50
    assert places(np.array([[3, 7]])).tolist() == [[7, 3]]


def test_indices_beyond_the_training_slides_count_as_the_border() -> None:
    assert PositionMap(extent=50)(np.array([[-1, 63]])).tolist() == [[49, 0]]


def test_steps_divide_the_extent_evenly() -> None:
    places = PositionMap(extent=812, steps=64)

    rows = places(np.stack([np.arange(812), np.arange(812)], axis=1))[:, 0].numpy()

    assert places.rows == 64
    assert set(np.bincount(rows)) <= {12, 13}
    assert (np.diff(rows) >= 0).all()


def test_the_extent_is_that_of_all_prepared_units(planted: list[Planted]) -> None:
    """So that rows do not depend on which units are drawn or held out."""
    slides = [planted[0].slide.take(np.arange(3)), planted[2].slide]

    assert PositionMap.of(slides, 0).extent == 32


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_the_models_run_on_native_spots_and_a_prediction_does_not_depend_on_what_is_asked_for(
    plugin: AnyPlugin, native_slide: Slide, tmp_path: Path
) -> None:
    model = plugin.build(plugin.recipes["tiny"])
    view = native_slide.take(np.append(np.arange(250), len(native_slide) - 1))  # one tile has one unit
    assert 1 in map(len, windows(view))

    model.fit([view], [], RunContext(seed=0, scratch=tmp_path, cache=tmp_path))

    slide = native_slide.hidden()
    predicted, some = model.predict(slide), np.array([398, 5, 120])
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(model.predict(slide.take(some)), predicted[some], atol=2e-5)
