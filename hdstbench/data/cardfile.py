"""Write a new data set's card with its splits and panels."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdstbench.data.card import CARD
from hdstbench.errors import DataError

Fold = tuple[Sequence[str], Sequence[str]]
"""Slides that are tested, and those that train; none of the latter stands for all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One slide of a new card; files are where they are."""

    id: str
    patient: str
    path: Path
    image: Path
    tissue: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A data set of native spots that is going to be written.

    Attributes:
        keys: The plain keys of its card, in order; `name` comes first.
        folds: Of its one split; none if it has no split.
        split: Name and title of it.
        panel: Name and genes of its one list of genes, if there is one.
    """

    keys: Mapping[str, str | float | Sequence[str]]
    slides: Sequence[Entry]
    folds: Sequence[Fold] = ()
    split: tuple[str, str] = ("patient", "leave one patient out")
    panel: tuple[str, Sequence[str]] | None = None

    def __post_init__(self) -> None:
        """Refuse slides that cannot be told apart."""
        ids = [slide.id for slide in self.slides]
        for path in (place for slide in self.slides for place in (slide.path, slide.image)):
            if not str(path).isprintable():
                msg = f"{str(path)!r} has a name that a card cannot hold; rename it with printable characters"
                raise DataError(msg)
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            files = ", ".join(str(slide.path) for slide in self.slides if slide.id == twice[0])
            msg = f"{files} would all be the slide {twice[0]}; rename the files"
            raise DataError(msg)

    @property
    def patients(self) -> int:
        """How many there are."""
        return len({slide.patient for slide in self.slides})


def name_of(path: Path) -> str:
    """A slide's name, from that of its file: it becomes a folder and part of a card."""
    return re.sub(r"[^\w.-]+", "_", path.stem).lstrip("._-") or "slide"


def leave_one_out(slides: Sequence[Entry]) -> list[Fold]:
    """A fold a patient, all whose slides are tested together; none where there is one patient."""
    patients = list(dict.fromkeys(slide.patient for slide in slides))
    if len(patients) == 1:
        return []
    return [([s.id for s in slides if s.patient == patient], ()) for patient in patients]


def write_cards(drafts: Mapping[str, Draft], output: Path) -> list[Path]:
    """Write each draft into its folder below the new folder `output`; nothing is left if that fails.

    Args:
        drafts: By folder, relative to `output`; "" is the folder itself.
        output: New folder.

    Returns:
        The cards.

    Raises:
        DataError: If `output` exists or cannot be written.
    """
    if output.exists():
        msg = f"{output} exists; choose another folder, or remove it to import again"
        raise DataError(msg)
    part = output.with_name(f"{output.name}.part{os.getpid()}")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a killed process that had this one's number
        for name, draft in drafts.items():
            _write(draft, part / name, output / name)
        part.rename(output)
    except OSError as error:
        msg = f"{output} could not be written ({error.strerror or error}); choose another place"
        raise DataError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [output / name / CARD for name in drafts]


def _write(draft: Draft, folder: Path, final: Path) -> None:
    folder.mkdir(parents=True)
    lines = [f"{key} = {toml(value)}" for key, value in draft.keys.items() if value != ""]
    if draft.panel:
        name, genes = draft.panel
        lines += [f"panel = {toml(name)}", "", "[panels]", f"{toml(name)} = {toml(f'panels/{name}.txt')}"]
        (folder / "panels").mkdir()
        (folder / "panels" / f"{name}.txt").write_text("\n".join(genes) + "\n", encoding="utf-8")
    if draft.folds:
        name, title = draft.split
        lines += ["", "[splits]", f"{name} = {toml(f'splits/{name}.toml')}"]
        (folder / "splits").mkdir()
        (folder / "splits" / f"{name}.toml").write_text(_split(draft.folds, title), encoding="utf-8")
    for slide in draft.slides:
        lines += ["", "[[samples]]", f"id = {toml(slide.id)}", f"patient = {toml(slide.patient)}"]
        lines += [f"tissue = {toml(slide.tissue)}"] if slide.tissue else []
        lines += [f"path = {toml(reference(slide.path, final))}"]
        lines += [f"image = {toml(reference(slide.image, final))}"]
    (folder / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _split(folds: Sequence[Fold], title: str) -> str:
    lines = ['unit = "patient"', f"title = {toml(title)}"]
    for test, train in folds:
        lines += ["", "[[folds]]", f"test = {toml(test)}"]
        lines += [f"train = {toml(train)}"] if train else []
    return "\n".join(lines) + "\n"


def reference(path: Path, folder: Path) -> str:
    """How a card in `folder` names a file: relatively if the file lies beside or below the folder.

    So a card can be moved together with its files; a card far from them keeps their full path.
    """
    path, folder = path.resolve(), folder.resolve()
    if path.is_relative_to(folder.parent):
        return Path(os.path.relpath(path, folder)).as_posix()
    return path.as_posix()


def toml(value: str | float | Sequence[str]) -> str:
    """A value as TOML writes it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)
    return "[" + ", ".join(toml(item) for item in value) + "]"
