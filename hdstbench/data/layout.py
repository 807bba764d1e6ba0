"""Find the parts of a Space Ranger Visium HD run, however its folder was packed, moved or renamed."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hdstbench.data.archive import ARCHIVES, unpack
from hdstbench.data.card import cache_root
from hdstbench.errors import DataError, MissingError

SQUARE = re.compile(r"(?:(?P<id>.+)_)?square_(?P<um>\d{3})um(?:_outputs)?")
PACKED = re.compile(r"(?:(?P<id>.+?)_)?(?:binned_outputs|square_\d{3}um_outputs|outs)")
MEMBER = re.compile(r"(?:^|/)square_(\d{3})um(?:_outputs)?/(?P<file>.+)$")
MATRIX = "filtered_feature_bc_matrix.h5"
RAW = "raw_feature_bc_matrix.h5"
POSITIONS = "spatial/tissue_positions.parquet"
SCALE = "spatial/scalefactors_json.json"
HIRES = "spatial/tissue_hires_image.png"
FILES = (MATRIX, RAW, POSITIONS, SCALE, HIRES)
VERSION = 1
"""Of what is unpacked, and how; part of the name that it is unpacked under."""
FINEST_UM, FINE_UM = 2, 8
"""Bins below this size are unpacked only when they are asked for: they are most of an archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was found of one run.

    Attributes:
        path: What was given.
        bins: Folders by bin size in um.
        archives: Parts that are still packed.
    """

    path: Path
    bins: dict[int, Path]
    archives: tuple[Path, ...]

    def gives(self, bin_um: int) -> bool:
        """Whether bins of `bin_um` can be read or summed from what is unpacked."""
        own = bin_um in self.bins
        return own or any(bin_um % um == 0 and (at / RAW).is_file() for um, at in self.bins.items())

    def source_um(self, bin_um: int) -> int:
        """The bin size that bins of `bin_um` are read from: their own, or the coarsest that divides it.

        Raises:
            MissingError: If there is none; names what is there.
        """
        fit = [um for um in self.bins if bin_um % um == 0]
        whole = [um for um in fit if um == bin_um or (self.bins[um] / RAW).is_file()]
        if fit:
            return max(whole or fit)
        there = ", ".join(f"square_{um:03d}um" for um in sorted(self.bins)) or "no square_* folder"
        msg = (
            f"no square_{bin_um:03d}um below {self.path} (found {there}); wanted Space Ranger Visium HD "
            f"output with {bin_um} um bins, or finer ones that they can be summed from"
        )
        raise MissingError(msg)


def find_run(path: Path) -> Run:
    """Look for bins in `outs/`, its parent, `binned_outputs/`, a bin folder, an archive, or a folder of such.

    Raises:
        DataError: If the folder holds several samples.
    """
    if path.is_file() and path.name.endswith(ARCHIVES):
        return Run(path=path, bins={}, archives=(path,))
    archives = tuple(_archives(path))
    if own := SQUARE.fullmatch(path.absolute().name):
        found = _squares(path.absolute().parent) if path.is_dir() else {}
        return Run(path=path, bins=found.get(own["id"] or "", {}), archives=())
    bins = _only(_found(path), path)
    ids = {_id_of(archive) for archive in archives} | {_id_of(folder) for folder in bins.values()}
    if len(ids - {""}) > 1:
        msg = f"{path} holds files of {', '.join(sorted(ids - {''}))}; give each sample a folder of its own"
        raise DataError(msg)
    return Run(path=path, bins=bins, archives=archives)


def _id_of(path: Path) -> str:
    """The sample that an archive, or a bin folder or the one around it, is named after; "" if none is."""
    for part in (path, path.parent):
        stem = next((part.name.removesuffix(end) for end in ARCHIVES if part.name.endswith(end)), part.name)
        name = SQUARE.fullmatch(stem) or PACKED.fullmatch(stem)
        if name and name["id"]:
            return str(name["id"])
    return ""


def _found(path: Path) -> dict[str, dict[int, Path]]:
    """Bin folders of each place below a path that holds some; a place is a sample."""
    found: dict[str, dict[int, Path]] = {}
    seen: set[Path] = set()
    for place in _places(path):
        if place.resolve() in seen:  # a link beside what it leads to
            continue
        seen.add(place.resolve())
        for name, bins in _squares(place).items():
            found[f"{place.relative_to(path)}/{name}".strip("./") or str(path)] = bins
    return found


def _only(found: dict[str, dict[int, Path]], path: Path) -> dict[int, Path]:
    if len(found) > 1:
        msg = f"{path} holds the bins of {', '.join(sorted(found))}; give each sample a folder of its own"
        raise DataError(msg)
    return next(iter(found.values()), {})


def open_run(path: Path, bin_um: int) -> Run:
    """Find a run and unpack what bins of `bin_um` need, once for an archive of this name, size and date.

    Bins that are unpacked already are taken as they are, if they are enough.

    Raises:
        MissingError: If there are no such bins.
        DataError: If an archive is damaged or unsafe, or the disk too small.
    """
    run = find_run(path)
    if run.gives(bin_um) or not run.archives:
        return run
    bins = _unpack_all(run.archives, path, fine=bin_um < FINE_UM)
    if bin_um not in bins and bin_um >= FINE_UM:  # it is summed from the raw counts of 2 um
        bins |= _unpack_all(run.archives, path, fine=True)
    return Run(path=path, bins=run.bins | bins, archives=run.archives)


def _unpack_all(archives: tuple[Path, ...], path: Path, *, fine: bool) -> dict[int, Path]:
    bins: dict[int, Path] = {}
    for archive in archives:
        folder = _unpacked(archive, fine=fine)
        inside = {
            f"{place.relative_to(folder)}/{name}": found
            for place in (folder, *sorted(p for p in folder.rglob("*") if p.is_dir()))
            for name, found in _squares(place).items()
        }
        bins |= _only(inside, archive)
    return bins


def input_files(path: Path, bin_um: int) -> list[Path]:
    """The files that bins of `bin_um` are read from: those of a bin folder, or archives.

    Raises:
        MissingError: If one is not there.
    """
    run = find_run(path)
    if run.archives and not run.gives(bin_um):
        return list(run.archives)
    source_um = run.source_um(bin_um)
    folder = run.bins[source_um]
    files = [need(folder / name) for name in (MATRIX, POSITIONS, SCALE)]
    return files if source_um == bin_um else [*files, need_raw(folder, bin_um)]


def need(path: Path) -> Path:
    """Check that a file of a bin folder is there.

    Raises:
        MissingError: If it is not.
    """
    if not path.is_file():
        msg = f"{path} is not there; wanted the whole square_* folder of a Space Ranger run"
        raise MissingError(msg)
    return path


def need_raw(folder: Path, bin_um: int) -> Path:
    """Find the raw matrix that coarser bins are summed from.

    Raises:
        MissingError: If it is not there.
    """
    path = folder / RAW
    if not path.is_file():
        msg = (
            f"{path} is not there; {bin_um} um bins are summed from it, since the filtered matrix lacks the "
            "squares beside the tissue"
        )
        raise MissingError(msg)
    return path


def _places(path: Path) -> Iterator[Path]:
    for base in (path, path / "outs", *_folders(path, "_outs")):
        yield from (base / "binned_outputs", *_folders(base, "_binned_outputs"), base)


def _folders(base: Path, ending: str) -> list[Path]:
    return sorted(p for p in base.glob(f"*{ending}") if p.is_dir())


def _squares(place: Path) -> dict[str, dict[int, Path]]:
    """Bin folders directly in a place, by the sample's name before them and by size."""
    found: dict[str, dict[int, Path]] = {}
    for folder in sorted(place.glob("*square_*")):
        name = SQUARE.fullmatch(folder.name)
        if name is not None and folder.is_dir():
            found.setdefault(name["id"] or "", {})[int(name["um"])] = folder
    return found


