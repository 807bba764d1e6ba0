"""Which models differ, which tie, and how they rank."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hdstbench.stats.bootstrap import Interval
from hdstbench.stats.compare import Comparison, compare_all, holm_adjusted, new_patients
from hdstbench.stats.ranks import standings, tie_letters

NAMES = ("a", "b", "c", "d", "e", "f", "g")
PAIRS = [(x, y) for i, x in enumerate(NAMES) for y in NAMES[i + 1 :]]


def samples(**means: float) -> dict[str, np.ndarray]:
    """Resamples with a common part, which pairs take away, and a small part of their own."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.1, 1_001)
    common[0] = 0
    out = {name: common + mean + rng.normal(0, 0.01, 1_001) for name, mean in means.items()}
    for name, mean in means.items():
        out[name][0] = mean
    return out


def patients(count: int, **means: float) -> dict[str, dict[str, float]]:
    return {name: {f"p{i}": mean + 0.1 * i for i in range(count)} for name, mean in means.items()}


def test_what_is_common_to_both_models_does_not_hide_their_difference() -> None:
    (found,) = compare_all(samples(a=0.30, b=0.20), patients(3, a=0.30, b=0.20))

    assert found.differ
    assert found.difference.value == pytest.approx(0.1)
    assert 0.06 < found.difference.low < 0.1 < found.difference.high < 0.14


def test_with_few_patients_the_sign_has_to_agree_in_each() -> None:
    by_patient = patients(3, a=0.30, b=0.20)
    by_patient["b"]["p1"] = by_patient["a"]["p1"] + 0.01

    (found,) = compare_all(samples(a=0.30, b=0.20), by_patient)

    assert (found.few, found.agrees, found.differ) == (True, False, False)


def test_with_six_patients_one_may_disagree_and_new_patients_are_judged_apart() -> None:
    by_patient = patients(6, a=0.30, b=0.20)
    by_patient["b"]["p1"] = by_patient["a"]["p1"] + 0.01

    (found,) = compare_all(samples(a=0.30, b=0.20), by_patient)

    gaps = [by_patient["a"][p] - by_patient["b"][p] for p in by_patient["a"]]
    assert (found.few, found.agrees, found.differ) == (False, False, True)
    assert found.new_p == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)
    assert found.new_patients == new_patients(np.array(gaps))


def test_many_pairs_ask_for_more_than_one() -> None:
    means = dict.fromkeys(NAMES, 0.2) | {"a": 0.2 + 2.3 * 0.01 * np.sqrt(2)}

    alone = compare_all(samples(a=means["a"], b=0.2), patients(3, a=means["a"], b=0.2))
    among = compare_all(samples(**means), patients(3, **means))

    assert [c.differ for c in alone] == [True]
    first = next(c for c in among if (c.first, c.second) == ("a", "b"))
    assert first.p == pytest.approx(alone[0].p, rel=0.5)
    assert not first.differ


def test_a_slide_of_one_block_leaves_models_tied() -> None:
    values = {name: np.array([mean, np.nan, np.nan]) for name, mean in (("a", 0.9), ("b", 0.1))}

    (found,) = compare_all(values, patients(2, a=0.9, b=0.1))

    assert not found.differ
    assert np.isnan(found.holm)


def test_a_model_ties_with_its_twin() -> None:
    (found,) = compare_all({"a": np.ones(9), "b": np.ones(9)}, patients(2, a=1.0, b=1.0))

    assert (found.p, found.differ) == (1.0, False)


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm_adjusted([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5])


def test_a_comparison_that_could_not_be_made_counts_for_holm() -> None:
    np.testing.assert_allclose(holm_adjusted([0.02, np.nan, 0.01]), [0.04, np.nan, 0.03])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p: list[float]) -> None:
    found = holm_adjusted(p)

    assert (found >= np.array(p)).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()
    assert min(found) == pytest.approx(min(1, len(p) * min(p)))


def test_new_patients_is_scipys_t_interval_and_nothing_below_six() -> None:
    values = np.array([0.1, 0.2, 0.15, 0.3, 0.22, 0.18])

    found = new_patients(values)

    low, high = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
    assert found == Interval(pytest.approx(values.mean()), pytest.approx(low), pytest.approx(high))
    assert new_patients(values[:5]) is None


@given(st.integers(1, len(NAMES)), st.sets(st.sampled_from(PAIRS)))
@settings(max_examples=150)
def test_two_models_share_a_letter_if_and_only_if_they_are_not_shown_to_differ(
    count: int, differ: set[tuple[str, str]]
) -> None:
    names = NAMES[:count]
    among = [pair for pair in sorted(differ) if set(pair) <= set(names)]

    letters = tie_letters(names, among)

    assert all(letters.values())
    for one, other in [(x, y) for x, y in PAIRS if {x, y} <= set(names)]:
        assert bool(set(letters[one]) & set(letters[other])) == ((one, other) not in among)


def test_ties_need_not_be_transitive() -> None:
    assert tie_letters(("a", "b", "c"), [("a", "c")]) == {"a": "a", "b": "ab", "c": "b"}


def between(first: str, second: str, *, differ: bool) -> Comparison:
    return Comparison(
        first=first,
        second=second,
        difference=Interval(0.1, 0.05 if differ else -0.05, 0.2),
        p=0.001,
        holm=0.001,
        agrees=True,
        few=True,
    )


def test_a_rank_interval_counts_what_is_shown_above_and_below() -> None:
    order = [("a", "b", False), ("a", "c", True), ("b", "c", False)]

    found = standings(("a", "b", "c"), [between(x, y, differ=d) for x, y, d in order])

    assert {n: (s.best, s.worst) for n, s in found.items()} == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}


@given(st.sets(st.sampled_from(PAIRS)))
def test_the_place_in_the_table_lies_in_the_rank_interval(differ: set[tuple[str, str]]) -> None:
    found = standings(NAMES, [between(x, y, differ=(x, y) in differ) for x, y in PAIRS])

    for place, name in enumerate(NAMES, 1):
        assert found[name].best <= place <= found[name].worst
