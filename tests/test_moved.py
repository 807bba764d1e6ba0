"""Correlations of maps under every move are those of their overlaps, one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hdstbench.arrays import FloatArray
from hdstbench.data.moved import Maps, best_moved

SIDE = 7


def _plain(ours: Maps, theirs: Maps, reach: int) -> float:
    """Each move of one map, with `numpy.corrcoef` of the cells that count in both."""
    best = 0.0
    least = max(ours[1].sum(), theirs[1].sum(), 1) / 2
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            cells = [
                ((y, x), (y + dy, x + dx))
                for y, x in np.argwhere(ours[1])
                if 0 <= y + dy < SIDE and 0 <= x + dx < SIDE and theirs[1][y + dy, x + dx]
            ]
            if len(cells) >= least:
                a, b = (np.array([m[0][c[i]] for c in cells]) for i, m in enumerate((ours, theirs)))
                best = max(best, float(np.mean([_pearson(a[:, g], b[:, g]) for g in range(a.shape[1])])))
    return best


def _pearson(a: FloatArray, b: FloatArray) -> float:
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])


@given(
    seed=st.integers(0, 1_000),
    reach=st.integers(0, 2),
    layers=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
)
@settings(max_examples=60, deadline=None)
def test_all_moves_at_once_are_the_moves_one_by_one(
    seed: int, reach: int, layers: int, share: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, (4, SIDE, SIDE, layers)) * scale  # few values, so that some overlaps are flat
    masks = rng.random((4, SIDE, SIDE)) < share
    theirs = (values[0] + 100 * scale, masks[0])

    found = best_moved((values[1:], masks[1:]), theirs, reach)

    plain = [_plain((v, m), theirs, reach) for v, m in zip(values[1:], masks[1:], strict=True)]
    np.testing.assert_allclose(found, plain, atol=1e-9)


def test_a_layer_that_is_constant_where_maps_overlap_counts_nothing() -> None:
    rng = np.random.default_rng(0)
    layers = rng.random((SIDE, SIDE, 2))
    flat = layers.copy()
    flat[..., 1] = 0.1
    mask = np.ones((SIDE, SIDE), bool)

    (found,) = best_moved((flat[None], mask[None]), (layers, mask), 0)

    assert abs(found - 0.5) < 1e-12
