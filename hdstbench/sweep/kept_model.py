"""A fitted model as a cell keeps it: its files, its configuration, and what a slide has to be for it.

<cell>/model/model.json   what it is and what it was trained for
<cell>/model/config.toml  its configuration
<cell>/model/*            what the model itself wrote
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hdstbench.data.levels import Resolution, native, resolution
from hdstbench.data.prepared import load_manifest
from hdstbench.errors import DataError, MissingError
from hdstbench.plugins.plugin import Model, Precision, RunContext, Savable
from hdstbench.plugins.registry import load_model
from hdstbench.plugins.weights import find_weights, sha256_of
from hdstbench.protocol.slide import symbols_of
from hdstbench.protocol.target import Target
from hdstbench.protocol.task import Fold
from hdstbench.records import Record
from hdstbench.strict import build, read_toml

MODEL, FILE, CONFIG = "model", "model.json", "config.toml"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptModel:
    """What is known of a fitted model.

    Attributes:
        savable: Whether the model could be kept at all.
        row: Name in tables; `plugin` is the model's own.
        weights: Hash of the weights file that it started from, "none" without one.
        weights_file: Where that lay.
        own_weights: The same of its encoder's own weights, where the user named another file.
        resolution: Of the task, such as 16um.
        block_um: Side of a sampling block; 0 where each unit is one.
        unit_um: Side of a unit, or the pitch of native spots.
        mpp: um a pixel of patches.
        patch_px: Side of the patch of each level in pixels.
        target: The transform that is predicted, with what it took from training units.
        train: Slides that it was trained on.
        simulated: Whether these are simulated.
    """

    format: int = FORMAT
    savable: bool
    row: str
    plugin: str
    origin: str
    recipe: str
    fold: int
    seed: int
    device: str
    precision: str
    encoder: str
    flags: tuple[str, ...]
    weights: str
    weights_file: str
    own_weights: str
    own_weights_file: str
    task: dict[str, str]
    resolution: str
    block_um: float
    unit_um: float
    mpp: float
    patch_px: dict[str, int]
    target: Target
    genes: tuple[str, ...]
    symbols: tuple[str, ...]
    train: tuple[str, ...]
    simulated: bool
    versions: dict[str, str] = field(default_factory=dict)

    def level(self) -> Resolution:
        """The resolution as geometry.

        Raises:
            DataError: If units were tiles of an image or drawn one by one, which no whole slide is cut into.
        """
        if self.task["protocol"] != "hd":
            msg = f"the model is of protocol {self.task['protocol']}; predict takes models of protocol hd"
            raise DataError(msg)
        if self.block_um == 0:
            return native(self.resolution, self.patch_px["unit"] * self.mpp, self.unit_um)
        return resolution(self.resolution)


@dataclass(frozen=True, slots=True)
class Files:
    """Weights files of a fit, if any."""

    weights: Path | None
    own: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a fitted model is from.

    Attributes:
        plugin: Its name.
        config: Its configuration as TOML.
        record: Of the cell.
        fold: That it was fitted on.
        files: Weights that it started from.
        prepared: Folder of a training slide.
        simulated: Whether the data set says that it is.
    """

    plugin: str
    config: str
    record: Record
    fold: Fold
    files: Files
    prepared: Path
    simulated: bool


def keep_model(part: Path, model: Model, of: Origin) -> None:
    """Write a fitted model into a cell's folder; one that cannot be saved leaves a note that says so."""
    folder, record, fold, files = part / MODEL, of.record, of.fold, of.files
    first = fold.train[0]
    folder.mkdir()
    savable = isinstance(model, Savable)
    if isinstance(model, Savable):
        model.save(folder)
    manifest, symbols = load_manifest(of.prepared), symbols_of(of.prepared)
    kept = KeptModel(
        savable=savable,
        row=record.model,
        plugin=of.plugin,
        origin=record.plugin,
        recipe=record.recipe,
        fold=record.fold,
        seed=record.seed,
        device=record.device,
        precision=record.precision,
        encoder=record.encoder,
        flags=record.flags,
        weights=sha256_of(files.weights) if files.weights else "none",
        weights_file=str(files.weights.absolute()) if files.weights else "",
        own_weights=sha256_of(files.own) if files.own else "none",
        own_weights_file=str(files.own.absolute()) if files.own else "",
        task=record.task,
        resolution=manifest.resolution,
        block_um=manifest.block_um,
        unit_um=manifest.unit_um,
        mpp=first.mpp,
        patch_px=dict(first.patch_px),
        target=first.target.hidden(),
        genes=fold.panel.genes,
        symbols=tuple(symbols.get(gene, gene) for gene in fold.panel.genes),
        train=tuple(dict.fromkeys(slide.id for slide in (*fold.train, *fold.val))),
        simulated=of.simulated,
        versions=record.versions,
    )
    (folder / CONFIG).write_text(of.config, encoding="utf-8")
    text = json.dumps(dataclasses.asdict(kept), indent=1, sort_keys=True)
    (folder / FILE).write_text(text, encoding="utf-8")


