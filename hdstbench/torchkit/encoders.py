"""Image encoders by name, through timm, with weights from a file or none."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from hdstbench.errors import DataError
from hdstbench.plugins.weights import OFFLINE
from hdstbench.torchkit.checkpointing import set_checkpointing
from hdstbench.torchkit.compat import import_timm
from hdstbench.torchkit.pathology import PATHOLOGY, Known
from hdstbench.torchkit.readings import Reading, as_map, cells

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMM_NAMES = {OFFLINE: "tf_efficientnet_lite0"}
"""Names of the suite that differ from timm's; the rest are timm's own."""
HEADS = ("fc.", "head.", "classifier.", "_fc.")
WRAPPERS = ("module.", "model.", "resnet.")
"""Names of modules around a whole network, outermost first, as training tools leave them."""


class Encoder(nn.Module):
    """A network from patches to features.

    Patches are uint8 [B, 3, S, S]; `width` is the number D of features. A network with an input size of
    its own, `input_px`, gets patches of that size whatever S is; 0 takes them as they are. Each channel is
    brought to the mean and deviation that the network expects; a model may set its own (`standardise`).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, width: int, mean: tuple[float, ...], std: tuple[float, ...], input_px: int = 0
    ) -> None:
        super().__init__()
        self.net, self.width, self.input_px = net, width, input_px
        self._hooks: list[RemovableHandle] = []
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """Use these channel statistics of pixels in [0, 1] instead of the network's, [3] each."""
        self.mean.copy_(mean.view(3, 1, 1))
        self.std.copy_(std.view(3, 1, 1))

    def set_checkpointing(self, *, enable: bool = True) -> None:
        """Repeat the forward pass in the backward pass instead of keeping it: less memory, more time.

        Gradients and running statistics stay what they are.

        Raises:
            DataError: If the network cannot.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = set_checkpointing(self.net, type(self.net).__name__, enable=enable)

    def prepare(self, patches: Tensor) -> Tensor:
        """Turn uint8 patches into the network's input, float [B, 3, S, S]."""
        pixels, size = patches.float(), self.input_px
        if size not in (0, patches.shape[-1]):
            pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        out: Tensor = (pixels / 255 - self.mean) / self.std
        return out

    def forward(self, patches: Tensor) -> Tensor:
        """Encode patches, uint8 [B, 3, S, S] -> [B, D]."""
        out: Tensor = self.net(self.prepare(patches))
        return out

    def grid(self, patches: Tensor, side: int) -> Tensor:
        """Encode patches into side x side features each, uint8 [B, 3, S, S] -> [B, side^2, D].

        The feature map, of a vision transformer the tokens of its patches, is pooled to `side` x `side`; a
        network without a map repeats its feature.
        """
        return self.places(self.prepare(patches), side)

    def map(self, patches: Tensor) -> Tensor | None:
        """The map that `forward` takes the mean of, uint8 [B, 3, H, W] -> [B, D, h, w]; None without one."""
        if isinstance(self.net, Reading):
            return None
        pixels = self.prepare(patches)
        return as_map(self.net, self.net.forward_features(pixels), self.width)  # type: ignore[operator]

    def places(self, pixels: Tensor, side: int = 0) -> Tensor:
        """Features of places in what `prepare` gives, [B, 3, S, S] -> [B, P, D], row by row.

        P is side^2; with side 0 it is every place of the network's map, or one without a map.
        """
        if isinstance(self.net, Reading):
            return self.net.places(pixels, side)
        maps = as_map(self.net, self.net.forward_features(pixels), self.width)  # type: ignore[operator]
        if maps is None:
            flat: Tensor = self.net(pixels)
            return flat[:, None, :].expand(-1, max(side, 1) ** 2, -1)
        return cells(maps, side)


