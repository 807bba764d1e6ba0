"""A model as it is set for a sweep: recipe, encoder and weights, found before any work."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hdstbench import __version__
from hdstbench.errors import DataError, MissingError
from hdstbench.plugins.plugin import AnyPlugin, Scope
from hdstbench.plugins.registry import found, load_model, origin, source_hash
from hdstbench.plugins.weights import NONE, Weights, find_weights
from hdstbench.protocol.splits import Split
from hdstbench.strict import replaced
from hdstbench.sweep.cell import ORACLE
from hdstbench.sweep.options import Options
from hdstbench.sweep.oracle import oracle_names
from hdstbench.sweep.rows import RowSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of a table before it is run.

    Attributes:
        model: The plugin; `name` is another where its options were changed, which `changes` tells.
        config: The plugin's configuration; None for an oracle.
        source: Hash of the code that brings it.
        origin: Distribution and version that bring it.
        encoder_weights: The encoder's own weights where the user named a file.
        flags: What tables have to say about it.
        scope: Whether it can predict slides that it was not trained on.
    """

    name: str
    kind: str
    recipe: str
    config: Any
    weights: Weights
    source: str
    origin: str
    model: str = ""
    changes: str = ""
    encoder_weights: Weights = NONE
    flags: tuple[str, ...] = ()
    scope: Scope = "any"

    @property
    def encoder(self) -> str:
        """Image encoder and weights as shown; empty without one."""
        name = getattr(self.config, "encoder", "")
        if not name:
            return f"none (checkpoint {self.weights.label})" if self.weights.path else ""
        own = f"; own {self.encoder_weights.label}" if self.encoder_weights.path else ""
        return f"{name} ({self.weights.label}{own})"

    def key(self) -> list[object]:
        """What of it changes predictions."""
        values = {} if self.config is None else dataclasses.asdict(self.config)
        files = [self.weights.sha256, self.encoder_weights.sha256]
        return [self.name, self.model, self.origin, self.source, self.recipe, values, *files]


def set_oracles(recipe: str, *, simulated: bool) -> list[Setting]:
    """The oracles of a task."""
    return [
        Setting(
            name=name,
            kind=ORACLE,
            recipe=recipe,
            config=None,
            weights=NONE,
            source="",
            origin=f"hdstbench {__version__}",
        )
        for name in oracle_names(simulated=simulated)
    ]


def set_models(models: Sequence[str], recipe: str, options: Options) -> list[Setting]:
    """Set each model, or row of the sweep.

    Raises:
        MissingError: If a model has no such recipe, or weights are not there.
        DataError: If a recipe is no dataclass, or a row sets an option that its model has not.
    """
    rows = {row.name: row for row in options.rows}
    asked = [rows.get(name, RowSpec(name=name, model=name)) for name in models]
    return [_set(load_model(row.model), row, recipe, options) for row in asked]


def settings_for(
    split: Split, settings: Sequence[Setting], named: Sequence[str]
) -> tuple[list[Setting], list[str]]:
    """Leave out models that need the test slides in training where a split keeps them apart.

    Args:
        split: Of the task.
        settings: Of all models that were asked for.
        named: The words of the request; `all` does not name a model.

    Returns:
        The settings that fit the split, and the names of the models that were left out.

    Raises:
        DataError: If one that does not fit was named, or none is left.
    """
    out = [s.name for s in settings if s.scope == "within-slide" and not split.within]
    wrong = [name for name in out if name in named]
    if wrong or len(out) == len(settings):
        msg = (
            f"{', '.join(wrong or out)} can predict only slides that are in training too; split {split.name} "
            'keeps them apart: choose a split of blocks (unit = "block"), or another model'
        )
        raise DataError(msg)
    return [s for s in settings if s.name not in out], out


def _set(plugin: AnyPlugin, row: RowSpec, recipe: str, options: Options) -> Setting:
    if recipe not in plugin.recipes:
        msg = f"model {plugin.name} has no recipe {recipe!r}; it has {', '.join(plugin.recipes)}"
        raise MissingError(msg)
    config, weights, own, flags = plugin.recipes[recipe], NONE, NONE, []
    if not hasattr(config, "__dataclass_fields__"):
        kind = type(config).__name__
        msg = f"recipe {recipe!r} of model {plugin.name} is a {kind}, wanted a frozen dataclass"
        raise DataError(msg)
    if row.set:
        config = replaced(config, row.set, f"row {row.name}")
        flags.append("other-options")
    encoder = getattr(config, "encoder", "")
    _check_encoder(row, options)
    if encoder and options.encoder:
        config, encoder = dataclasses.replace(config, encoder=options.encoder), options.encoder
        flags.append("other-encoder")
    if hasattr(config, "weights"):
        weights = find_weights(encoder, options.weights or config.weights)
        if options.weights not in ("", "pretrained") and weights.path:
            flags.append("named-weights")
            own = _own_weights(encoder)
        if weights is NONE and encoder:
            flags.append("random-weights")
    flags += getattr(config, "flags", ())
    return Setting(
        name=row.name,
        model=plugin.name,
        changes=row.changes,
        kind="variant" if row.set and plugin.kind == "model" else plugin.kind,
        recipe=recipe,
        config=config,
        weights=weights,
        source=source_hash(plugin.name),
        origin=origin(found()[plugin.name]),
        encoder_weights=own,
        flags=tuple(flags),
        scope=plugin.scope,
    )


def _check_encoder(row: RowSpec, options: Options) -> None:
    """A row that names its own encoder does not get another, nor another one's weights.

    Raises:
        DataError: If it would.
    """
    a_file = options.weights not in ("", "pretrained", "none")
    if "encoder" in row.set and (options.encoder or a_file):
        given = f"--encoder {options.encoder}" if options.encoder else f"--weights {options.weights}"
        msg = (
            f"row {row.name} sets its own encoder, {row.set['encoder']}, which {given} would replace; leave "
            "that out, or set encoder and weights in the row"
        )
        raise DataError(msg)


def _own_weights(encoder: str) -> Weights:
    """An encoder's pretrained weights, if they are there."""
    try:
        return find_weights(encoder, "pretrained")
    except MissingError:
        return NONE