def find_kept(path: Path) -> tuple[Path, KeptModel]:
    """Read what is known of the fitted model of a cell.

    Args:
        path: The cell's folder, its model folder, or the folder of a model with one such cell.

    Raises:
        MissingError: If there is none.
        DataError: If there are several, or it could not be saved.
    """
    places = [path, path / MODEL, *sorted(path.glob(f"*/{MODEL}"))]
    found = [place for place in places if (place / FILE).is_file()]
    if not found:
        msg = f"{path} holds no fitted model; run the sweep with --keep-models and name a cell's folder"
        raise MissingError(msg)
    if len(found) > 1:
        names = ", ".join(place.parent.name for place in found)
        msg = f"{path} holds the models of {len(found)} cells ({names}); name one of them"
        raise DataError(msg)
    try:
        kept = build(KeptModel, json.loads((found[0] / FILE).read_text(encoding="utf-8")), str(found[0]))
    except ValueError as error:
        msg = f"{found[0] / FILE}: {error}; run the cell again with --keep-models"
        raise DataError(msg) from error
    if kept.format != FORMAT or not kept.savable:
        why = (
            f"of format {kept.format}, wanted {FORMAT}"
            if kept.savable
            else "of a model without save and load"
        )
        msg = f"{found[0]} is {why}"
        raise DataError(msg)
    return found[0], kept


def context_of(kept: KeptModel, folder: Path, *, device: str, weights: str = "") -> RunContext:
    """What a kept model is loaded and predicts with.

    Args:
        kept: The model.
        folder: An empty one, for what it writes.
        device: "cpu" or "cuda".
        weights: A file to take instead of the one that it was fitted with, if that has been moved.

    Raises:
        MissingError: If its weights are nowhere.
    """
    return RunContext(
        seed=kept.seed,
        device=device,
        precision=cast(Precision, kept.precision),
        scratch=folder,
        cache=folder,
        weights=_weights(kept.weights, (weights, kept.weights_file), kept),
        encoder_weights=_weights(kept.own_weights, (kept.own_weights_file,), kept),
    )


def _weights(sha256: str, places: tuple[str, ...], kept: KeptModel) -> Path | None:
    """The file of that content, where it lay or where the encoder's weights usually lie."""
    if sha256 == "none":
        return None
    candidates = [Path(place) for place in places if place]
    name = kept.encoder.split(" ")[0]
    try:
        usual = find_weights(name, "pretrained").path
        candidates += [usual] if usual else []
    except MissingError:
        pass
    for path in candidates:
        if path.is_file() and sha256_of(path) == sha256:
            return path
    msg = (
        f"{kept.row} started from weights {Path(places[-1]).name} (sha256 {sha256[:16]}), which are not in "
        f"{places[-1]}; give --weights FILE"
    )
    raise MissingError(msg)


def load_kept_model(folder: Path, kept: KeptModel, context: RunContext) -> Savable:
    """Make the model as it was after its fit.

    Raises:
        HdstError: If its package or its files are not what they were.
    """
    plugin = load_model(kept.plugin)
    if kept.recipe not in plugin.recipes:
        msg = f"model {kept.plugin} has no recipe {kept.recipe!r} any more; install {kept.origin}"
        raise DataError(msg)
    kind: type[Any] = type(plugin.recipes[kept.recipe])
    model = plugin.build(build(kind, read_toml(folder / CONFIG), str(folder / CONFIG)))
    if not isinstance(model, Savable):
        msg = f"model {kept.plugin} has no save and load any more; install {kept.origin}"
        raise DataError(msg)
    model.load(folder, context)
    return model
