"""Make data sets of what others have written: a HEST-1k folder, a HEST-Bench task, .h5ad files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hdstbench.data import taskfolder
from hdstbench.data.cardfile import Draft, Entry, leave_one_out, name_of
from hdstbench.data.hest import IMAGES, PIXEL_SIZE, SPOTS, Row, patients, read_table, row_of
from hdstbench.data.image import FLAT, MAX_UPSAMPLING, TIFF
from hdstbench.data.measure import Measured, measure, nominal
from hdstbench.errors import DataError, MissingError

MPP, PATCH_UM = 0.5, 112.0
"""As HEST cuts patches: 224 px of 0.5 um."""
VENDOR = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".qptiff")
SPECIES = {"Homo sapiens": "human", "Mus musculus": "mouse"}
SHOWN = 5

Kind = tuple[str, float, float]
"""Species, diameter and distance of spots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user says of a single .h5ad."""

    image: str | None = None
    mpp: float | None = None
    patient: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """Data sets by folder below the output ("" is the output itself), and what to tell the user."""

    drafts: Mapping[str, Draft]
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A slide and what was measured of it."""

    entry: Entry
    size: Measured
    species: str = ""

    @property
    def kind(self) -> Kind:
        return self.species, nominal(self.size.spot_um), nominal(self.size.pitch_um)


def import_source(source: Path, name: str, given: Given) -> Imported:
    """Find out what a source is, and make data sets of it.

    Args:
        source: An .h5ad, a folder of such, a HEST-1k folder or a HEST-Bench task.
        name: Of the data set.
        given: For a single .h5ad.

    Raises:
        MissingError: If the source is none of these, or lacks a file.
        DataError: If a file is damaged, or options do not fit.
    """
    if source.is_file() and source.suffix == ".h5ad":
        return _plain([source], name, given)
    if any(value is not None for value in (given.image, given.mpp, given.patient)):
        msg = f"--image, --mpp and --patient are for one .h5ad, which {source} is not; leave them out"
        raise DataError(msg)
    if taskfolder.is_task(source):
        return Imported({"": taskfolder.draft(source, name)})
    if (source / SPOTS).is_dir():
        return _hest(source, name)
    if files := sorted(source.glob("*.h5ad")):
        return _plain(files, name, given)
    raise MissingError(_unknown(source))


def _unknown(source: Path) -> str:
    tasks = [path.name for path in sorted(source.glob("*")) if taskfolder.is_task(path)]
    if tasks:
        return f"{source} holds the HEST-Bench tasks {', '.join(tasks)}; import one of them"
    return (
        f"{source} cannot be imported; wanted an .h5ad or a folder of such, a HEST-1k folder (st/, wsis/, "
        "metadata/), or a HEST-Bench task (splits/, patches/, adata/)"
    )


def _plain(files: Sequence[Path], name: str, given: Given) -> Imported:
    """Single .h5ad files, each with its image."""
    found = []
    for path in files:
        image = _image(path, given.image)
        entry = Entry(id=name_of(path), patient=given.patient or path.stem, path=path, image=image)
        remedy = "write it to uns['hdstbench']['mpp'], or import this file alone with --mpp"
        found.append(_Found(entry, measure(path, given.mpp, remedy)))
    keys = {"licence": "not stated", "citation": "not stated"}
    if len(files) > 1:
        keys["notes"] = "Each slide is taken for one of a patient of its own; mend the card if it is not."
    return _grouped(found, name, keys)


def _image(path: Path, given: str | None) -> Path:
    """The image that is given, or the one beside an .h5ad that has its name."""
    if given:
        image, wanted = Path(given), f"{given} is not there"
    else:
        found = [path.with_suffix(suffix) for suffix in (*TIFF, *FLAT, *VENDOR)]
        image = next((place for place in found if place.is_file()), found[0])
        wanted = f"no image {path.stem}.tif, .jpg or the like lies beside {path}"
    if not image.is_file():
        msg = f"{wanted}; give the full-resolution H&E of an .h5ad with --image"
        raise MissingError(msg)
    return image


