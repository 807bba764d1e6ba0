"""Prepare a slide once for all models: choose units, cut block images, gather counts."""

import errno
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from hdstbench import ENGINE
from hdstbench.data.card import Dataset, SampleCard, cache_root
from hdstbench.data.levels import Resolution
from hdstbench.data.pack import Recipe, write_slide
from hdstbench.data.prepared import FORMAT
from hdstbench.data.readers import has_files, input_files, read_pair
from hdstbench.errors import DataError, MissingError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a folder that cannot take more files."""


def prepared_folder(dataset: Dataset, sample: SampleCard, res: Resolution, *, everything: bool) -> Path:
    """Folder of one prepared slide; its name depends on the card and on the input files.

    Where none of its files is there, a slide that was prepared with the same settings is taken, so
    that prepared data alone can be carried to another machine.

    Raises:
        MissingError: If an input file is not there, and others are or the slide is not prepared either.
        DataError: If no file is there and the slide was prepared from several states of them.
    """
    settings = _digest(
        [ENGINE, FORMAT, asdict(sample), _plain(res), dataset.card.mpp, everything, dataset.made]
    )
    place = cache_root() / "prepared" / dataset.card.name / res.name
    try:
        files = [(path.name, path.stat()) for path in input_files(dataset, sample, res)]
    except MissingError:
        ready = sorted(place.glob(f"{sample.id}-{settings}-*/manifest.json"))
        if not ready or has_files(dataset, sample):
            raise
        if len(ready) > 1:
            msg = (
                f"the files of {sample.id} are not in {dataset.root}, and {place} holds {len(ready)} "
                "states of it; keep one of them, or bring the files back"
            )
            raise DataError(msg) from None
        return ready[0].parent
    state = _digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in files])
    return place / f"{sample.id}-{settings}-{state}"


def _plain(res: Resolution) -> dict[str, object]:
    """A resolution as prepared folders were always named by it; what is empty says nothing."""
    return {name: value for name, value in asdict(res).items() if name != "patch_px" or value}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def is_prepared(dataset: Dataset, sample: SampleCard, res: Resolution, *, everything: bool) -> bool:
    """Whether a slide is prepared already."""
    try:
        return (prepared_folder(dataset, sample, res, everything=everything) / "manifest.json").is_file()
    except MissingError:
        return False


def prepare_slide(dataset: Dataset, sample: SampleCard, res: Resolution, *, everything: bool = False) -> Path:
    """Return the prepared folder of a slide, made now if it is not there.

    It is written aside and renamed when whole, so that a killed or failed run leaves nothing.

    Raises:
        HdstError: If an input is missing or wrong, or the disk is too small.
    """
    folder = prepared_folder(dataset, sample, res, everything=everything)
    if (folder / "manifest.json").is_file():
        return folder
    part = folder.with_name(f"{folder.name}.part{os.getpid()}")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a killed process that had this one's number
        part.mkdir(parents=True)
        _fill(part, dataset, sample, res, everything=everything)
        _publish(part, folder)
    except OSError as error:
        hint = "; free space or set HDSTBENCH_CACHE to another disk" if error.errno in NO_ROOM else ""
        msg = f"cannot prepare {sample.id} in {folder.parent}: {_reason(error)}{hint}"
        raise DataError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _reason(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _publish(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        if not (folder / "manifest.json").is_file():  # else another run was first
            raise


def _fill(part: Path, dataset: Dataset, card: SampleCard, res: Resolution, *, everything: bool) -> None:
    sample, base = read_pair(dataset, card, res)
    recipe = Recipe(
        res=res,
        mpp=dataset.card.mpp,
        everything=everything,
        strata=dataset.root / card.strata if card.strata else None,
        truth=dataset.root / card.truth if card.truth else None,
    )
    write_slide(part, sample, base, card, recipe)
