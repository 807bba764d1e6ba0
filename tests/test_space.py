"""Spaces that models are trained in are exact maps, and rates follow the stated schedules."""

from itertools import pairwise

import numpy as np
import pytest
from helpers import Planted
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hdstbench.torchkit.schedule import rate_factor
from hdstbench.torchkit.space import TASK, Space, SpaceName, make_space

VALUES = hnp.arrays(np.float32, (5, 3), elements=st.floats(-50, 50, width=32))


@given(
    VALUES,
    hnp.arrays(np.float32, 3, elements=st.floats(0.0625, 50, width=32)),
    hnp.arrays(np.float32, 3, elements=st.floats(-50, 50, width=32)),
)
def test_what_is_mapped_in_comes_out_again(target: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
    space = Space(scale, shift)

    np.testing.assert_allclose(space.outward(space.inward(target)), target, atol=1e-4)


@pytest.mark.parametrize("name", ["task", "log10", "minmax"])
def test_spaces_of_real_targets_are_undone(planted: list[Planted], name: SpaceName) -> None:
    space = make_space(name, [p.slide for p in planted[:2]])
    target = planted[2].slide.need_labels().target()

    np.testing.assert_allclose(space.outward(space.inward(target)), target, atol=1e-5)


def test_log10_turns_natural_logarithms_into_those_of_base_ten() -> None:
    counts = np.array([[0.0, 9.0, 99.0]], np.float32)

    np.testing.assert_allclose(make_space("log10", []).inward(np.log1p(counts)), [[0, 1, 2]], atol=1e-6)


def test_minmax_looks_at_training_slides_alone(planted: list[Planted]) -> None:
    train = [p.slide for p in planted[:2]]
    space = make_space("minmax", train)

    scaled = np.concatenate([space.inward(s.need_labels().target()) for s in train])

    varying = np.ptp(scaled, axis=0) > 0.5
    assert varying[:2].all()
    np.testing.assert_allclose(scaled.min(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled[:, varying].max(axis=0), 1, atol=1e-5)
    assert np.isfinite(scaled).all()


def test_a_constant_gene_does_not_divide_by_zero() -> None:
    space = Space(np.array([1e-8], np.float32), np.array([2.0], np.float32))

    assert space.outward(space.inward(np.array([[2.0]], np.float32))) == pytest.approx(2.0)
    assert TASK.inward(np.array([3.0], np.float32)) == pytest.approx(3.0)


def test_steps_take_a_tenth_off_every_fifty_epochs() -> None:
    factors = [rate_factor("steps", epoch * 100, 100, 200, 10) for epoch in (0, 49, 50, 99, 100, 150)]

    assert factors == pytest.approx([1, 1, 0.9, 0.9, 0.81, 0.729])


def test_cosine_falls_from_one_to_one_per_cent() -> None:
    factors = [rate_factor("cosine", seen, 100, 10, 10) for seen in range(0, 1001, 100)]

    assert factors[0] == 1
    assert factors[-1] == pytest.approx(0.01)
    assert all(a > b for a, b in pairwise(factors))


def test_restarts_warm_up_for_a_hundred_steps_and_fall_within_half_an_epoch() -> None:
    """EGN's: 32 units a step, an epoch of 1,000 steps, so a cycle of 500 of which 100 rise."""
    factor = [rate_factor("restarts", step * 32, 32_000, 50, 32) for step in range(1_001)]

    assert factor[0] == factor[500] == factor[1000] == pytest.approx(0.2)
    assert factor[100] == pytest.approx(1)
    assert factor[50] == pytest.approx(0.6)
    assert factor[300] == pytest.approx(0.6)
    assert factor[499] == pytest.approx(0.2, abs=1e-3)


def test_restarts_of_a_short_epoch_still_reach_the_full_rate() -> None:
    factor = [rate_factor("restarts", step * 32, 320, 50, 32) for step in range(10)]

    assert max(factor) == pytest.approx(1, abs=0.2)
    assert min(factor) >= 0.2
