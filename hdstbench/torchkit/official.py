"""Read the checkpoints that authors published: their tensors under our names, none missing, none extra."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hdstbench.errors import DataError
from hdstbench.plugins.plugin import RunContext
from hdstbench.torchkit.encoders import read_weights

Tensors = Mapping[str, Tensor]


class Checkpoint(dict[str, Tensor]):
    """Tensors by name; one that is asked for and is not there makes it no checkpoint."""

    def __missing__(self, name: str) -> Tensor:
        """Refuse.

        Raises:
            DataError: Always.
        """
        msg = f"this is no whole checkpoint: of {len(self)} tensors none is {name}"
        raise DataError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """How the names of one model's official state dict become ours.

    Attributes:
        model: Named in messages.
        mark: An official name (regular expression) that every checkpoint of the model has and no
            encoder's weights file does.
        rules: Pairs of a regular expression for a whole official name and its replacement by ours; the
            first that matches counts, a name without one stays.
        unused: Official names (regular expressions) that no output depends on and we do not have.
        anew: Our names (regular expressions) of tensors whose shape follows the panel; a run starts
            them anew, since a checkpoint was made for other genes.
        tables: Our names (regular expressions) of tables with a row a position; a run takes as many
            rows as both have.
        spare: Our names (regular expressions) of tensors that a checkpoint may lack, or hold in vain; a run
            starts them anew then.
        constant: Our names of tensors that the authors keep outside their state dict.
    """

    model: str
    mark: str
    rules: tuple[tuple[str, str], ...]
    unused: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()

    def knows(self, tensors: Tensors) -> bool:
        """Whether these tensors are a checkpoint of the model."""
        return any(re.fullmatch(self.mark, name) for name in tensors)

    def read(self, path: Path | None) -> dict[str, Tensor] | None:
        """Read a checkpoint for a model that has no image encoder; None without a file.

        Raises:
            DataError: If the file holds anything else.
        """
        if path is None:
            return None
        tensors = read_weights(path)
        if not self.knows(tensors):
            msg = f"{path} is no {self.model} checkpoint, and the model has no image encoder to load"
            raise DataError(msg)
        return tensors

    def need(self, tensors: Tensors) -> Checkpoint:
        """Tensors under our names, as a checkpoint that sizes can be read from.

        Raises:
            DataError: If they are no checkpoint of the model.
        """
        if not self.knows(tensors):
            example = next(iter(tensors), "nothing")
            msg = f"these {len(tensors)} tensors are no {self.model} checkpoint; they hold {example}"
            raise DataError(msg)
        return Checkpoint(self.rename(tensors))

    def rename(self, tensors: Tensors) -> dict[str, Tensor]:
        """Tensors under our names, without the unused ones."""
        kept = {name: value for name, value in tensors.items() if not _any(self.unused, name)}
        return {self._ours(name): value for name, value in kept.items()}

    def load(self, net: nn.Module, tensors: Tensors) -> None:
        """Load a whole state dict.

        Raises:
            DataError: If a tensor is missing, extra or of another shape.
        """
        self._check(net, self.rename(tensors))
        net.load_state_dict(self.rename(tensors), strict=False)

    def start(self, net: nn.Module, tensors: Tensors) -> None:
        """Let a network of a run start from a checkpoint; what follows the panel stays as it is.

        Raises:
            DataError: If anything else is missing, extra or of another shape.
        """
        ours, own = self.rename(tensors), net.state_dict()
        vain = [name for name in ours if _any(self.spare, name) and name not in own]
        for name in [name for name in ours if _any(self.anew, name)] + vain:
            del ours[name]
        for name in [name for name in ours if _any(self.tables, name) and name in own]:
            rows = min(len(ours[name]), len(own[name]))
            if ours[name].shape[1:] == own[name].shape[1:]:  # else told below
                ours[name] = torch.cat([ours[name][:rows], own[name][rows:]])
        self._check(net, ours, (*self.anew, *self.spare))
        net.load_state_dict(ours, strict=False)

    def _ours(self, name: str) -> str:
        for official, ours in self.rules:
            if re.fullmatch(official, name):
                return re.sub(official, ours, name)
        return name

    def _check(self, net: nn.Module, tensors: Tensors, anew: tuple[str, ...] = ()) -> None:
        own = net.state_dict()
        own = {name: value for name, value in own.items() if name not in self.constant}
        missing = [name for name in own if name not in tensors and not _any(anew, name)]
        extra = [name for name in tensors if name not in own]
        other = [
            f"{name} {tuple(value.shape)}, wanted {tuple(own[name].shape)}"
            for name, value in tensors.items()
            if name in own and value.shape != own[name].shape
        ]
        if missing or extra or other:
            example = (missing + extra + other)[0]
            msg = (
                f"this is no {self.model} checkpoint of the wanted size: {len(missing)} tensors missing, "
                f"{len(extra)} unknown, {len(other)} of another shape, such as {example}; wanted the "
                "sizes of the recipe"
            )
            raise DataError(msg)


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def for_frozen(context: RunContext, model: str, encoder: str, weights: str) -> RunContext:
    """The context of a frozen encoder beside a checkpoint, which does not hold it.

    Args:
        context: Of the run; its `weights` are the checkpoint.
        model: Named in messages.
        encoder: Name of the encoder.
        weights: What the recipe says of it, "pretrained" or "none".

    Raises:
        DataError: If its own weights are wanted and not there.
    """
    if context.encoder_weights is None and weights == "pretrained":
        msg = (
            f"the {model} checkpoint does not hold the frozen encoder {encoder}; put its weights where "
            f"`hdstbench run` looks for them, the cache's folder weights, as {encoder}.safetensors"
        )
        raise DataError(msg)
    return replace(context, weights=context.encoder_weights)
