"""From options to cells: which, under which key, and where they go."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdstbench import ENGINE
from hdstbench.data.card import Dataset, cache_root
from hdstbench.data.levels import Resolution
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.audit import audit_split
from hdstbench.protocol.markers import find_markers
from hdstbench.protocol.panel import read_panel, rule
from hdstbench.protocol.rules import Rules, find_rules
from hdstbench.protocol.splits import Split
from hdstbench.protocol.target import find_target
from hdstbench.protocol.task import Task, data_hash
from hdstbench.records import Record
from hdstbench.sweep.cell import Cell
from hdstbench.sweep.options import Options
from hdstbench.sweep.provenance import commit, versions
from hdstbench.sweep.setting import Setting, set_oracles

LONGEST = 48
"""Characters that marker genes may add to the name of a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One data set at one resolution: its split, its task and what the audit found."""

    dataset: Dataset
    split: Split
    task: Task
    flags: tuple[str, ...]
    recipe: str
    panel: str = ""
    preset: str = ""

    @property
    def stem(self) -> str:
        """Name of the job's tables."""
        card, rules = self.dataset.card, self.rules
        parts = [card.name, self.task.resolution]
        if self.split.name != rules.usual_split(self.dataset):
            parts.append(self.split.name)
        if self.panel != rules.panel(card, self.resolution):
            parts.append(self.panel)
        if rules.name != "hd":
            parts.append(rules.name)
        if self.task.target != rules.target:
            parts.append(self.task.target)
        if self.task.markers:
            parts.append(_with(self.task.markers))
        if self.preset:
            parts.append(self.preset)
        return "-".join(parts)

    @property
    def rules(self) -> Rules:
        """The job's protocol."""
        return find_rules(self.task.protocol)

    @property
    def resolution(self) -> Resolution:
        """What a unit is."""
        return self.rules.resolution(self.dataset.card, self.task.resolution)

    def folds(self, options: Options) -> tuple[int, ...]:
        """The folds that were asked for."""
        return options.folds or tuple(range(len(self.split.folds)))


def _with(markers: Sequence[str]) -> str:
    """Part of a table's name that tells its marker genes apart: their names, or how many and a hash."""
    plain = "with-" + "-".join(markers)
    clear = len(markers) == 1 or not any("-" in name for name in markers)
    if clear and len(plain) <= LONGEST and all(c.isalnum() or c in "-._" for c in plain):
        return plain
    return f"with-{len(markers)}-genes-{hashlib.sha256(chr(10).join(markers).encode()).hexdigest()[:6]}"


def plan_job(dataset: Dataset, resolution: str, options: Options, *, lenient: bool = False) -> Job:
    """Resolve one data set and resolution.

    Raises:
        DataError: If the audit finds that a split leaks without saying so, or the protocol does not fit.
        MissingError: If the card has no such resolution, split or fold.
    """
    rules = find_rules(options.protocol)
    res = rules.resolution(dataset.card, resolution)
    split = rules.split(dataset, options.split)
    if rules.tiled and options.bins == "all":
        msg = f"protocol {rules.name} draws a fixed number of units of each slide; leave out --bins all"
        raise DataError(msg)
    findings = audit_split(split, {s.id: s.patient for s in dataset.card.samples})
    errors = [f.message for f in findings if f.severity == "error"]
    if errors and not lenient:
        msg = f"split {split.name} of {dataset.card.name}: {errors[0]}; mend it or declare it leaky"
        raise DataError(msg)
    bad = [fold for fold in options.folds if not 0 <= fold < len(split.folds)]
    if bad:
        msg = f"no fold {bad[0]} in split {split.name}; it has 0 to {len(split.folds) - 1}"
        raise MissingError(msg)
    target = find_target(rules.target_named(options.target))
    if target.smooths and split.within:
        msg = f"target {target.name} averages neighbours, which split {split.name} parts; take one of slides"
        raise DataError(msg)
    name = options.panel or rules.panel(dataset.card, res)
    listed = read_panel(dataset, name) if name else ()
    task = Task(
        dataset=dataset.card.name,
        resolution=res.name,
        split=split.name,
        split_hash=split.hash,
        panel=rule(name, listed, every=rules.every),
        target=target.name,
        protocol=rules.name,
        listed=listed,
        bins=options.bins,
        markers=options.genes,
    )
    flags = (*dict.fromkeys(f.id for f in findings), *rules.flags(name))
    recipe = options.recipe or dataset.card.recipe
    if recipe == "tuned" and not rules.inner:
        msg = f"recipe tuned chooses rates by validation, which protocol {rules.name} lacks; take official"
        raise DataError(msg)
    return Job(
        dataset=dataset, split=split, task=task, flags=flags, recipe=recipe, panel=name, preset=options.preset
    )


def plan_cells(
    job: Job, settings: Sequence[Setting], folders: Mapping[str, Path], options: Options, device: str
) -> list[Cell]:
    """Make the cells of a job fold by fold; the oracles come first.

    Raises:
        MissingError: If a marker gene is not in every slide's table.
    """
    if job.task.markers:
        find_markers(job.task.markers, [folders[name] for name in job.split.slides])
    known = not find_target(job.task.target).smooths  # what is expected of a mean over neighbours is not
    known &= all((folders[name] / "labels" / "expected.npz").is_file() for name in job.split.slides)
    cells = []
    for fold in job.folds(options):
        data = data_hash(job.split, fold, folders)
        for oracle in set_oracles(job.recipe, simulated=known):
            cells.append(_cell(job, oracle, folders, options, _Draw(fold, 0, "cpu", data)))
        for setting in settings:
            for seed in options.seeds:
                cells.append(_cell(job, setting, folders, options, _Draw(fold, seed, device, data)))
    return cells


@dataclass(frozen=True, slots=True)
class _Draw:
    fold: int
    seed: int
    device: str
    data: str


def _cell(job: Job, setting: Setting, folders: Mapping[str, Path], options: Options, draw: _Draw) -> Cell:
    record = _record(job, setting, options, draw)
    name = f"fold{draw.fold}-seed{draw.seed}-{record.key[:8]}"
    return Cell(
        model=setting.model,
        config=setting.config,
        task=job.task,
        split=job.split,
        folders=dict(folders),
        weights=setting.weights.path,
        encoder_weights=setting.encoder_weights.path,
        memory_mb=options.memory,
        keep=options.keep_models,
        simulated=job.dataset.card.simulated,
        folder=Path(options.output) / job.task.dataset / job.task.resolution / setting.name / name,
        cache=cache_root() / "features",
        record=record,
    )


def _record(job: Job, setting: Setting, options: Options, draw: _Draw) -> Record:
    """What is known of a cell before it runs; its key hashes all that changes its predictions."""
    key = [ENGINE, *setting.key(), job.task.hash, dataclasses.asdict(draw), options.precision]
    if options.deterministic and draw.device != "cpu":
        key.append("deterministic")
    if options.compile:
        key.append("compiled")
    return Record(
        key=hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16],
        model=setting.name,
        kind=setting.kind,
        recipe=job.recipe,
        fold=draw.fold,
        seed=draw.seed,
        task={**job.task.fields(), "hash": job.task.hash},
        status="failed",
        encoder=setting.encoder,
        changes=setting.changes,
        flags=(*job.flags, *setting.flags),
        device=draw.device,
        precision=options.precision,
        compiled=options.compile,
        deterministic=options.deterministic and draw.device != "cpu",
        plugin=setting.origin,
        versions=versions(),
        commit=commit(),
    )