def _hest(source: Path, name: str) -> Imported:
    """A HEST-1k folder; samples without an image are left out."""
    files = sorted((source / SPOTS).glob("*.h5ad"))
    images = {path.stem: path for path in sorted((source / IMAGES).glob("*.*"))}
    there = [path for path in files if path.stem in images]
    if not there:
        msg = f"{source} has {len(files)} samples in st/, none with an image of its name in wsis/; get both"
        raise MissingError(msg)
    table = read_table(source)
    rows = {path.stem: row_of(path, table) for path in there}
    known = patients(rows)
    found = [_hest_sample(path, images[path.stem], rows[path.stem], known[path.stem]) for path in there]
    keys = {
        "title": "HEST-1k",
        "licence": "CC-BY-NC-SA-4.0 (HEST-1k); each sample has the licence of its study besides",
        "citation": "Jaume et al., HEST-1k, NeurIPS 2024, arXiv:2406.16192, and the study of each sample",
        "homepage": "https://huggingface.co/datasets/MahmoodLab/hest",
    }
    made = _grouped(found, name, keys)
    drafts = {label: _with_notes(draft, known) for label, draft in made.drafts.items()}
    lost = [path.stem for path in files if path.stem not in images]
    remarks = [f"left out for want of an image in wsis/: {listed(lost)}"] if lost else []
    return Imported(drafts, [*made.remarks, *remarks])


def _hest_sample(path: Path, image: Path, row: Row, patient: str) -> _Found:
    tissue = row.get("organ", "")
    entry = Entry(id=name_of(path), patient=patient or path.stem, path=path, image=image, tissue=tissue)
    try:
        mpp = float(row.get(PIXEL_SIZE, "")) or None
    except ValueError:
        mpp = None
    size = measure(path, mpp, f"get metadata/{path.stem}.json or HEST's table of samples")
    return _Found(entry, size, SPECIES.get(row.get("species", ""), ""))


def _with_notes(draft: Draft, known: Mapping[str, str]) -> Draft:
    """Say what is to be known of a HEST-1k data set."""
    notes = ["Patients are those of HEST's table, of the colorectal cancer study those of its paper."]
    unknown = [slide.id for slide in draft.slides if not known[slide.path.stem]]
    if unknown:
        notes.append(f"No patient is stated for {listed(unknown)}: each counts as a patient of its own.")
    notes.append(str(draft.keys["notes"]))
    notes.append("HEST pools Visium HD and Xenium to pseudo-spots: these are no counts of bins or cells.")
    return replace(draft, keys={**draft.keys, "notes": " ".join(filter(None, notes))})


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _grouped(found: Sequence[_Found], name: str, keys: Mapping[str, str]) -> Imported:
    """A data set for each species and each kind of spots."""
    groups: dict[Kind, list[_Found]] = {}
    for one in found:
        groups.setdefault(one.kind, []).append(one)
    drafts = {}
    for kind, members in groups.items():
        label = _label(kind, list(groups))
        drafts[label] = _draft(members, {**keys, "name": f"{name}-{label}" if label else name})
    several = f"{len(found)} samples of {len(drafts)} kinds: a data set has spots of one kind and species"
    return Imported(drafts, [several] if len(drafts) > 1 else [])


def _label(kind: Kind, kinds: Sequence[Kind]) -> str:
    """What tells a kind from the others; "" if there is no other."""
    if len(kinds) == 1:
        return ""
    species, spot, pitch = kind
    parts = [species] if species and len({other[0] for other in kinds}) > 1 else []
    parts.append(f"{spot:g}um")
    if sum(other[:2] == kind[:2] for other in kinds) > 1:
        parts.append(f"every-{pitch:g}um")
    return "-".join(parts)


def _draft(found: Sequence[_Found], keys: Mapping[str, str]) -> Draft:
    slides = [one.entry for one in found]
    _, spot, pitch = found[0].kind
    coarsest = max(one.size.mpp for one in found)
    mpp = MPP if coarsest <= MPP * MAX_UPSAMPLING else float(np.ceil(coarsest * 100) / 100)
    notes = f"Patches have {mpp:g} um a pixel, as the coarsest image has." if mpp > MPP else ""
    if not found[0].size.stated and len(found) == 1:  # the reader computes um a pixel from the pitch
        pitch = round(found[0].size.pitch_um, 6)
    shown = f"{len(slides)} {'slides' if len(slides) > 1 else 'slide'} of {spot:g} um spots"
    return Draft(
        keys={
            "name": keys["name"],
            "title": f"{keys.get('title', keys['name'])}: {shown}",
            "reader": "anndata",
            **{key: value for key, value in keys.items() if key not in ("name", "title", "notes")},
            "notes": f"{keys.get('notes', '')} {notes}".strip(),
            "mpp": mpp,
            "native_um": spot,
            "pitch_um": pitch,
            "patch_um": max(PATCH_UM, spot),
            "resolutions": [f"{spot:g}um"],
        },
        slides=slides,
        folds=leave_one_out(slides),
    )