def _archives(path: Path) -> list[Path]:
    found: dict[str, list[Path]] = {}
    for file in sorted(p for base in (path, path / "outs") for p in base.glob("*") if p.is_file()):
        stem = next((file.name.removesuffix(end) for end in ARCHIVES if file.name.endswith(end)), "")
        if name := PACKED.fullmatch(stem):
            found.setdefault(name["id"] or "", []).append(file)
    if len(found) > 1:
        msg = f"{path} holds archives of {', '.join(sorted(found))}; give each sample a folder of its own"
        raise DataError(msg)
    return next(iter(found.values()), [])


def _unpacked(archive: Path, *, fine: bool) -> Path:
    """Folder with an archive's bins of 8 um and more, or with the finer ones and their raw counts."""
    stat = archive.stat()
    text = f"{VERSION}/{archive.resolve()}/{stat.st_size}/{stat.st_mtime_ns}/{fine}"
    folder = cache_root() / "unpacked" / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not folder.is_dir():
        unpack(archive, folder, _wanted(fine=fine))
    return folder


def _wanted(*, fine: bool) -> Callable[[str], bool]:
    def wanted(name: str) -> bool:
        member = MEMBER.search(name)
        if member is None or (int(member[1]) < FINE_UM) != fine:
            return False
        return member["file"] in FILES and (fine or member["file"] != RAW)

    return wanted
