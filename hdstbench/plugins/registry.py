"""Find installed models; nothing is imported until it is asked for."""

import hashlib
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from hdstbench.errors import DataError, MissingError
from hdstbench.plugins.plugin import AnyPlugin, Context, Kind, ModelPlugin

GROUP, OWN = "hdstbench.models", "hdstbench"


class UnknownModelError(MissingError):
    """No installed model has this name."""


def found() -> dict[str, EntryPoint]:
    """Entry points of installed models by name; of two with one name the first, which cannot be loaded."""
    return {name: points[0] for name, points in _points().items()}


def _points() -> dict[str, list[EntryPoint]]:
    """All entry points of each name; more than one where packages bring different models."""
    points: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        same = points.setdefault(point.name, [])
        if point.value not in (other.value for other in same):
            same.append(point)
    return points


def broken() -> dict[str, str]:
    """Models of other packages that cannot be loaded, and why; those of this package are not tried."""
    out = {}
    for name, points in _points().items():
        if len(points) > 1 or origin(points[0]).split(" ")[0] != OWN:
            try:
                load_model(name)
            except DataError as error:
                out[name] = str(error)
    return out


def origin(point: EntryPoint) -> str:
    """Distribution and version that bring a model."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"


def model_names(asked: Sequence[str]) -> list[str]:
    """Expand `all` and check names.

    Raises:
        UnknownModelError: If there is no such model; says which are close.
    """
    models = found()
    names = [name for word in asked for name in (models if word == "all" else [word])]
    for name in names:
        if name not in models:
            close = get_close_matches(name, models) or sorted(models)
            msg = f"no model {name!r}; did you mean {', '.join(close)}?"
            raise UnknownModelError(msg)
    return list(dict.fromkeys(names))


def load_model(name: str) -> AnyPlugin:
    """Import one plugin.

    Raises:
        UnknownModelError: If no plugin has that name; says which are close.
        DataError: If it cannot be imported, is not a ModelPlugin of that name, or two packages bring it.
    """
    point, *others = _points()[model_names([name])[0]]
    if others:
        first, second = (f"{p.value} of {origin(p)}" for p in (point, others[0]))
        msg = f"model {name!r} is brought by {first} and by {second}; uninstall one"
        raise DataError(msg)
    try:
        plugin = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a broken third-party package may do anything
        msg = f"model {name!r} of {origin(point)} cannot be imported: {error!r}"
        raise DataError(msg) from error
    if not isinstance(plugin, ModelPlugin) or plugin.name != name:
        msg = f"{point.value} is not the ModelPlugin {name!r}"
        raise DataError(msg)
    _check(plugin, origin(point))
    return plugin


def _check(plugin: AnyPlugin, brought_by: str) -> None:
    """Refuse a plugin that says what it cannot be.

    Raises:
        DataError: If it does.
    """
    for what, said, known in (
        ("kind", plugin.kind, get_args(Kind)),
        ("context", plugin.context, get_args(Context)),
    ):
        if said not in known:
            msg = f"model {plugin.name!r} of {brought_by}: {what} {said!r}, wanted one of {', '.join(known)}"
            raise DataError(msg)
    if not plugin.recipes:
        msg = f"model {plugin.name!r} of {brought_by} has no recipes; wanted some, such as quick and tiny"
        raise DataError(msg)


def source_hash(name: str) -> str:
    """Hash of the source of the package or module that brings a model, twelve digits."""
    package = found()[name].value.split(":")[0].split(".")[0]
    spec = find_spec(package)
    digest = hashlib.sha256()
    if spec and spec.origin and not spec.submodule_search_locations:
        digest.update(Path(spec.origin).read_bytes())
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
