"""Files that installed packages bring: cards of data sets, sweep files."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable

from hdstbench.errors import DataError


@dataclass(frozen=True, slots=True)
class Packaged:
    """A file or folder, and the distribution that brings it."""

    place: Traversable
    origin: str


@cache
def packaged(group: str) -> tuple[Packaged, ...]:
    """What lies in the packages that a group of entry points names; a broken package brings nothing."""
    found = []
    for point in entry_points(group=group):
        origin = _origin(point)  # reads the distribution's metadata: once for all its files
        found += [Packaged(place, origin) for place in _listed(point) or []]
    return tuple(found)


def broken_packages(group: str) -> list[str]:
    """Distributions of the group whose files cannot be listed."""
    return [_origin(point) for point in entry_points(group=group) if _listed(point) is None]


def the_only(what: str, name: str, brought: list[Packaged]) -> Traversable:
    """What goes by a name.

    Raises:
        DataError: If two packages bring it.
    """
    if len(brought) > 1:
        packages = " and ".join(one.origin for one in brought)
        msg = f"{packages} both bring a {what} {name!r}; uninstall one"
        raise DataError(msg)
    return brought[0].place


def _listed(point: EntryPoint) -> list[Traversable] | None:
    try:
        return list(files(point.value).iterdir())
    except KeyboardInterrupt:
        raise
    except BaseException:  # importing a third-party package may do anything
        return None


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
