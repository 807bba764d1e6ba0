"""Ways to harm the files of one simulated slide; each takes the folder that holds its card."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile

from hdstbench.data.card import CARD

Harm = Callable[[Path], object]

BINS = "SIM1/outs/binned_outputs"
IMAGE = "SIM1/SIM1_tissue_image.tif"


def h5(size: int = 16) -> str:
    return f"{BINS}/square_{size:03d}um/filtered_feature_bc_matrix.h5"


def table(size: int = 16) -> str:
    return f"{BINS}/square_{size:03d}um/spatial/tissue_positions.parquet"


def remove(name: str) -> Harm:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def write(name: str, content: bytes) -> Harm:
    return lambda root: (root / name).write_bytes(content)


def cut(name: str, share: float = 0.5) -> Harm:
    def harm(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * share)])

    return harm


def positions(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Harm:
    def harm(root: Path) -> None:
        change(pd.read_parquet(root / table())).to_parquet(root / table())

    return harm


def column(name: str, change: Callable[[pd.Series], object]) -> Harm:
    return positions(lambda t: t.assign(**{name: change(t[name])}))


def factors(**values: object) -> Harm:
    def harm(root: Path) -> None:
        path = root / BINS / "square_016um/spatial/scalefactors_json.json"
        known = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))

    return harm


def matrix(name: str, change: Callable[[np.ndarray], np.ndarray] | None, size: int = 16) -> Harm:
    def harm(root: Path) -> None:
        with h5py.File(root / h5(size), "a") as file:
            old = file[name][()] if isinstance(file[name], h5py.Dataset) else None
            del file[name]
            if change is not None and old is not None:
                file[name] = change(old)

    return harm


def picture(make: Callable[[Path, tuple[int, int]], object]) -> Harm:
    """Replace the image by one that `make` writes, given its width and height."""

    def harm(root: Path) -> None:
        with tifffile.TiffFile(root / IMAGE) as tiff:
            height, width = tiff.pages[0].shape[:2]
        (root / IMAGE).unlink()
        make(root / IMAGE, (width, height))

    return harm


def plain(path: Path, size: tuple[int, int], **options: object) -> None:
    shape = (size[1], size[0], 3)
    tifffile.imwrite(path, np.zeros(shape, np.uint8), photometric="rgb", tile=(256, 256), **options)


def half_grey(path: Path, size: tuple[int, int]) -> None:
    tifffile.imwrite(path, np.zeros(size[::-1], np.uint8), tile=(256, 256))


def deep(path: Path, size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint16)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), compression="zlib")


def stripped(path: Path, size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=16, compression="lzw")


def short(path: Path, size: tuple[int, int]) -> None:
    """A flat image whose last rows are missing."""
    tifffile.imwrite(path, np.zeros((size[1], size[0], 3), np.uint8), photometric="rgb", rowsperstrip=1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def hires(root: Path) -> None:
    card = (root / CARD).read_text()
    small = f"{BINS}/square_016um/spatial/tissue_hires_image.png"
    (root / CARD).write_text(card.replace(IMAGE, small))


def no_png(root: Path) -> None:
    for path in (root / BINS).rglob("tissue_hires_image.png"):
        path.write_bytes(path.read_bytes()[:20])


def card(old: str, new: str) -> Harm:
    return lambda root: (root / CARD).write_text((root / CARD).read_text().replace(old, new, 1))


def pack(root: Path) -> Path:
    """Leave the bins packed only, as a download is."""
    path = root / "SIM1/outs/SIM1_binned_outputs.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(root / BINS, "binned_outputs")
    shutil.rmtree(root / BINS)
    return path


def packed_and_cut(root: Path) -> None:
    path = pack(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def packed_twice(root: Path) -> None:
    path = pack(root)
    shutil.copyfile(path, path.with_name("OTHER_binned_outputs.tar.gz"))


def only_2_um(root: Path) -> None:
    for size in (8, 16):
        shutil.rmtree(root / BINS / f"square_{size:03d}um")


def without_raw(root: Path) -> None:
    only_2_um(root)
    (root / BINS / "square_002um/raw_feature_bc_matrix.h5").unlink()


def other_raw(root: Path) -> None:
    only_2_um(root)
    with h5py.File(root / BINS / "square_002um/raw_feature_bc_matrix.h5", "a") as file:
        ids = file["matrix/features/id"][()]
        del file["matrix/features/id"]
        file["matrix/features/id"] = np.array([b"x" + name for name in ids])


def stratum(text: str, name: str = "strata.csv") -> Harm:
    def harm(root: Path) -> None:
        (root / name).write_text(text)
        card('patient = "P1"', f'patient = "P1"\nstrata = "{name}"')(root)

    return harm
