"""The prepared folder of one slide: what models may see in one place, what is scored in another.

    <slide>/manifest.json
    <slide>/pixels/{unit,spot,region}.npz  blocks.npy     places and block images
    <slide>/pixels/{spot,region}.npy                      their own images where they are tiles of the image
    <slide>/pixels/around.{npz,npy}                       the picture around units, if there is one
    <slide>/labels/{unit,spot,region}.npz  slide.npz      counts, library sizes, strata.npz if any

Its `content` hashes are made from the arrays, so the same data prepared twice has the same name.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hdstbench.arrays import Pixels
from hdstbench.errors import DataError
from hdstbench.strict import build

FORMAT = 4

Arrays = Mapping[str, npt.NDArray[Any]]


class Digest(Protocol):
    """A hash that content is added to."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a prepared slide is.

    Attributes:
        patch_px: Side of the patch of each level, finest level first.
        mpp: um a pixel of the block images.
        unit_um: Side of a unit, or the pitch of native spots.
        block_um: Side of a sampling block; 0 if each unit is one.
        left_out: Units that were left out, by reason.
        sources: Size in bytes of every file that was read, by its path below what they share.
        software: What wrote the counts; "" if they do not say.
        affine: From (column, row) of the units' array to (x, y) in um of the image frame, where places are
            given too; two rows of three; column 0 has its centre at 0.
        grid_shape: Rows and columns of that array.
        image_size: Width and height in pixels of the image, where there is one.
        image_mpp: um a pixel of the image, or of the patches that a unit came with.
        pixels: Hash of everything under pixels/.
        labels: Hash of everything under labels/.
    """

    format: int
    slide: str
    patient: str
    tissue: str
    resolution: str
    mpp: float
    unit_um: float
    block_um: float
    patch_px: dict[str, int]
    units: int
    blocks: int
    left_out: dict[str, int]
    sources: dict[str, int]
    software: str
    affine: tuple[tuple[float, ...], ...]
    grid_shape: tuple[int, ...]
    image_size: tuple[int, ...]
    image_mpp: float
    pixels: str
    labels: str


def save_arrays(path: Path, arrays: Arrays, digest: Digest) -> None:
    """Write one npz and add its content to a hash; both depend on the values alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{path.name}/{name}/{values.dtype.str}/{values.shape}".encode())
        digest.update(values.tobytes())
    np.savez(path, **arrays)  # type: ignore[arg-type] # the stubs miss that names are free


def save_blocks(
    path: Path, images: Iterator[tuple[int, Pixels]], count: int, side: int, digest: Digest
) -> None:
    """Write numbered block images, in any order, as one .npy, uint8 [count, side, side, 3].

    Plain writes, no memory map: a full disk is an error here, not a crash.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
    parts = [b""] * count
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for number, image in images:
            content = image.tobytes()
            file.seek(start + number * len(content))
            file.write(content)
            parts[number] = blake2b(content, digest_size=16).digest()
    digest.update(b"".join(parts))


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, last of all files."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    (folder / "manifest.json").write_text(text, encoding="utf-8")


@cache
def load_manifest(folder: Path) -> Manifest:
    """Read a prepared slide's manifest.

    Raises:
        DataError: If it is not there or of another format.
    """
    try:
        manifest = build(
            Manifest, json.loads((folder / "manifest.json").read_text(encoding="utf-8")), str(folder)
        )
    except (OSError, ValueError) as error:
        msg = f"{folder} is no prepared slide ({error}); remove it and run again"
        raise DataError(msg) from error
    if manifest.format != FORMAT:
        msg = f"{folder} has format {manifest.format}, wanted {FORMAT}; remove it and run again"
        raise DataError(msg)
    return manifest


@cache
def load_arrays(path: Path) -> Arrays:
    """Read one npz of a prepared slide; arrays are read-only and shared."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for values in arrays.values():
        values.setflags(write=False)
    return arrays


def load_blocks(folder: Path) -> Pixels:
    """Map the block images of a prepared slide, read-only uint8 [B, side, side, 3]."""
    return _map(folder / "pixels" / "blocks.npy")


@cache
def load_images(pixels: Path, level: str) -> Pixels:
    """Map the images that a level's patches are cut from: its own, or else those of the blocks.

    Args:
        pixels: The prepared slide's folder of pixels.
        level: Whose patches.
    """
    own = pixels / f"{level}.npy"
    return _map(own if own.is_file() else pixels / "blocks.npy")


@cache
def _map(path: Path) -> Pixels:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def forget() -> None:
    """Let go of all files that were read: those of a folder that is removed would stay on the disk."""
    for function in (load_manifest, load_arrays, load_images, _map):
        function.cache_clear()
