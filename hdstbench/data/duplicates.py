"""Are two slides the same section? Compare pictures, maps and pseudobulks.

Pictures and maps are compared under quarter turns and flips only: at any other angle, a section that was
scanned twice looks different. Pseudobulks know no angle, so they alone can tell then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.data.fingerprint import FINE, Fingerprint
from hdstbench.data.moved import best_moved

Grid: TypeAlias = npt.NDArray[Any]
Verdict: TypeAlias = Literal[
    "same section",
    "same picture, other counts",
    "same section or same patient?",
    "serial sections or same patient?",
    "different",
]
"""From what is most to what is least alike."""

SAME_IMAGE, SAME_MAP = 0.7, 0.5
"""Simulated twins (other mirror, stain, noise, and depth down to a hundredth) of 0.5 and 1.3 mm: image 0.87
to 0.99, maps 0.67 to 0.98. Different simulated slides: up to 0.24 and 0.28. Near-adjacent sections of one
tumour (her2st C2 to C5): 0.29 to 0.41 and 0.41 to 0.59."""
NEAR_MAP, NEAR_BULK = 0.35, 0.95
"""her2st C2 to C5: maps 0.41 to 0.59, pseudobulk 0.97 to 0.98; C against B4: 0 to 0.22 and 0.80 to 0.81.
Different simulated patients: pseudobulk 0.91 to 0.93."""
SAME_BULK = 0.995
"""Serial sections of one tumour reach 0.98, other patients 0.93; twins have 0.89 to 1.00, by their depth.
A simulated section that was turned by 5 to 45 degrees keeps 1.00, while its image falls from 0.56 to 0.11
and its maps from 0.75 to 0.29."""
MIN_COUNT, MIN_GENES = 10, 50
"""Genes with fewer counts in either slide say more about depth than about the tissue; fewer genes than
that say nothing."""
SHOWN = 10

_TURNS = ("as it is", "turned left by 90 degrees", "turned by 180 degrees", "turned right by 90 degrees")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """How alike two slides are; each number is a correlation.

    Attributes:
        first: Id of a slide.
        second: Id of the other.
        image: Of darkness, where both have tissue, in the best of four quarter turns and their mirrors.
        maps: Of coarse maps, likewise: the mean of that of UMI and that of ten top genes.
        bulk: Of log pseudobulks over shared genes, at whatever angle.
        move: How the first has to be turned by quarters, and mirrored, to lie like the second.
    """

    first: str
    second: str
    image: float
    maps: float
    bulk: float
    move: str

    @property
    def verdict(self) -> Verdict:
        """What the three numbers say together.

        One section at an odd angle is known by its pseudobulk. Sections of one patient from different
        blocks, or serial ones at an odd angle, look different.
        """
        if self.image >= SAME_IMAGE:
            return "same section" if self.maps >= SAME_MAP else "same picture, other counts"
        if self.bulk >= SAME_BULK:
            return "same section or same patient?"
        if self.maps >= NEAR_MAP and self.bulk >= NEAR_BULK:
            return "serial sections or same patient?"
        return "different"


def find_duplicates(slides: Sequence[Fingerprint]) -> list[Pair]:
    """Compare every two slides, the most alike first: by verdict, then by pictures and maps."""
    pairs, order = [compare(a, b) for a, b in combinations(slides, 2)], get_args(Verdict)
    return sorted(pairs, key=lambda pair: (order.index(pair.verdict), -pair.image - pair.maps))


def compare(a: Fingerprint, b: Fingerprint) -> Pair:
    """Compare two slides under the eight rotations and flips of the square; no other angle is tried."""
    blocks = tuple(t.repeat(FINE, axis=0).repeat(FINE, axis=1) for t in (a.tissue, b.tissue))
    image = best_moved((_turns(a.dark[..., None]), _turns(blocks[0])), (b.dark[..., None], blocks[1]), FINE)
    of_a, of_b = _turns(a.tissue), b.tissue
    maps = best_moved((_turns(a.umi[..., None]), of_a), (b.umi[..., None], of_b), 1)
    genes_a, genes_b = _genes(a, b)
    if genes_a.shape[-1]:
        maps = (maps + best_moved((_turns(genes_a), of_a), (genes_b, of_b), 1)) / 2
    best = int(np.argmax(image + maps))
    return Pair(
        first=a.id,
        second=b.id,
        image=float(image[best]),
        maps=float(maps[best]),
        bulk=_bulk(a.bulk, b.bulk),
        move=_TURNS[best % 4] + (", mirrored" if best >= 4 else ""),  # noqa: PLR2004
    )


def _turns(a: Grid) -> Grid:
    """The four quarter turns of a map, and their mirrors: [8, ...]."""
    turned = [np.rot90(a, number) for number in range(4)]
    return np.stack([*turned, *(one[:, ::-1] for one in turned)])


def _genes(a: Fingerprint, b: Fingerprint) -> tuple[FloatArray, FloatArray]:
    """Maps of the shared top genes that vary most in both, [CELLS, CELLS, at most SHOWN] each."""
    where = {gene: j for j, gene in enumerate(b.top_ids)}
    shared = [(i, where[gene]) for i, gene in enumerate(a.top_ids) if gene in where]
    columns: IntArray = np.array(shared, np.int64).reshape(-1, 2).T
    of_a, of_b = a.top[..., columns[0]], b.top[..., columns[1]]
    spread = np.minimum(of_a[a.tissue].var(axis=0), of_b[b.tissue].var(axis=0))
    order = np.argsort(-spread, kind="stable")[:SHOWN]
    return of_a[..., order], of_b[..., order]


def _bulk(a: dict[str, int], b: dict[str, int]) -> float:
    """Pearson of log counts over shared genes that have enough of them in both; 0 where they are few."""
    genes = [gene for gene in a if gene in b]
    counts = [np.fromiter(map(of.__getitem__, genes), np.float64, len(genes)) for of in (a, b)]
    enough = np.minimum(*counts) >= MIN_COUNT
    if enough.sum() < MIN_GENES:
        return 0.0
    x, y = (np.log(of[enough]) for of in counts)
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0
