"""Rows of a sweep that are an installed model with other options, and sweep files that packages ship."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources.abc import Traversable
from typing import Any

from hdstbench.data.packaged import Packaged, packaged, the_only
from hdstbench.errors import DataError, MissingError
from hdstbench.plugins.registry import found, model_names

GROUP = "hdstbench.presets"
NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSpec:
    """A row of a table: a model whose recipe is changed.

    Attributes:
        name: Of the row; no installed model's.
        model: An installed model.
        set: Options of its configuration and their values, tables for nested ones.
    """

    name: str
    model: str
    set: dict[str, Any] = field(default_factory=dict)

    @property
    def changes(self) -> str:
        """The changes as text, such as `fusion = 'sum'`."""
        return ", ".join(_said(self.set, ""))


def _said(values: dict[str, Any], before: str) -> list[str]:
    out = []
    for key, value in values.items():
        if isinstance(value, dict):
            out += _said(value, f"{before}{key}.")
        else:
            out.append(f"{before}{key} = {value!r}")
    return out


def row_names(asked: Sequence[str], rows: Sequence[RowSpec], without: Collection[str] = ()) -> list[str]:
    """Expand `all` to installed models and rows, and check names.

    Args:
        asked: Names of rows and models, and `all`.
        rows: Those of the sweep.
        without: Models that `all` does not mean.

    Raises:
        DataError: If a row has a model's name, a name twice, or one that is no name.
        MissingError: If there is no such row or model.
    """
    own = [row.name for row in rows]
    for row in rows:
        if row.name in found() or own.count(row.name) > 1 or not NAME.fullmatch(row.name):
            msg = (
                f"row {row.name!r}: wanted a name of small letters, digits, dots and dashes that no "
                "installed model and no other row has"
            )
            raise DataError(msg)
        model_names([row.model])
    names: list[str] = []
    for word in asked:
        if word == "all":
            names += [*(name for name in model_names(["all"]) if name not in without), *own]
        else:
            names += [word] if word in own else _model(word, own)
    return list(dict.fromkeys(names))


def _model(word: str, own: Sequence[str]) -> list[str]:
    close = get_close_matches(word, own)
    if word not in found() and close:
        msg = f"no model or row {word!r}; did you mean {', '.join(close)}?"
        raise MissingError(msg)
    return model_names([word])


def presets() -> dict[str, list[Packaged]]:
    """Sweep files that installed packages bring, by name; more than one where packages bring the same."""
    out: dict[str, list[Packaged]] = {}
    for one in packaged(GROUP):
        name, dot, suffix = one.place.name.rpartition(".")
        if dot and suffix == "toml":
            out.setdefault(name, []).append(one)
    return dict(sorted(out.items()))


def find_preset(name: str) -> Traversable:
    """Look up a preset.

    Raises:
        MissingError: If there is none; says which there are.
    """
    there = presets()
    if name not in there:
        msg = f"no preset {name!r}; there are {', '.join(there) or 'none'}"
        raise MissingError(msg)
    return the_only("preset", name, there[name])
