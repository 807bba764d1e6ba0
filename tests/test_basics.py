"""Named random streams and strict tables."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdstbench.errors import DataError
from hdstbench.rng import seed_of, stream
from hdstbench.strict import build

NAMES = st.lists(st.one_of(st.text(max_size=5), st.integers(0, 99)), min_size=1, max_size=3)


@given(NAMES)
def test_a_name_gives_the_same_stream_again(names: list[str | int]) -> None:
    first = stream(*names).random(4)
    stream("another", 1).random(9)

    np.testing.assert_array_equal(first, stream(*names).random(4))
    assert 0 <= seed_of(*names) < 2**31


@given(NAMES, NAMES)
def test_other_names_give_another_stream(a: list[str | int], b: list[str | int]) -> None:
    same = stream(*a).random() == stream(*b).random()

    assert same == (list(map(repr, a)) == list(map(repr, b)))


@dataclass(frozen=True)
class Inner:
    size: float


@dataclass(frozen=True)
class Outer:
    name: str
    parts: tuple[Inner, ...] = ()
    kind: Literal["a", "b"] = "a"
    count: int = 0
    extra: Inner | None = None


def test_a_table_becomes_nested_dataclasses() -> None:
    made = build(Outer, {"name": "x", "parts": [{"size": 1}], "extra": {"size": 2.5}}, "card")

    assert made == Outer("x", (Inner(1.0),), extra=Inner(2.5))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"nam": "x"}, "card: unknown key 'nam'; did you mean name"),
        ({}, "card: missing name"),
        ({"name": 3}, "card: name is 3, wanted str"),
        ({"name": "x", "count": True}, "card: count is True, wanted int"),
        ({"name": "x", "kind": "c"}, "card: kind is 'c', wanted 'a' or 'b'"),
        ({"name": "x", "parts": [{"size": "big"}]}, "card: parts: size is 'big', wanted float"),
    ],
)
def test_a_wrong_table_is_refused_by_name(table: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        build(Outer, table, "card")
