"""Which module reads which kind of data set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hdstbench.data import adata, hestbench, spaceranger, st
from hdstbench.data.card import Dataset, SampleCard
from hdstbench.data.crop import note_of
from hdstbench.data.facts import contradiction, size_facts
from hdstbench.data.levels import Resolution
from hdstbench.data.sample import Sample
from hdstbench.errors import DataError, MissingError

Pair = tuple[Sample, Sample]


@dataclass(frozen=True, slots=True)
class Reader:
    """How one kind of files is read.

    `inputs` lists the files that a slide is made from; `read` gives the bins of the task and those that
    coarse levels are summed from, which are the same for native spots.
    """

    inputs: Callable[[Dataset, SampleCard, Resolution], list[Path]]
    read: Callable[[Dataset, SampleCard, Resolution], Pair]


def input_files(dataset: Dataset, sample: SampleCard, res: Resolution) -> list[Path]:
    """The files that a prepared slide is made from.

    Raises:
        MissingError: If one is not there.
    """
    files = READERS[dataset.card.reader].inputs(dataset, sample, res)
    return files + extra_files(dataset, sample)


def extra_files(dataset: Dataset, sample: SampleCard) -> list[Path]:
    """What a card names besides bins and image.

    Raises:
        MissingError: If one is not there.
    """
    found = {key: dataset.root / value for key in ("truth", "strata") if (value := getattr(sample, key))}
    for key, path in found.items():
        if not path.is_file():
            msg = f"{path} is not there; the card names it as {key} of {sample.id}"
            raise MissingError(msg)
    return list(found.values())


def read_pair(dataset: Dataset, sample: SampleCard, res: Resolution) -> Pair:
    """Read the bins of the task and those that coarse levels are summed from.

    Raises:
        HdstError: If files are missing or wrong.
    """
    return READERS[dataset.card.reader].read(dataset, sample, res)


def has_files(dataset: Dataset, sample: SampleCard) -> bool:
    """Whether anything of a slide's own files is there."""
    if dataset.card.reader == "her2st":
        return any(path.exists() for path in st.file_paths(dataset.root / sample.path, sample.id))
    return any((dataset.root / name).exists() for name in (sample.path, sample.image) if name)


def _hd_inputs(dataset: Dataset, sample: SampleCard, res: Resolution) -> list[Path]:
    path = dataset.root / sample.path
    found = spaceranger.input_files(path, res.bin_um) + spaceranger.input_files(path, res.base_um)
    if not sample.image:
        msg = f"the card names no image for {sample.id}; wanted the full-resolution H&E that Space Ranger got"
        raise MissingError(msg)
    image = spaceranger.need_image(dataset.root / sample.image)
    note = [note_of(image)] if note_of(image).is_file() else []
    return [*dict.fromkeys(found), image, *note]


def _read_hd(dataset: Dataset, sample: SampleCard, res: Resolution) -> Pair:
    path, image = dataset.root / sample.path, dataset.root / sample.image
    base = spaceranger.read_spaceranger(path, res.base_um, image, sample.id, shift_um=sample.shift_um)
    if res.bin_um == res.base_um:
        return base, base
    own = spaceranger.read_spaceranger(path, res.bin_um, image, sample.id, shift_um=sample.shift_um)
    if problem := contradiction(size_facts(base), size_facts(own)):
        msg = f"{path}: {problem}"
        raise DataError(msg)
    return own, base


def _st_inputs(dataset: Dataset, sample: SampleCard, res: Resolution) -> list[Path]:
    return st.input_files(dataset.root / sample.path, sample.id)


def _read_st(dataset: Dataset, sample: SampleCard, res: Resolution) -> Pair:
    found = st.read_st(dataset.root / sample.path, sample.id)
    return found, found


READERS = {
    "spaceranger": Reader(_hd_inputs, _read_hd),
    "her2st": Reader(_st_inputs, _read_st),
    "anndata": Reader(adata.input_files, adata.read),
    "hest-bench": Reader(hestbench.input_files, hestbench.read),
}
