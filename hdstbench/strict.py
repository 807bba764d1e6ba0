"""Build frozen dataclasses from TOML tables; an unknown or missing key is an error that names it."""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources.abc import Traversable
from typing import Any, TypeVar, get_args, get_origin

from hdstbench.errors import DataError

T = TypeVar("T")


def read_toml(path: Traversable) -> dict[str, Any]:
    """Read one TOML file.

    Raises:
        DataError: If the file is not there or is not TOML; names the file.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: {error}"
        raise DataError(msg) from error


def build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Make a `cls` from a table whose keys are its field names.

    Raises:
        DataError: If a key is unknown or missing, or a value has the wrong type; `where` says of what.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            close = get_close_matches(key, fields) or sorted(fields)
            msg = f"{where}: unknown key {key!r}; did you mean {', '.join(close)}?"
            raise DataError(msg)
    missing = [name for name, field in fields.items() if name not in table and _required(field)]
    if missing:
        msg = f"{where}: missing {', '.join(missing)}"
        raise DataError(msg)
    return cls(**{key: _convert(value, hints[key], f"{where}: {key}") for key, value in table.items()})


def replaced(value: T, table: Mapping[str, Any], where: str) -> T:
    """A frozen dataclass with the fields of a table changed, tables changing the fields of nested ones.

    Raises:
        DataError: If a key is unknown or a value has the wrong type; `where` says of what.
    """
    hints = typing.get_type_hints(type(value))
    changes: dict[str, Any] = {}
    for key, new in table.items():
        if key not in hints:
            close = get_close_matches(key, hints) or sorted(hints)
            hint = f"did you mean {', '.join(close)}?" if hints else f"{type(value).__name__} has none"
            msg = f"{where}: unknown option {key!r}; {hint}"
            raise DataError(msg)
        old = getattr(value, key)
        if dataclasses.is_dataclass(old) and isinstance(new, dict):
            changes[key] = replaced(old, new, f"{where}: {key}")
        else:
            changes[key] = _convert(new, hints[key], f"{where}: {key}")
    try:
        return dataclasses.replace(value, **changes)  # type: ignore[type-var]
    except ValueError as error:
        msg = f"{where}: {error}"
        raise DataError(msg) from error


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(value: Any, hint: Any, where: str) -> Any:  # noqa: ANN401 - TOML values, type hints
    origin, args = get_origin(hint), get_args(hint)
    if origin is types.UnionType:  # only `X | None` is used; TOML has no None, JSON has
        return None if value is None else _convert(value, args[0], where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(item, args[0], where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(item, args[1], f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast("type[Any]", hint), value, where)
    if hint is float and type(value) is int:
        return float(value)
    if hint is Any or type(value) is hint or (origin is typing.Literal and value in args):
        return value
    plain = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    wanted = " or ".join(map(repr, args)) if origin is typing.Literal else plain
    msg = f"{where} is {value!r}, wanted {wanted}"
    raise DataError(msg)
