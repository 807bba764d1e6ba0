"""The audit of a job: what its card declares, and what its prepared slides show."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from hdstbench import ENGINE
from hdstbench.data.card import SampleCard, cache_root
from hdstbench.data.fingerprint import Fingerprint, fingerprint
from hdstbench.data.prints import load_print, save_print
from hdstbench.data.readers import has_files, read_pair
from hdstbench.plugins.pretraining import UNKNOWN, trained_on
from hdstbench.protocol.audit import Finding, audit_split
from hdstbench.protocol.leaks import alike, leaks_of, private_arrays
from hdstbench.protocol.task import data_hash, open_fold
from hdstbench.records import load_json, save_json
from hdstbench.strict import build
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import Job
from hdstbench.sweep.setting import Setting

VERSION = 1
"""Raise when checks change: findings are kept beside prepared data."""
PRINT = "print.npz"
Say = Callable[[str], None]


def audit_job(
    job: Job, settings: Sequence[Setting], folders: Mapping[str, Path], options: Options, say: Say
) -> list[Finding]:
    """Look for leaks in a job; what is measured is kept, and measured once.

    Args:
        job: With its dataset located.
        settings: Its models, for their encoders.
        folders: Prepared folder of each slide.
        options: Name the folds.
        say: Told what takes time.
    """
    patients = {s.id: s.patient for s in job.dataset.card.samples}
    findings = [*audit_split(job.split, patients), *_encoders(job, settings)]
    return findings + [f for fold in job.folds(options) for f in _measured(job, fold, folders, say)]


def _encoders(job: Job, settings: Sequence[Setting]) -> Iterator[Finding]:
    """Encoders whose training data, as declared, meet the collections that the card is part of."""
    named = {str(getattr(s.config, "encoder", "")) for s in settings if s.weights.path is not None}
    for name in sorted(named - {""}):
        both = sorted(set(trained_on(name)) & set(job.dataset.card.collections))
        if both:
            text = (
                f"encoder {name} was trained on {', '.join(both)}, which {job.dataset.card.name} is part of"
            )
            yield Finding(id="encoder-saw-data", severity="warning", message=text)
        elif UNKNOWN in trained_on(name):
            text = (
                f"what encoder {name} was trained on is not known; it may have seen {job.dataset.card.name}"
            )
            yield Finding(id="encoder-unknown", severity="note", message=text)


def _measured(job: Job, fold: int, folders: Mapping[str, Path], say: Say) -> list[Finding]:
    """What one fold shows; kept under a hash of everything that it depends on."""
    patients = {s.id: s.patient for s in job.dataset.card.samples}
    prints = _prints(job, fold, folders, say)
    key = [
        VERSION,
        ENGINE,
        job.task.hash,
        fold,
        data_hash(job.split, fold, folders),
        sorted(prints),
        patients,
    ]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    path = cache_root() / "audits" / f"{name}.json"
    if path.is_file():
        return [build(Finding, one, str(path)) for one in load_json(path)]
    opened = open_fold(job.task, job.split, fold, folders)
    names = (*job.split.train_of(fold), *job.split.folds[fold].test)
    findings = [
        *leaks_of(opened, job.task, job.split, folders),
        *alike(fold, job.split, prints, patients),
        *(f for name in dict.fromkeys(names) for f in private_arrays(folders[name])),
        *_not_compared(fold, names, prints),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_json(path, [asdict(finding) for finding in findings])
    return findings


def _not_compared(fold: int, names: Sequence[str], prints: Mapping[str, Fingerprint]) -> Iterator[Finding]:
    missing = sorted(set(names) - set(prints))
    if missing:
        text = (
            f"fold {fold}: {', '.join(missing)} have no files here and were not compared with other sections"
        )
        yield Finding(id="not-compared", severity="note", message=text, basis="measured")


def _prints(job: Job, fold: int, folders: Mapping[str, Path], say: Say) -> dict[str, Fingerprint]:
    """Fingerprints of a fold's sections, taken once and kept beside their labels."""
    names = {*job.split.train_of(fold), *job.split.folds[fold].test}
    samples = [s for s in job.dataset.card.samples if s.id in names]
    if len({s.patient for s in samples}) < 2:  # noqa: PLR2004 - nobody to be compared with
        return {s.id: p for s in samples if (p := _kept(folders[s.id], s.id)) is not None}
    found = {s.id: _print(job, s, folders[s.id], say) for s in samples}
    return {name: one for name, one in found.items() if one is not None}


def _kept(folder: Path, name: str) -> Fingerprint | None:
    path = folder / "labels" / PRINT
    return load_print(path, name) if path.is_file() else None


def _print(job: Job, sample: SampleCard, folder: Path, say: Say) -> Fingerprint | None:
    known = _kept(folder, sample.id)
    if known is not None or not has_files(job.dataset, sample):
        return known
    say(f"audit: looking at section {sample.id}")
    _, base = read_pair(job.dataset, sample, job.resolution)
    found = fingerprint(base)
    try:
        save_print(folder / "labels" / PRINT, found)
    except OSError:  # full or read-only: only time is lost
        (folder / "labels" / PRINT).unlink(missing_ok=True)
    return found
