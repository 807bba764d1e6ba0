"""Ranks and tie groups of models, from which pairs are shown to differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from hdstbench.stats.compare import Comparison

Group = frozenset[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """A model among the others.

    Attributes:
        best: 1 + the number of models that are shown to be above it.
        worst: The number of models less those that are shown to be below it.
        letters: Its tie groups; two models share a letter if and only if they are not shown to differ.
    """

    best: int
    worst: int
    letters: str


def standings(names: Sequence[str], comparisons: Sequence[Comparison]) -> dict[str, Standing]:
    """Rank intervals and letters.

    Args:
        names: All models, the best first; letters are given in this order.
        comparisons: Of every pair of them.
    """
    above = [
        (c.first, c.second) if c.difference.value > 0 else (c.second, c.first)
        for c in comparisons
        if c.differ
    ]
    letters = tie_letters(names, above)
    return {
        name: Standing(
            best=1 + sum(low == name for _, low in above),
            worst=len(names) - sum(high == name for high, _ in above),
            letters=letters[name],
        )
        for name in names
    }


def tie_letters(names: Sequence[str], differ: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Compact letter display (insert and absorb, Piepho, J. Comput. Graph. Stat. 13, 2004).

    Args:
        names: In the order of letters.
        differ: Pairs that differ.

    Returns:
        Letters of each name: two names share one if and only if they do not differ.
    """
    groups: list[Group] = [frozenset(names)] if names else []
    for one, other in differ:
        groups = _absorbed([part for group in groups for part in _split(group, one, other)])
    place = {name: number for number, name in enumerate(names)}
    groups = _needed(sorted(groups, key=lambda group: sorted(place[name] for name in group)))
    return {
        name: "".join(_letter(number) for number, group in enumerate(groups) if name in group)
        for name in names
    }


def _split(group: Group, one: str, other: str) -> list[Group]:
    return [group - {one}, group - {other}] if {one, other} <= group else [group]


def _absorbed(groups: Sequence[Group]) -> list[Group]:
    """Groups that lie in no other."""
    distinct = list(dict.fromkeys(groups))
    return [group for group in distinct if not any(group < other for other in distinct)]


def _needed(groups: Sequence[Group]) -> list[Group]:
    """Leave out, from the last, groups whose pairs all share another group."""
    kept = list(groups)
    for group in reversed(groups):
        others = [other for other in kept if other != group]
        pairs = [{a, b} for a in group for b in group]  # a name with itself too: each needs a letter
        if all(any(pair <= other for other in others) for pair in pairs):
            kept = others
    return kept


def _letter(number: int) -> str:
    """A to z, then a' and so on."""
    return ascii_lowercase[number % 26] + "'" * (number // 26)
