"""What is worth knowing of a sample before it is used: its grid, its counts, and what its sizes share."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.spatial import cKDTree

from hdstbench.arrays import FloatArray
from hdstbench.data.geometry import Affine
from hdstbench.data.image import open_image, outside_share
from hdstbench.data.levels import MAX_CUSTOM_UM, to_image_um
from hdstbench.data.sample import Sample

Line: TypeAlias = tuple[str, str]
WAYS = {
    (0, 1): "to the right (+x)",
    (0, -1): "to the left (-x)",
    (1, 1): "downwards (+y)",
    (1, -1): "upwards (-y)",
}
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFacts:
    """Where units lie.

    Attributes:
        units: In tissue.
        mpp: um a pixel as stated.
        fitted_mpp: The same from the positions.
        determinant: Sign of the map from (column, row) to (x, y); -1 means mirrored.
        degrees: How far the columns are turned clockwise from the nearest image axis.
        col_way: Where array_col grows in the image.
        row_way: Where array_row grows.
    """

    shape: tuple[int, int]
    unit_um: float
    units: int
    mpp: float
    fitted_mpp: float
    determinant: int
    degrees: float
    col_way: str
    row_way: str

    def lines(self) -> list[Line]:
        """As names and texts."""
        rows, columns = self.shape
        kind = f"{'mirrored' if self.determinant < 0 else 'not mirrored'} (determinant {self.determinant:+d})"
        return [
            (
                "array",
                f"{rows} rows x {columns} columns of {self.unit_um:g} um, {self.units} in tissue",
            ),
            ("um a pixel", f"{self.mpp:.4f} stated, {self.fitted_mpp:.4f} from the positions"),
            (
                "orientation",
                f"{kind}, turned by {self.degrees:+.2f} degrees",
            ),
            ("array_col", f"grows {self.col_way}"),
            ("array_row", f"grows {self.row_way}"),
        ]


def grid_facts(sample: Sample) -> GridFacts:
    """Describe the array of a sample and how it lies in the image."""
    linear = sample.to_px.matrix[:, :2]
    x, y = linear[:, 0]
    turn = np.degrees(np.arctan2(y, x))
    return GridFacts(
        shape=sample.grid_shape,
        unit_um=sample.unit_um,
        units=len(sample.grid),
        mpp=sample.mpp,
        fitted_mpp=_fitted_mpp(sample),
        determinant=int(np.sign(np.linalg.det(linear))),
        degrees=float((turn + 45) % 90 - 45),
        col_way=_way(linear[:, 0]),
        row_way=_way(linear[:, 1]),
    )


def _way(step: FloatArray) -> str:
    axis = int(np.argmax(np.abs(step)))
    return WAYS[axis, int(np.sign(step[axis]))]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountFacts:
    """Genes, and UMI a unit; `enough` counts the units that a task would keep."""

    genes: int
    twice: tuple[str, ...]
    mean: float
    median: float
    least: int
    most: int
    empty: float
    minimum: int
    enough: int

    def lines(self) -> list[Line]:
        """As names and texts."""
        shown = ", ".join(self.twice[:SHOWN]) + (", ..." if len(self.twice) > SHOWN else "")
        twice = f"; {len(self.twice)} symbols stand for more than one ({shown})" if self.twice else ""
        return [
            ("genes", f"{self.genes}{twice}"),
            (
                "UMI a unit",
                f"mean {self.mean:.1f}, median {self.median:.0f}, from {self.least} to {self.most}; "
                f"{self.empty:.1%} of the units are empty, {self.enough} have {self.minimum} or more",
            ),
        ]


def count_facts(sample: Sample, minimum: int) -> CountFacts:
    """Describe the counts of a sample; units with fewer than `minimum` UMI leave a task.

    Raises:
        DataError: If the counts cannot be read.
    """
    umi, genes = sample.counts.totals(), sample.counts.genes
    names, times = np.unique(np.array(genes.symbols), return_counts=True)
    return CountFacts(
        genes=len(genes),
        twice=tuple(names[times > 1].tolist()),
        mean=float(umi.mean()),
        median=float(np.median(umi)),
        least=int(umi.min()),
        most=int(umi.max()),
        empty=float((umi == 0).mean()),
        minimum=minimum,
        enough=int((umi >= minimum).sum()),
    )


def outside_units(sample: Sample) -> int:
    """How many units lie at least partly outside the image; 0 where there is none.

    Raises:
        HdstError: If the image cannot be read.
    """
    if sample.image is None:
        return 0
    side = sample.unit_um / sample.mpp
    x, y = (sample.xy_px - side / 2).T
    return int((outside_share(open_image(sample.image), x, y, side) > 0).sum())


def _fitted_mpp(sample: Sample) -> float:
    """From positions; spots may lie on a hexagonal array, whose steps are no pitch."""
    if sample.unit_um <= MAX_CUSTOM_UM:
        return sample.unit_um / sample.to_px.scale
    gaps = np.asarray(cKDTree(sample.xy_px).query(sample.xy_px, k=2)[0])
    return float(sample.unit_um / np.median(gaps[:, 1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFacts:
    """What bins of every size of one run have to share.

    Attributes:
        unit_um: Side of a bin.
        gene_ids: Of the matrix, in its order.
        to_um: From um of the array frame to um of the image frame.
        side_um: Longer side of the array.
    """

    unit_um: float
    gene_ids: tuple[str, ...]
    to_um: Affine
    side_um: float


def size_facts(sample: Sample) -> SizeFacts:
    """Take what has to be the same at another size; it is small, whatever the sample holds."""
    return SizeFacts(
        unit_um=sample.unit_um,
        gene_ids=sample.counts.genes.ids,
        to_um=to_image_um(sample),
        side_um=max(sample.grid_shape) * sample.unit_um,
    )


def contradiction(a: SizeFacts, b: SizeFacts) -> str:
    """Why bins of two sizes cannot be of one run; "" if they can."""
    sizes = f"{a.unit_um:g} and {b.unit_um:g} um"
    if a.gene_ids != b.gene_ids:
        return f"the {sizes} matrices list different genes; they are of two runs"
    corners = np.argwhere(np.ones((2, 2), bool)) * min(a.side_um, b.side_um)
    gap = float(np.hypot(*(a.to_um(corners) - b.to_um(corners)).T).max())
    if gap > min(a.unit_um, b.unit_um):
        return f"the {sizes} bins of one place lie {gap:.1f} um apart in the image; they are of two runs"
    return ""
