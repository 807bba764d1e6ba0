"""The bank finds exactly the nearest training units, and never a unit's own slide where it must not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from hdstbench_baselines.retrieval import Bank, Metric, Source

SOURCES = [Source("a", "P", 5), Source("b", "P", 4), Source("c", "Q", 6), Source("d", "R", 3)]


def _rows(seed: int, count: int = 18, width: int = 3, values: int = 3) -> np.ndarray:
    """Rows of few whole numbers, so that many are the same and many distances are equal."""
    return np.random.default_rng(seed).integers(0, values, (count, width)).astype(np.float32)


def _nearest(rows: np.ndarray, queries: np.ndarray, allowed: np.ndarray, k: int) -> np.ndarray:
    """By all distances, ties to the smaller number."""
    distance = ((queries[:, None] - rows[None, allowed]) ** 2).sum(axis=-1)
    return allowed[np.argsort(distance, axis=1, kind="stable")[:, :k]]


@given(
    st.integers(0, 9999), st.integers(1, 20), st.sampled_from(["", "a", "c"]), st.sampled_from([1, 40, 9999])
)
@settings(deadline=None, max_examples=60)
def test_the_nearest_are_found_in_order_and_of_equals_the_first(
    seed: int, k: int, slide: str, cells: int
) -> None:
    rows, queries = _rows(seed), _rows(seed + 1, count=7)
    bank = Bank(torch.from_numpy(rows), SOURCES, cells=cells)

    found = bank.nearest(torch.from_numpy(queries), slide, k)

    np.testing.assert_array_equal(found, _nearest(rows, queries, bank.allowed(slide), k))


@given(st.integers(0, 9999), st.sampled_from(["euclidean", "cosine"]), st.floats(-3, 3))
@settings(deadline=None, max_examples=30)
def test_it_agrees_with_scikit_learn(seed: int, metric: Metric, offset: float) -> None:
    rng = np.random.default_rng(seed)
    rows, queries = rng.normal(10**offset, 1, (200, 16)), rng.normal(10**offset, 1, (9, 16))
    rows, queries = rows.astype(np.float32), queries.astype(np.float32)
    bank = Bank(torch.from_numpy(rows), [Source("a", "P", 200)], metric)

    found = bank.nearest(torch.from_numpy(queries), "b", 12)

    theirs = NearestNeighbors(n_neighbors=12, metric=metric, algorithm="brute")
    distance = theirs.fit(rows.astype(np.float64)).kneighbors(queries.astype(np.float64))[0]
    gone = rows[found].astype(np.float64) - queries[:, None]
    if metric == "euclidean":
        np.testing.assert_allclose(np.linalg.norm(gone, axis=-1), distance, rtol=1e-6)
    else:
        unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (rows[found], queries[:, None])]
        np.testing.assert_allclose(1 - (unit[0] * unit[1]).sum(axis=-1), distance, atol=1e-6)


def test_many_twins_are_taken_by_number_however_the_work_is_cut() -> None:
    rng = np.random.default_rng(0)
    rows = np.tile(rng.normal(size=(5, 24)), (400, 1)).astype(np.float32)
    rows[7::9] = 0
    queries = torch.from_numpy(rng.normal(size=(23, 24)).astype(np.float32))
    banks = [Bank(torch.from_numpy(rows), [Source("a", "P", 2000)], cells=cells) for cells in (1, 50, 2**24)]

    results = [bank.nearest(queries, "b", 30) for bank in banks]
    alone = np.concatenate([banks[2].nearest(query, "b", 30) for query in queries.split(1)])

    for found in (*results, alone):
        np.testing.assert_array_equal(found, results[0])
    for found in results[0]:
        np.testing.assert_array_equal(rows[found], np.tile(rows[found[0]], (30, 1)))
        assert list(found) == list(np.flatnonzero((rows == rows[found[0]]).all(axis=1))[:30])


def test_rows_that_nearly_agree_are_told_apart() -> None:
    """Far from the origin products in float32 say nothing about which of these is nearer."""
    step = np.arange(40, dtype=np.float32)[:, None] * 2**-9
    rows = np.random.default_rng(1).permutation(np.hstack([4000 + step, np.full((40, 63), 4000, np.float32)]))
    bank = Bank(torch.from_numpy(rows), [Source("a", "P", 40)])

    found = bank.nearest(torch.full((1, 64), 4000.0), "b", 40)

    np.testing.assert_array_equal(found[0], np.argsort(rows[:, 0]))


@pytest.mark.parametrize(
    ("sources", "slide", "wanted"),
    [
        (SOURCES, "a", [*range(9, 18)]),  # none of the patient's
        (SOURCES, "c", [*range(9), *range(15, 18)]),
        (SOURCES[:2], "a", [*range(5, 9)]),  # one patient: none of the slide's
        (SOURCES[:1], "a", [*range(5)]),  # one slide: any
        (SOURCES, "z", [*range(18)]),  # a test slide: any
        ([Source("a", "P", 2), Source("c", "Q", 0)], "a", [0, 1]),
    ],
)
def test_a_unit_retrieves_from_other_patients_or_else_other_slides(
    sources: list[Source], slide: str, wanted: list[int]
) -> None:
    bank = Bank(torch.zeros(sum(s.units for s in sources), 2), sources)

    np.testing.assert_array_equal(bank.allowed(slide), wanted)
    np.testing.assert_array_equal(bank.nearest(torch.zeros(1, 2), slide, 99), [wanted])


def test_the_answer_is_the_same_when_slides_take_turns() -> None:
    rows, queries = torch.from_numpy(_rows(3)), torch.from_numpy(_rows(4, count=5))
    bank = Bank(rows, SOURCES)

    turns = [bank.nearest(queries, slide, 4) for slide in ("a", "c", "a", "z", "a")]

    np.testing.assert_array_equal(turns[0], turns[2])
    np.testing.assert_array_equal(turns[0], turns[4])
    np.testing.assert_array_equal(turns[1], Bank(rows, SOURCES).nearest(queries, "c", 4))


def test_no_query_gives_no_answer() -> None:
    bank = Bank(torch.ones(18, 3), SOURCES)

    assert bank.nearest(torch.ones(0, 3), "z", 4).shape == (0, 4)


def test_a_query_that_is_not_finite_is_refused() -> None:
    bank = Bank(torch.ones(18, 3), SOURCES)

    with pytest.raises(ValueError, match="queries of z must be finite"):
        bank.nearest(torch.tensor([[0.0, torch.nan, 0.0]]), "z", 1)


def test_rows_that_do_not_fit_the_slides_are_refused() -> None:
    with pytest.raises(ValueError, match="got 17 rows for 18 units"):
        Bank(torch.ones(17, 3), SOURCES)


def test_bfloat16_around_it_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, queries = torch.randn(300, 32, generator=generator), torch.randn(20, 32, generator=generator)
    bank = Bank(rows, [Source("a", "P", 300)], "cosine")

    with torch.autocast("cpu", torch.bfloat16):
        found = bank.nearest(queries, "b", 9)

    np.testing.assert_array_equal(found, bank.nearest(queries, "b", 9))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("width", [3, 64, 1280])
def test_the_device_makes_no_difference(width: int) -> None:
    rows = torch.from_numpy(_rows(5, count=3000, width=width, values=2))
    queries = torch.from_numpy(_rows(6, count=100, width=width, values=2))

    found = [Bank(rows.to(d), [Source("a", "P", 3000)]).nearest(queries, "b", 50) for d in ("cpu", "cuda")]

    np.testing.assert_array_equal(*found)
