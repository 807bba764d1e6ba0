"""Frames, levels and blocks."""

import numpy as np
import pytest
from helpers import affine
from hypothesis import given, settings
from hypothesis import strategies as st

from hdstbench.data.blocks import MIN_BLOCKS, place_windows, sample_blocks
from hdstbench.data.geometry import fit_affine
from hdstbench.data.levels import cell_of, centre_of, number_cells
from hdstbench.simulate.frame import place


@given(st.floats(-3, 3), st.floats(0.1, 9), st.booleans(), st.floats(-500, 500))
def test_the_fit_finds_any_map_of_a_grid(turn: float, scale: float, mirror: bool, shift: float) -> None:
    uv = np.argwhere(np.ones((6, 5))).astype(float)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = scale * rotation @ np.diag([1, -1 if mirror else 1])
    xy = uv @ matrix.T + [shift, 2 * shift]

    found, residual = fit_affine(uv, xy)

    np.testing.assert_allclose(found(uv), xy, atol=1e-7)
    assert found.scale == pytest.approx(scale)
    assert residual < 1e-7


def test_a_bent_grid_leaves_a_residual() -> None:
    uv = np.argwhere(np.ones((6, 6))).astype(float)

    _, residual = fit_affine(uv, uv + 0.05 * uv**2)

    assert residual > 0.1


@given(st.floats(0.01, 800), st.floats(0.01, 800), st.sampled_from([16.0, 56.0, 128.0]))
def test_a_point_lies_in_its_square(u: float, v: float, side: float) -> None:
    cell = cell_of(np.array([[u, v]]), side)
    centre = centre_of(cell, side)

    assert np.abs(centre - [u, v]).max() <= side / 2 + 1e-9


def test_squares_are_numbered_in_order_of_row_and_column() -> None:
    squares, number = number_cells(np.array([[2, 0], [0, 5], [2, 0], [0, 1]]))

    np.testing.assert_array_equal(squares, [[0, 1], [0, 5], [2, 0]])
    np.testing.assert_array_equal(number, [2, 1, 2, 0])


@pytest.mark.parametrize("index", [0, 1])
def test_simulated_arrays_are_mirrored_turned_and_partly_off_the_image(index: int) -> None:
    frame = place(0.5, index)
    corner = np.array([0.0, frame.squares * 2])
    grid = [a.ravel() for a in np.meshgrid(corner, corner)]
    x, y = frame.to_image(*grid)
    u, v = frame.to_array(x, y)

    assert np.linalg.det(frame.matrix) == pytest.approx(-1)
    assert 0 < abs(frame.matrix[0, 1]) < 0.05
    assert x.min() == pytest.approx(-12)
    assert x.max() < frame.width_um
    np.testing.assert_allclose([u, v], grid, atol=1e-9)


def test_two_slides_are_mirrored_along_different_axes() -> None:
    assert place(0.5, 0).matrix[1, 1] < 0 < place(0.5, 0).matrix[0, 0]
    assert place(0.5, 1).matrix[0, 0] < 0 < place(0.5, 1).matrix[1, 1]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5_000), st.integers(0, 99))
@settings(max_examples=60)
def test_enough_blocks_are_drawn_and_every_one_only_once(
    rows: int, cols: int, wanted: int, seed: int
) -> None:
    squares = np.argwhere(np.ones((rows, cols)))
    units = np.random.default_rng(seed).integers(0, 65, len(squares))
    eligible = units >= 16

    chosen = sample_blocks(squares, units, 64, wanted, f"x{seed}")

    assert not (chosen & ~eligible).any()
    if wanted == 0:
        np.testing.assert_array_equal(chosen, eligible)
    else:
        assert chosen.sum() >= min(MIN_BLOCKS, eligible.sum())
        assert units[chosen].sum() >= wanted or chosen.sum() == eligible.sum()


def test_drawn_blocks_are_spread_over_the_tissue() -> None:
    squares = np.argwhere(np.ones((32, 32)))

    chosen = squares[sample_blocks(squares, np.full(1024, 64), 64, 6_000, "slide")]

    quarters = np.bincount((chosen // 16) @ [2, 1], minlength=4)
    assert chosen.shape[0] == 96
    assert quarters.min() >= 20


def test_the_draw_follows_the_name() -> None:
    squares = np.argwhere(np.ones((30, 30)))
    first, again, other = (sample_blocks(squares, np.full(900, 64), 64, 6_000, n) for n in ("a", "a", "b"))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_windows_are_full_squares_that_do_not_overlap() -> None:
    squares = np.argwhere(np.ones((14, 14)))
    fill = np.ones(196)
    fill[squares[:, 0] < 4] = 0.3

    window = place_windows(squares, fill, 128.0, "x")

    for number in range(3):
        members = squares[window == number]
        assert len(members) == 16
        assert (np.ptp(members, axis=0) == 3).all()
        assert members[:, 0].min() >= 4


def test_a_slide_smaller_than_a_window_has_none() -> None:
    squares = np.argwhere(np.ones((3, 9)))

    assert (place_windows(squares, np.ones(27), 128.0, "x") == -1).all()


def test_helpers_agree_on_the_middle() -> None:
    np.testing.assert_allclose(affine(8, 512, 0.3)(np.array([[31.5, 31.5]])), [[204.8, 204.8]])
