"""Take the tissue from a table of cell-type labels on a real 8 um grid instead of growing it."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from hdstbench.arrays import BoolArray, FloatArray, IntArray
from hdstbench.errors import DataError
from hdstbench.simulate.cells import NAMES, Cells, Region, Tissue
from hdstbench.simulate.tissue import STEP_UM, smooth_field

BIN_UM = 8.0
MIN_FILL = 0.15
"""Share of labelled bins around a place from which on it is tissue."""
MIN_WINDOW = 0.25
"""Share of a slide's bins that have to be labelled."""
COLUMNS = ("barcode", "DeconvolutionLabel1")
WORDS = {
    "stem": ("tumor", "epithelial", "neuroendocrine", "tuft"),
    "enterocyte": ("enterocyte",),
    "goblet": ("goblet",),
    "endothelial": ("endothelial", "pericyte", "lymphatic"),
    "muscle": ("smooth muscle", "vsm", "(sm)", "sm stress"),
    "plasma": ("plasma",),
    "b-cell": (" b", "mature b"),
    "t-cell": ("t cell", "nk", "proliferating immune"),
    "macrophage": ("macrophage", "dc", "neutrophil", "mast"),
    "fibroblast": ("fibroblast", "caf", "glial", "adipocyte"),
}
"""Words of published label names (Oliveira et al. 2025) and the simulator's type they stand for."""
REGIONS = {Region.GLAND: (0, 1, 2), Region.MUSCLE: (5,), Region.IMMUNE: (6, 7, 8)}


def read_labels(path: Path) -> IntArray:
    """Read a label table into a grid of type numbers, -1 where there is none, [rows, cols].

    Raises:
        DataError: If a column is missing or no label is known; names what was found.
    """
    try:
        table = pd.read_csv(path, usecols=list(COLUMNS), dtype=str)
    except (OSError, ValueError) as error:
        msg = f"{path}: {error}; wanted a CSV with the columns {', '.join(COLUMNS)}"
        raise DataError(msg) from error
    place = table["barcode"].str.extract(r"^s_008um_(\d{5})_(\d{5})-1$")
    names = table["DeconvolutionLabel1"].dropna().unique()
    number = {name: _type_of(name) for name in names}
    if place.isna().any(axis=None) or not any(n >= 0 for n in number.values()):
        msg = f"{path}: wanted barcodes s_008um_<row>_<col>-1 and labels such as Goblet or CAF"
        raise DataError(msg)
    row, col = (place[i].astype(int).to_numpy() for i in (0, 1))
    grid = np.full((row.max() + 1, col.max() + 1), -1)
    grid[row, col] = table["DeconvolutionLabel1"].map(number).fillna(-1).astype(int)
    return grid


def _type_of(label: str) -> int:
    low = f" {label.lower()}"
    return next((NAMES.index(k) for k, words in WORDS.items() if any(w in low for w in words)), -1)


def tissue_from_labels(
    grid: IntArray, size_um: tuple[float, float], index: int, rng: np.random.Generator
) -> Tissue:
    """Put one cell of the labelled type into each bin of a well-filled window of the grid.

    The type of a bin is real, as is which types lie side by side; the place of a nucleus within
    its bin, its look and all expression are simulated.

    Args:
        grid: Type of each bin, -1 for none, [rows, cols].
        size_um: Width and height of the section.
        index: Which slide of the cohort; each takes a window of its own.
        rng: Draws what is simulated.

    Raises:
        DataError: If the grid has no such window left.
    """
    width_um, height_um = size_um
    window = _window(grid >= 0, int(height_um / BIN_UM), int(width_um / BIN_UM), index)
    kinds = grid[window]
    row, col = np.nonzero(kinds >= 0)
    jitter = rng.uniform(-2.5, 2.5, (2, len(row)))
    x, y = (col + 0.5) * BIN_UM + jitter[0], (row + 0.5) * BIN_UM + jitter[1]
    angle = 0.8 * np.sin(x / 170) + 0.8 * np.cos(y / 150) + rng.normal(0, 0.4, len(x))
    shape = (int(np.ceil(height_um / STEP_UM)), int(np.ceil(width_um / STEP_UM)))
    region = _regions(kinds, shape)
    zone = 1 / (1 + np.exp(-2.5 * smooth_field(rng, shape, 180)))
    cells = Cells(x=x, y=y, kind=kinds[row, col], angle=angle)
    hidden = smooth_field(rng, shape, 90)
    return Tissue(step_um=STEP_UM, region=region, zone=zone, hidden=hidden, cells=cells)


def _window(filled: BoolArray, rows: int, cols: int, index: int) -> tuple[slice, slice]:
    """The best-filled window that overlaps none of the `index` better ones."""
    if rows > filled.shape[0] or cols > filled.shape[1]:
        msg = (
            f"the label grid has {filled.shape[0]} x {filled.shape[1]} bins of 8 um, the slide needs "
            f"{rows} x {cols}; choose a smaller --size-mm"
        )
        raise DataError(msg)
    total = np.pad(filled.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    count = total[rows:, cols:] - total[:-rows, cols:] - total[rows:, :-cols] + total[:-rows, :-cols]
    for number in range(index + 1):
        top, left = (int(i) for i in np.unravel_index(int(count.argmax()), count.shape))
        if count[top, left] < MIN_WINDOW * rows * cols:
            msg = (
                f"the label grid has room for {number} slides of {rows} x {cols} bins that do not overlap; "
                "choose a smaller --size-mm or fewer --slides"
            )
            raise DataError(msg)
        count[max(0, top - rows + 1) : top + rows, max(0, left - cols + 1) : left + cols] = -1
    return slice(top, top + rows), slice(left, left + cols)


def _regions(kinds: IntArray, shape: tuple[int, int]) -> IntArray:
    """Name each place by the types that prevail around it."""
    share: list[FloatArray] = []
    for members in ((), *REGIONS.values()):
        here = (kinds >= 0) if not members else np.isin(kinds, members)
        share.append(ndimage.gaussian_filter(here.astype(np.float32), 1.2))
    inside = share[0] > MIN_FILL
    region = np.where(inside, Region.STROMA, Region.BACKGROUND)
    for name, part in zip(REGIONS, share[1:], strict=True):
        region[inside & (part > 0.5 * share[0])] = name
    step = round(BIN_UM / STEP_UM)
    fine = np.kron(region, np.ones((step, step), int))[: shape[0], : shape[1]]
    pad = [(0, n - m) for n, m in zip(shape, fine.shape, strict=True)]
    return np.pad(fine, pad).astype(np.uint8)
