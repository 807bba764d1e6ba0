"""The note beside an image that was cut out of a larger one, so that positions can follow."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.data.image import open_image
from hdstbench.errors import DataError


@dataclass(frozen=True, slots=True)
class Crop:
    """Where an image was cut out, in full-resolution pixels of its source; nothing for a whole image."""

    corner: FloatArray = field(default_factory=lambda: np.zeros(2))
    source_size: tuple[int, int] | None = None


def note_of(image: Path) -> Path:
    """Where the note of an image lies: `hdstbench data convert` writes it."""
    return image.with_name(f"{image.name}.json")


def read_crop(image: Path) -> Crop:
    """Read the note of an image, if it has one.

    Raises:
        DataError: If it is broken, or is the note of another image.
    """
    path = note_of(image)
    if not path.is_file():
        return Crop()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        x, y, *size = (int(v) for v in values["crop"])
        width, height = (int(v) for v in values["source_size"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        msg = (
            f"{path}: wanted crop [x, y, width, height] and source_size [width, height], got {error!r}; "
            "remove it if it is no note of a crop"
        )
        raise DataError(msg) from error
    found = list(open_image(image).size)
    if size != found:
        msg = (
            f"{path} is of a cut of {' x '.join(map(str, size))} px, {image.name} has {found[0]} x "
            f"{found[1]}; remove the note, or convert the image again"
        )
        raise DataError(msg)
    return Crop(np.array([x, y], np.float64), (width, height))
