"""Plan a fetch: which files of a data set are wanted, where they come from, what is there of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote, urlsplit

from hdstbench.data.card import Card, Dataset, RemoteFile, SampleCard
from hdstbench.data.checksums import CHECKSUMS, Known, load_checksums
from hdstbench.data.part import part_path
from hdstbench.errors import DataError, MissingError

RESERVED = (CHECKSUMS, ".part", ".tag", ".wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file to have.

    Attributes:
        sample: Whose it is.
        file: What the card says of it.
        url: Where it comes from.
        target: Where it goes.
        state: Whether it is there.
        have: Bytes that are there.
        size: Of the whole file; 0 if unknown.
        exact: Whether that size is known, or about right.
        tag: By which the server knows the file's state; empty until it was asked.
    """

    sample: str
    file: RemoteFile
    url: str
    target: Path
    state: Literal["there", "partial", "missing"]
    have: int
    size: int
    exact: bool
    tag: str = ""


def plan_fetch(dataset: Dataset, *, only: Sequence[str] = (), mirror: str = "") -> list[Wanted]:
    """List files of a data set and what is there of them, without the network.

    Args:
        dataset: The data set.
        only: Ids of samples or parts of file names; empty for all.
        mirror: Address that takes the place of the card's.

    Returns:
        Each file once, in the card's order.

    Raises:
        MissingError: If the card lists no files, or none of those asked for.
        DataError: If an address or a path is not usable, or a file that is there has another size.
    """
    card, root = dataset.card, dataset.root
    if not any(sample.files for sample in card.samples):
        msg = f"the card of {card.name} lists no files to fetch; {_by_hand(card)} into {root}"
        raise MissingError(msg)
    base, known = _base(card, mirror), load_checksums(root)
    files = {file.path: (sample.id, file) for sample, file in _choose(card, only)}
    for path in files:
        _check_path(path, card)
    return [_look(root, base, sample, file, known.get(path)) for path, (sample, file) in files.items()]


def _base(card: Card, mirror: str) -> str:
    given = mirror or card.base_url
    address = given.strip().rstrip("/")
    if not address:
        msg = f"the card of {card.name} lists files but no base_url; give their address with --mirror"
        raise DataError(msg)
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None:
        where = "--mirror" if mirror else f"the base_url of {card.name}"
        msg = f"{where} is {given!r}; wanted http://HOST/FOLDER or https://HOST/FOLDER, passwords in ~/.netrc"
        raise DataError(msg)
    return address


def _by_hand(card: Card) -> str:
    return f"get them from {card.homepage} and put them" if card.homepage else "put them"


def _choose(card: Card, only: Sequence[str]) -> list[tuple[SampleCard, RemoteFile]]:
    pairs = [(sample, file) for sample in card.samples for file in sample.files]
    if not only:
        return pairs
    paths: set[str] = set()
    for word in map(str.strip, only):
        own = {file.path for sample, file in pairs if sample.id == word}
        own = own or {file.path for _, file in pairs if word and word.lower() in file.path.lower()}
        if not own and any(sample.id == word for sample in card.samples):
            msg = f"the card of {card.name} lists no files of its sample {word}; {_by_hand(card)} into place"
            raise MissingError(msg)
        if not own:
            ids = [sample.id for sample in card.samples if sample.files]
            names = [PurePosixPath(file.path).name for _, file in pairs]
            words = dict.fromkeys(part for name in names for part in re.split(r"[._]", name))
            close = get_close_matches(word, [*ids, *words, *names]) or ids
            msg = f"no sample or file of {card.name} is called {word!r}; did you mean {', '.join(close)}?"
            raise MissingError(msg)
        paths |= own
    return [(sample, file) for sample, file in pairs if file.path in paths]


def _check_path(path: str, card: Card) -> None:
    pure = PurePosixPath(path)
    plain = str(pure) == path and not pure.is_absolute() and ".." not in pure.parts and pure.name
    if not plain or {"\\", "\0"} & set(path) or path.endswith(RESERVED):
        msg = f"the card of {card.name} lists the file {path!r}; wanted a plain path below its data folder"
        raise DataError(msg)


def _look(root: Path, base: str, sample: str, file: RemoteFile, known: Known | None) -> Wanted:
    target = root / file.path
    part = part_path(target)
    there, partial = target.exists(), part.is_file()
    have = target.stat().st_size if there else part.stat().st_size if partial else 0
    stated = file.bytes or (known.size if known else 0)
    if there and (not target.is_file() or (stated and have != stated)):
        what = f"holds {have:,} bytes, wanted {stated:,}" if target.is_file() else "is no file"
        msg = f"{target} {what}; remove it, and `hdstbench data fetch` gets it again"
        raise DataError(msg)
    return Wanted(
        sample=sample,
        file=file,
        url=f"{base}/{quote(file.path)}",
        target=target,
        state="there" if there else "partial" if partial else "missing",
        have=have,
        size=have if there else stated or file.about,
        exact=there or bool(stated),
    )
