"""Dataset cards: `dataset.toml`, validated, found by name or path."""

import os
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from hdstbench.data.levels import Resolution, native, resolution
from hdstbench.data.packaged import Packaged, packaged, the_only
from hdstbench.errors import DataError, MissingError
from hdstbench.strict import build, read_toml

GROUP = "hdstbench.datasets"
CARD = "dataset.toml"
NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file that can be fetched.

    Attributes:
        path: Where it lies below the data folder, and below the card's `base_url`.
        bytes: Its exact size; 0 if that was never published.
        about: A size to plan with where the exact one is not known.
        md5: As published; empty if not.
        sha256: Likewise.
    """

    path: str
    bytes: int = 0
    about: int = 0
    md5: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCard:
    """One slide: paths are relative to the data folder.

    Attributes:
        path: What its reader reads: a Space Ranger folder or archive, a folder of sections, an .h5ad.
        image: The full-resolution H&E; of HEST-Bench the file of patches.
        shift_um: (dx, dy) that is added to every position, to mend a registration that is off.
        strata: A GeoJSON of regions or a table of labels; names are kept with the labels.
        truth: True rates of a simulated slide.
        files: What `hdstbench data fetch` gets.
    """

    id: str
    patient: str
    path: str
    image: str = ""
    tissue: str = ""
    shift_um: tuple[float, ...] = ()
    strata: str = ""
    truth: str = ""
    files: tuple[RemoteFile, ...] = ()


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
        pitch_um: Distance between native spots.
        patch_um: Side of a native spot's patch.
        base_url: What the paths of remote files are appended to; `--mirror` replaces it.
        splits: Split files by name, relative to the card; the first is the default. A data set of one
            patient has none.
        panels: Files with a gene id or symbol a line, by name.
        panel: One of them, which takes the place of the genes that are chosen on training slides.
        simulate: Makes the files where they are missing.
        collections: Public collections that the data are part of, for encoders that were trained on them.
    """

    name: str
    title: str
    reader: Literal["spaceranger", "her2st", "anndata", "hest-bench"]
    licence: str
    citation: str
    resolutions: tuple[str, ...]
    samples: tuple[SampleCard, ...]
    splits: dict[str, str] = field(default_factory=dict)
    panels: dict[str, str] = field(default_factory=dict)
    panel: str = ""
    recipe: str = "official"
    mpp: float = 0.25
    native_um: float = 0.0
    pitch_um: float = 0.0
    patch_um: float = 0.0
    simulated: bool = False
    simulate: CohortTable | None = None
    homepage: str = ""
    base_url: str = ""
    notes: str = ""
    collections: tuple[str, ...] = ()

    def resolution(self, name: str) -> Resolution:
        """Look up one of the card's resolutions.

        Raises:
            MissingError: If the card does not list it.
        """
        if name not in self.resolutions:
            msg = f"data set {self.name} has no resolution {name!r}; it has {', '.join(self.resolutions)}"
            raise MissingError(msg)
        if self.native_um:
            return native(name, self.patch_um, self.pitch_um)
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

    @property
    def handle(self) -> str:
        """What a user types to mean it: its name, or the folder of a card that is not installed."""
        place = self.place
        own = isinstance(place, Path) and place.resolve() == self.root and (place / CARD).is_file()
        return str(place) if own else self.root.name


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


def shipped() -> dict[str, list[Packaged]]:
    """Find the cards of installed packages, by name; more than one where packages bring the same."""
    found: dict[str, list[Packaged]] = {}
    for one in packaged(GROUP):
        if one.place.is_dir() and one.place.joinpath(CARD).is_file():
            found.setdefault(one.place.name, []).append(one)
    return dict(sorted(found.items()))


def load_dataset(name: str) -> Dataset:
    """Load a card by the name of a shipped data set or by the path of a `dataset.toml`.

    Raises:
        MissingError: If there is none; says which are close.
        DataError: If the card is not valid, or two packages bring it.
    """
    path, cards = Path(name), shipped()
    if name not in cards and (path.suffix == ".toml" or path.is_dir()):
        path = path / CARD if path.is_dir() else path
        if not path.is_file():
            msg = f"{path} is not there; wanted a dataset.toml"
            raise MissingError(msg)
        return Dataset(read_card(path), path.parent, path.parent.resolve())
    if name not in cards:
        close = ", ".join(get_close_matches(name, cards))
        hint = f"did you mean {close}?" if close else "hdstbench ls datasets names those there are"
        msg = f"no data set {name!r}; {hint} (or give the path of a card)"
        raise MissingError(msg)
    place = the_only("data set", name, cards[name])
    return Dataset(read_card(place.joinpath(CARD)), place, data_root() / name)


def read_card(path: Traversable) -> Card:
    """Read and check one card.

    Raises:
        DataError: If a key is unknown or missing, or values contradict each other.
    """
    card = build(Card, read_toml(path), str(path))
    _check_names(card, str(path))
    _check_scales(card, str(path))
    ids = [sample.id for sample in card.samples]
    if not ids or len(set(ids)) != len(ids):
        msg = f"{path}: {len(ids)} samples with {len(set(ids))} different ids; wanted unique ids"
        raise DataError(msg)
    if not card.resolutions:
        msg = f"{path}: no resolution; wanted some, such as 8um and 16um"
        raise DataError(msg)
    for name in card.resolutions if not card.native_um else ():
        try:
            resolution(name)
        except MissingError as error:
            msg = f"{path}: {error}"
            raise DataError(msg) from error
    if card.panel and card.panel not in card.panels:
        msg = f"{path}: panel {card.panel!r} is not under [panels] ({', '.join(card.panels) or 'none'})"
        raise DataError(msg)
    return card


def _check_names(card: Card, where: str) -> None:
    """Names become folders and parts of patterns."""
    ids = [sample.id for sample in card.samples]
    for name in (card.name, *card.resolutions, *card.splits, *card.panels, *ids):
        if not NAME.fullmatch(name):
            msg = f"{where}: {name!r} is no name; wanted letters, digits, dots, dashes and underscores"
            raise DataError(msg)


def _check_scales(card: Card, where: str) -> None:
    problem = ""
    native = (card.native_um, card.pitch_um, card.patch_um)
    if card.mpp <= 0:
        problem = f"mpp = {card.mpp:g}, wanted um a pixel above 0"
    elif card.reader == "spaceranger" and any(native):
        problem = (
            "native_um, pitch_um and patch_um are for spots; Space Ranger's bins have sizes of their own"
        )
    elif card.reader != "spaceranger" and min(native) <= 0:
        found = ", ".join(f"{value:g}" for value in native)
        problem = f"native_um, pitch_um, patch_um = {found}; spots want all three above 0"
    if problem:
        msg = f"{where}: {problem}"
        raise DataError(msg)
    for sample in card.samples:
        if len(sample.shift_um) not in (0, 2):
            msg = f"{where}: shift_um of {sample.id} is {list(sample.shift_um)}, wanted [dx, dy]"
            raise DataError(msg)
