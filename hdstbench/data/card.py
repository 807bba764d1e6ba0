"""Dataset cards: `dataset.toml`, validated, found by name or path."""

import os
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from hdstbench.data.levels import RESOLUTIONS, Resolution, native, resolution
from hdstbench.data.st import PITCH_UM
from hdstbench.errors import DataError, MissingError
from hdstbench.strict import build, read_toml

GROUP = "hdstbench.datasets"
CARD = "dataset.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCard:
    """One slide: paths are relative to the data folder."""

    id: str
    patient: str
    path: str
    image: str = ""
    tissue: str = ""
    truth: str = ""  # simulated slides only


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortTable:
    """How to make a simulated data set on first use."""

    seed: int = 0
    slides: int = 4
    size_mm: float = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A data set: where its slides are, whose they are, how they are split.

    Attributes:
        mpp: um a pixel of prepared patches.
        native_um: Spot diameter of arrays without bins; 0 for Visium HD.
        patch_um: Side of a unit's patch where spots are native.
        splits: Split files by name, relative to the card; the first is the default.
        simulate: Makes the files where they are missing.
    """

    name: str
    title: str
    reader: Literal["spaceranger", "her2st"]
    licence: str
    citation: str
    resolutions: tuple[str, ...]
    splits: dict[str, str]
    samples: tuple[SampleCard, ...]
    recipe: str = "official"
    mpp: float = 0.25
    native_um: float = 0.0
    patch_um: float = 0.0
    simulated: bool = False
    simulate: CohortTable | None = None
    homepage: str = ""
    notes: str = ""

    def resolution(self, name: str) -> Resolution:
        """Look up one of the card's resolutions.

        Raises:
            MissingError: If the card does not list it.
        """
        if name not in self.resolutions:
            msg = f"data set {self.name} has no resolution {name!r}; it has {', '.join(self.resolutions)}"
            raise MissingError(msg)
        if self.native_um:
            return native(name, self.patch_um, PITCH_UM)
        return resolution(name)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A card together with its place and the folder that holds its files.

    `made` names the state of files that the suite makes itself; it is part of what prepared slides
    are found by.
    """

    card: Card
    place: Traversable
    root: Path
    made: str = ""


def cache_root() -> Path:
    """Folder for everything that can be made again: $HDSTBENCH_CACHE or the user's cache."""
    if given := os.environ.get("HDSTBENCH_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hdstbench"


def data_root() -> Path:
    """Folder with one subfolder a data set: $HDSTBENCH_DATA or `data` in the cache."""
    given = os.environ.get("HDSTBENCH_DATA")
    return Path(given) if given else cache_root() / "data"


def simulated_root() -> Path:
    """Folder with one subfolder a simulated cohort, named by what made it."""
    return cache_root() / "simulated"


def shipped() -> dict[str, Traversable]:
    """Find the cards of installed packages, by name."""
    found: dict[str, Traversable] = {}
    for point in entry_points(group=GROUP):
        for place in files(point.value).iterdir():
            if place.is_dir() and place.joinpath(CARD).is_file():
                if place.name in found:
                    msg = f"two installed packages bring a data set {place.name!r}; uninstall one"
                    raise DataError(msg)
                found[place.name] = place
    return dict(sorted(found.items()))


def load_dataset(name: str) -> Dataset:
    """Load a card by the name of a shipped data set or by the path of a `dataset.toml`.

    Raises:
        MissingError: If there is none; says which are close.
        DataError: If the card is not valid.
    """
    path, cards = Path(name), shipped()
    if name not in cards and (path.suffix == ".toml" or path.is_dir()):
        path = path / CARD if path.is_dir() else path
        if not path.is_file():
            msg = f"{path} is not there; wanted a dataset.toml"
            raise MissingError(msg)
        return Dataset(read_card(path), path.parent, path.parent.resolve())
    if name not in cards:
        close = get_close_matches(name, cards) or list(cards)
        msg = f"no data set {name!r}; did you mean {', '.join(close)}? (or give the path of a card)"
        raise MissingError(msg)
    place = cards[name]
    return Dataset(read_card(place.joinpath(CARD)), place, data_root() / name)


def read_card(path: Traversable) -> Card:
    """Read and check one card.

    Raises:
        DataError: If a key is unknown or missing, or values contradict each other.
    """
    card = build(Card, read_toml(path), str(path))
    _check_scales(card, str(path))
    ids = [sample.id for sample in card.samples]
    if not ids or len(set(ids)) != len(ids):
        msg = f"{path}: {len(ids)} samples with {len(set(ids))} different ids; wanted unique ids"
        raise DataError(msg)
    bad = [r for r in card.resolutions if not card.native_um and r not in RESOLUTIONS]
    if bad or not card.resolutions:
        msg = f"{path}: resolutions {list(card.resolutions)}; there are {', '.join(RESOLUTIONS)}"
        raise DataError(msg)
    if not card.splits:
        msg = f"{path}: no split file; wanted at least one under [splits]"
        raise DataError(msg)
    return card


def _check_scales(card: Card, where: str) -> None:
    problem = ""
    if card.mpp <= 0:
        problem = f"mpp = {card.mpp:g}, wanted um a pixel above 0"
    elif card.reader == "spaceranger" and (card.native_um or card.patch_um):
        problem = "native_um and patch_um are for spots; Space Ranger's bins have sizes of their own"
    elif card.reader == "her2st" and (card.native_um <= 0 or card.patch_um <= 0):
        problem = (
            f"native_um = {card.native_um:g} and patch_um = {card.patch_um:g}, wanted both above 0 for spots"
        )
    if problem:
        msg = f"{where}: {problem}"
        raise DataError(msg)
