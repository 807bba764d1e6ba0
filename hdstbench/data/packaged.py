"""Files that installed packages bring: cards of data sets, sweep files."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable


def packaged(group: str) -> Iterator[Traversable]:
    """What lies in the packages that a group of entry points names; a broken package brings nothing."""
    for point in entry_points(group=group):
        try:
            yield from list(files(point.value).iterdir())
        except (Exception, SystemExit):  # importing a package may do anything; see `broken_packages`
            continue


def broken_packages(group: str) -> dict[str, str]:
    """Packages of the group whose files cannot be listed, by distribution, and why."""
    out = {}
    for point in entry_points(group=group):
        try:
            list(files(point.value).iterdir())
        except (Exception, SystemExit) as error:
            name = f"{point.dist.name} {point.dist.version}" if point.dist else point.name
            out[name] = f"{point.value} cannot be read: {error!r}"
    return out