def make_encoder(name: str, weights: Path | None, *, checkpoint: bool = False) -> Encoder:
    """Make an encoder.

    Args:
        name: A name of the suite, or any of timm's.
        weights: A safetensors file, or a torch file with tensors alone; None for random weights,
            which depend on torch's seed.
        checkpoint: Repeat the forward pass in the backward pass (`Encoder.set_checkpointing`).

    Raises:
        DataError: If timm does not know the name, the weights do not fit, or the network cannot
            repeat its pass.
    """
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    input_px, known = 0, PATHOLOGY.get(name)
    if known is not None:
        (mean, std), input_px = known.channels, known.input_px
        net, width = _from_card(known, name, weights), known.width
    elif name in SMALL:
        net, width = SMALL[name]()
    else:
        net, width, mean, std, input_px = _from_timm(name)
    if weights is not None and known is None:
        _load(net, read_weights(weights), name, weights)
    encoder = Encoder(net, width, mean, std, input_px)
    if checkpoint:
        encoder.set_checkpointing()
    return encoder


def _from_card(known: Known, name: str, weights: Path | None) -> nn.Module:
    """Make a published encoder; with weights it is never filled with random ones, which takes long."""
    with torch.device("meta") if weights else nullcontext():
        net = known.make()
    if weights is not None:
        tensors = {k: v.float() for k, v in known.named(read_weights(weights), net).items()}
        _load(net, tensors, name, weights, assign=True)
    return net


def _from_timm(name: str) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...], int]:
    if ":" in name:
        msg = f"no encoder {name!r}: no hub is ever asked; take one of timm's names and --weights FILE"
        raise DataError(msg)
    timm = import_timm()
    try:
        net = timm.create_model(TIMM_NAMES.get(name, name), pretrained=False, num_classes=0)
    except (RuntimeError, TypeError) as error:
        msg = f"no encoder {name!r}: {error}; take one of timm's names"
        raise DataError(msg) from error
    width = int(net.num_features)
    if hasattr(net, "head_hidden_size"):
        width = int(net.head_hidden_size)
    settings = net.pretrained_cfg
    fixed = int(settings["input_size"][-1]) if settings.get("fixed_input_size") else 0
    return net, width, tuple(settings["mean"]), tuple(settings["std"]), fixed


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name; nothing else in the file is ever run.

    Raises:
        DataError: If the file holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            content: Mapping[str, Any] = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the loaders raise many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        msg = f"{path} is no weights file that can be read safely: {reason}"
        raise DataError(msg) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        msg = f"{path} holds a {type(content).__name__} without named tensors, wanted a state dict"
        raise DataError(msg)
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    for wrapper in WRAPPERS:
        tensors = {key.removeprefix(wrapper): value for key, value in tensors.items()}
    return tensors


def _load(net: nn.Module, tensors: dict[str, Tensor], name: str, path: Path, *, assign: bool = False) -> None:
    """Load weights without their classification head; `assign` takes the tensors themselves."""
    tensors = {key: value for key, value in tensors.items() if not key.startswith(HEADS)}
    own = net.state_dict()
    if name == OFFLINE and set(tensors) != set(own):
        # the packaged file lists the same tensors in the same order under older names
        tensors = dict(zip(own, tensors.values(), strict=False))
    wrong = [k for k in own if k not in tensors or tensors[k].shape != own[k].shape]
    extra = [k for k in tensors if k not in own]
    if wrong or extra:
        example = (wrong + extra)[0]
        msg = (
            f"{path} does not fit {name}: {len(wrong)} tensors missing or of another shape, "
            f"{len(extra)} unknown, such as {example}"
        )
        raise DataError(msg)
    net.load_state_dict(tensors, assign=assign)


def _small_densenet() -> tuple[nn.Module, int]:
    """A DenseNet of 16 layers: DenseNet-121's plan at a tenth of its cost, for quick recipes."""
    import_timm()
    from timm.models.densenet import DenseNet  # noqa: PLC0415 - after the shim

    net = DenseNet(growth_rate=16, block_config=(2, 4, 6, 4), num_classes=0)
    return net, int(net.num_features)


def _tiny() -> tuple[nn.Module, int]:
    """Two strided convolutions, for checks."""
    return _Tiny(), _Tiny.WIDTH


class _Tiny(nn.Module):
    WIDTH = 16

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.second = nn.Conv2d(8, self.WIDTH, 3, stride=2, padding=1)

    def forward_features(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(functional.relu(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_features(x).mean(dim=(2, 3))


SMALL: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "densenet-small": _small_densenet,
    "tiny": _tiny,
}
