"""Does a fold leak? Measured on the opened fold and its prepared slides."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from hdstbench.data.duplicates import compare
from hdstbench.data.fingerprint import Fingerprint
from hdstbench.data.prepared import load_arrays, load_blocks, load_manifest
from hdstbench.protocol.audit import Finding, Severity
from hdstbench.protocol.panel import choose_panel
from hdstbench.protocol.slide import UNIT, Slide
from hdstbench.protocol.splits import Split
from hdstbench.protocol.target import MEDIAN, Target
from hdstbench.protocol.task import Fold, Task

SAME = ("same section", "same picture, other counts")
RELATED = ("same section or same patient?", "serial sections or same patient?")
KNOWN = frozenset({"xy_um", "grid", "block", "offset", "pad", "parent", "sampled", "window", "uv_um"})
"""Arrays of places that a pixels folder may hold."""
FILES = frozenset({"unit.npz", "spot.npz", "region.npz", "blocks.npy", "spot.npy", "region.npy"})
AROUND = ("around.npz", "around.npy")


def _found(name: str, severity: Severity, message: str) -> Finding:
    return Finding(id=name, severity=severity, message=message, basis="measured")


def leaks_of(fold: Fold, task: Task, split: Split, folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Everything that is measured on one fold but the likeness of its sections."""
    yield from _panel(fold, task, split, folders)
    yield from _target(fold)
    for test in fold.test:
        for train in (*fold.train, *fold.val):
            yield from _shared_pixels(fold.number, train, test.slide.take(test.headline))
    for val in fold.val:
        yield from _validation(fold, val)
    yield from _same_blocks(fold, split, folders)


def _panel(fold: Fold, task: Task, split: Split, folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Choose the genes once more from training slides alone, unless a card lists them."""
    if task.listed:
        text = f"fold {fold.number}: the card lists the genes; whoever chose them may have seen test slides"
        yield _found("panel-listed", "note", text)
        return
    if split.within:
        return
    every = [folders[name] for name in split.slides]
    own = choose_panel([folders[name] for name in split.train_of(fold.number)], every, Target())
    ours = [fold.panel.genes[i] for i in fold.panel.mean250]
    theirs = [own.genes[i] for i in own.mean250]
    if sorted(ours) != sorted(theirs):
        other = len(set(ours) - set(theirs))
        text = f"fold {fold.number}: {other} of {len(ours)} genes are not those that training slides choose"
        yield _found("panel-sees-test", "warning", text)


def _target(fold: Fold) -> Iterator[Finding]:
    if fold.train[0].target.base == MEDIAN:
        text = f"fold {fold.number}: targets of a test slide are scaled by its own median library size"
        yield _found("target-sees-test", "note", text)


def _shared_pixels(number: int, train: Slide, test: Slide) -> Iterator[Finding]:
    """Training and test units of one slide whose largest patches overlap."""
    if train.id != test.id or not len(train) or not len(test):
        return
    near = _nearest(train, test)
    if near < _reach(test):
        text = (
            f"fold {number}: units of {test.id} in training and test lie {near:.0f} um apart, and their "
            f"patches are {_reach(test):.0f} um wide; leave a wider gap"
        )
        yield _found("shared-pixels", "error", text)


def _validation(fold: Fold, val: Slide) -> Iterator[Finding]:
    for test in fold.test:
        units = np.intersect1d(test.slide.rows(UNIT)[test.headline], val.rows(UNIT))
        if test.slide.id == val.id and len(units):
            text = f"fold {fold.number}: {len(units)} units of {val.id} are in validation and in test"
            yield _found("validation-is-test", "error", text)
    for train in fold.train:
        if train.id == val.id and len(train) and _nearest(train, val) < _reach(val):
            text = f"fold {fold.number}: validation units of {val.id} share pixels with training units"
            yield _found("validation-overlaps-training", "warning", text)


def _nearest(a: Slide, b: Slide) -> float:
    """Least distance of two units, along the axis in which they are farther apart, um."""
    gap, _ = cKDTree(a.xy_um).query(b.xy_um, p=np.inf)
    return float(np.min(gap))


def _reach(slide: Slide) -> float:
    """Distance at which the largest patches of two units no longer overlap, um; rounding aside."""
    return max(slide.patch_px.values()) * slide.mpp - slide.mpp


def _same_blocks(fold: Fold, split: Split, folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Block images of different slides that are the same, pixel by pixel."""
    if split.within:
        return
    seen = {mark: slide for slide in split.train_of(fold.number) for mark in block_marks(folders[slide])}
    for name in (test.slide.id for test in fold.test):
        twins = [seen[mark] for mark in block_marks(folders[name]) if mark in seen]
        if twins:
            text = f"fold {fold.number}: {len(twins)} image blocks of {name} are those of {twins[0]}"
            yield _found("same-pixels", "error", f"{text}, pixel by pixel; leave one of the slides out")


def block_marks(folder: Path) -> set[bytes]:
    """Hash of every block image of a prepared slide that is not one colour."""
    marks = set()
    for block in load_blocks(folder):
        pixels = np.asarray(block)
        if np.ptp(pixels):
            marks.add(hashlib.blake2b(pixels.tobytes(), digest_size=16).digest())
    return marks


def alike(
    fold: int, split: Split, prints: Mapping[str, Fingerprint], patients: Mapping[str, str]
) -> Iterator[Finding]:
    """Sections on both sides of a fold that look or count alike, though their patients are said to differ."""
    for test in split.folds[fold].test:
        for train in split.train_of(fold):
            if patients[test] == patients[train] or test not in prints or train not in prints:
                continue
            verdict = compare(prints[test], prints[train]).verdict
            text = f"fold {fold}: {test} and {train} of different patients look like: {verdict}"
            if verdict in SAME:
                severity: Severity = "warning" if split.leaky else "error"
                yield _found("duplicate-section", severity, f"{text}; leave one of them out")
            elif verdict in RELATED:
                yield _found("related-sections", "warning", f"{text} Check whose they are")


def private_arrays(folder: Path) -> Iterator[Finding]:
    """What lies in a slide's pixels folder besides pixels and places: a model may read it there."""
    place, name = folder / "pixels", load_manifest(folder).slide
    strange: Sequence[str] = sorted(p.name for p in place.iterdir() if p.name not in FILES | set(AROUND))
    for path in sorted(place.glob("*.npz")):
        if path.name in FILES:
            strange = [*strange, *(f"{path.name}: {key}" for key in load_arrays(path) if key not in KNOWN)]
    if strange:
        text = (
            f"the pixels of {name} lie beside {', '.join(strange)}, which a model may read; remove {folder}"
        )
        yield _found("private-columns", "error", text)
