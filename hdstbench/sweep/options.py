"""What a run was asked for: defaults < card < sweep file < command line."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import Precision
from hdstbench.protocol.rules import Name
from hdstbench.strict import build, read_toml
from hdstbench.sweep.rows import RowSpec, find_preset

SWEEP_FILE = "hdstbench.toml"
LISTS = ("models", "dataset", "res", "folds", "seeds", "genes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of `hdstbench run`; the field names are the keys of a sweep file.

    Attributes:
        preset: A sweep file that an installed package brings. What names it comes after it: a sweep file's
            keys change it; one that is typed comes after the sweep file, whose rows it keeps.
        rows: Models with other options, under names of their own.
        split: Empty for the protocol's: the card's first, or folds of one slide each.
        folds: Empty for all.
        protocol: How units, target, panel and validation are made.
        target: A transform of counts (docs/targets.md); empty for the protocol's.
        panel: A list of genes of the card; empty for the protocol's, which mostly is none.
        genes: Marker genes, ids or symbols, that are predicted and reported beside the panel.
        recipe: Empty for the card's.
        encoder: Replaces the image encoder of models that have one.
        weights: "pretrained", "none" or a file; empty for what the recipe says.
        bins: "sample", or "all" blocks of the tissue.
        deterministic: The same bits on every run on a GPU too; on a CPU they always are.
        compile: Compile networks by torch before training.
        workers: 0 for one a CPU core, or one on a GPU.
        timeout: Seconds that a cell may take; 0 for no limit.
        executor: Worker processes here, or tasks of a Ray cluster.
        address: Of that cluster: auto, HOST:PORT, or local to start one here.
        share: Whether its nodes see the same files, or slides and results go through Ray's object store.
        overwrite: Results to make again: none, those of other code, data or options, or all.
        memory: MiB of host memory that a cell may take; 0 for most of the machine's.
        keep_models: Keep fitted models beside their predictions, for `hdstbench predict`.
        mirror: Base address that files are fetched from, instead of the card's.
    """

    preset: str = ""
    models: tuple[str, ...] = ("all",)
    rows: tuple[RowSpec, ...] = ()
    dataset: tuple[str, ...] = ("demo",)
    res: tuple[str, ...] = ("all",)
    split: str = ""
    folds: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0,)
    protocol: Name = "hd"
    target: str = ""
    panel: str = ""
    genes: tuple[str, ...] = ()
    recipe: str = ""
    encoder: str = ""
    weights: str = ""
    bins: Literal["sample", "all"] = "sample"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "fp32"
    deterministic: bool = False
    compile: bool = False
    workers: int = 0
    timeout: float = 0.0
    memory: float = 0.0
    keep_models: bool = False
    executor: Literal["local", "ray"] = "local"
    address: str = "auto"
    share: Literal["shared", "store"] = "shared"
    mirror: str = ""
    output: str = "runs/default"
    overwrite: Literal["never", "stale", "always"] = "stale"


def resolve(given: Mapping[str, Any], sweep_file: str = "") -> tuple[Options, str]:
    """Merge the command line over the sweep file over the defaults.

    Args:
        given: What the command line names, and nothing else.
        sweep_file: Path of `-C`; empty for ./hdstbench.toml if it is there.

    Returns:
        The options and the files that were used, if any.

    Raises:
        DataError: If a file has an unknown key or a value is of the wrong type.
        MissingError: If there is no such preset.
    """
    path = Path(sweep_file or SWEEP_FILE)
    used = bool(sweep_file) or path.is_file()
    table = read_toml(path) if used else {}
    options = build(Options, table, str(path))
    typed = str(given.get("preset", ""))
    preset = typed or options.preset
    if preset:
        options = _with_preset(preset, table, str(path), over=bool(typed))
    options = replace(options, **given)
    lists: dict[str, Any] = {name: _once(getattr(options, name)) for name in LISTS}
    options = replace(options, **lists)
    if options.workers < 0 or options.timeout < 0 or not options.seeds or not options.models:
        msg = (
            f"workers {options.workers}, timeout {options.timeout:g}, {len(options.seeds)} seeds, "
            f"{len(options.models)} models; wanted at least 0, 0, 1 and 1"
        )
        raise DataError(msg)
    names = [f"preset {preset}"] * bool(preset) + [str(path)] * used
    return options, " and ".join(names)


def _with_preset(name: str, table: Mapping[str, Any], where: str, *, over: bool) -> Options:
    """A preset below the sweep file that names it, or, typed, over it; rows of both are kept."""
    place = find_preset(name)
    base = read_toml(place)
    if "preset" in base:
        msg = f"{place}: a preset cannot rest on another"
        raise DataError(msg)
    build(Options, base, str(place))
    added = table.get("rows", [])
    rows = [*base.get("rows", []), *added]
    merged = {**table, **base, "preset": name} if over else {**base, **table}
    if added and "models" in base and (over or "models" not in table):
        merged["models"] = [*base["models"], *(row["name"] for row in added)]
    return build(Options, {**merged, "rows": rows}, f"{place} and {where}" if table else str(place))


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def worker_count(options: Options, device: str, cells: int) -> int:
    """How many worker processes to start."""
    if options.workers:
        return min(options.workers, max(cells, 1))
    return 1 if device == "cuda" else max(1, min(os.cpu_count() or 1, cells))
