"""Write the pictures of a slide: full resolution, hires, lowres and the CytAssist stand-in."""

from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from hdstbench.arrays import Pixels

HIRES, LOWRES = 0.25, 0.025
TILE = 256
PLACEHOLDER = (96, 96)  # dots an inch, as the public files claim; the true size is elsewhere


def write_full_image(path: Path, picture: Pixels, *, stripped: bool) -> None:
    """Write uint8 [H, W, 3]: a tiled JPEG pyramid, or one flat uncompressed strip image."""
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        write = partial(tiff.write, photometric="rgb", resolution=PLACEHOLDER, resolutionunit="INCH")
        if stripped:
            write(picture, rowsperstrip=1)
            return
        tiled = partial(write, tile=(TILE, TILE), compression="jpeg", compressionargs={"level": 90})
        tiled(picture, subfiletype=0)
        while max(picture.shape) > 4 * TILE:
            picture = _half(picture)
            tiled(picture, subfiletype=1)


def _half(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    image = Image.fromarray(picture).resize((width // 2, height // 2), Image.Resampling.BOX)
    return np.asarray(image)


def write_small_images(folders: list[Path], picture: Pixels) -> None:
    """Write the small pictures into the first `spatial` folder and link them into the others."""
    image = Image.fromarray(picture)
    hires, lowres = (
        image.resize((round(image.width * s), round(image.height * s)), Image.Resampling.BOX)
        for s in (HIRES, LOWRES)
    )
    eosin = hires.getchannel("G").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pictures = {"tissue_hires_image.png": hires, "tissue_lowres_image.png": lowres}
    pictures["cytassist_image.tiff"] = eosin
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            if folder is folders[0]:
                content.save(folder / name, compress_level=1)
            else:
                (folder / name).hardlink_to(folders[0] / name)  # as in a real run
