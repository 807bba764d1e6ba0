"""From cells to expected molecules: gene classes and the three levels that act on them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.rng import stream
from hdstbench.simulate.cells import EPITHELIAL, IMMUNE, STROMAL, TYPES, Region, Tissue
from hdstbench.simulate.constants import COUNTS, GENES, TISSUE, VERSION

Signal = Literal["all", "bin", "neighbourhood", "region"]
CLASSES = {
    "TYPE": GENES.type_only,
    "NEIGH": GENES.neighbourhood,
    "REGION": GENES.region,
    "MIXED": GENES.mixed,
    "HOUSE": GENES.housekeeping,
    "DEPTH": GENES.depth_only,
    "UNSEEN": GENES.image_invisible,
    "NOISE": GENES.pure_noise,
}
"""Modelled genes of each class; a gene's symbol begins with its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneModel:
    """Coefficients on the log rate, shared by all slides of a cohort; G modelled genes.

    `share` [G] sums to `GENES.modelled_share`; `by_type` [T, G], `by_neighbour` [3, G],
    `by_region` [3, G] and `by_hidden` [G] are added to its log.
    """

    kind: tuple[str, ...]
    share: FloatArray
    by_type: FloatArray
    by_neighbour: FloatArray
    by_region: FloatArray
    by_hidden: FloatArray
    rest_share: FloatArray  # [rest genes]


def gene_model(seed: int, signal: Signal) -> GeneModel:
    """Draw the genes of a cohort; `signal` keeps one level only, the image's other levels act on nothing."""
    rng = stream("simulate", VERSION, "genes", seed)
    kind = np.repeat(list(CLASSES), list(CLASSES.values()))
    share = np.exp(rng.normal(0, GENES.share_log_sd, len(kind)))
    rest = np.exp(rng.normal(0, GENES.rest_log_sd, GENES.rest))
    by_type = _type_effects(rng, len(kind)) * np.isin(kind, ["TYPE", "MIXED"])
    by_neighbour = rng.normal(0, GENES.neighbourhood_log_fold, (3, len(kind)))
    by_region = rng.normal(0, GENES.region_log_fold, (3, len(kind)))
    by_hidden = rng.choice([-1, 1], len(kind)) * GENES.invisible_log_fold * (kind == "UNSEEN")
    on = {level: signal in ("all", level) for level in ("bin", "neighbourhood", "region")}
    return GeneModel(
        kind=tuple(kind),
        share=GENES.modelled_share * share / share.sum(),
        by_type=on["bin"] * by_type,
        by_neighbour=on["neighbourhood"] * by_neighbour * np.isin(kind, ["NEIGH", "MIXED"]),
        by_region=on["region"] * by_region * np.isin(kind, ["REGION", "MIXED"]),
        by_hidden=by_hidden,
        rest_share=(1 - GENES.modelled_share) * rest / rest.sum(),
    )


def _type_effects(rng: np.random.Generator, genes: int) -> FloatArray:
    """Each gene is high in one or two types and low in the others, [T, G]."""
    effect = np.full((len(TYPES), genes), -0.4)
    effect[rng.integers(len(TYPES), size=genes), np.arange(genes)] = GENES.type_log_fold
    second = rng.integers(2, size=genes) == 1
    effect[rng.integers(len(TYPES), size=genes)[second], np.flatnonzero(second)] = 1.0
    return effect + rng.normal(0, 0.25, effect.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Expected molecules of a slide's cells before bursts; C cells, G modelled genes."""

    modelled: FloatArray  # float32 [C, G]
    rest: FloatArray  # [C], summed over the rest genes
    hidden_factor: FloatArray  # float32 [C, G_unseen]: what the hidden field multiplies
    shape: FloatArray  # [G], gamma shape of bursts


def rates(tissue: Tissue, genes: GeneModel, slide: str, patient: str, seed: int) -> Rates:
    """Expected molecules of every cell and gene of one slide."""
    kind = np.array(genes.kind)
    log = np.log(genes.share) + genes.by_type[tissue.cells.kind]
    log += _neighbourhood(tissue) @ genes.by_neighbour + _macro(tissue) @ genes.by_region
    log += _batch_effects(len(kind), slide, patient, seed)
    hidden = np.outer(tissue.at(tissue.hidden), genes.by_hidden)
    size = _cell_sizes(tissue, slide, seed)
    modelled = (size[:, None] * np.exp(log + hidden)).astype(np.float32)
    modelled *= GENES.modelled_share * size.sum() / modelled.sum()
    rest = size * (1 - GENES.modelled_share)
    modelled = _follow_depth(modelled, rest, kind == "DEPTH", genes.share)
    return Rates(
        modelled=modelled,
        rest=rest,
        hidden_factor=np.exp(hidden[:, kind == "UNSEEN"]).astype(np.float32),
        shape=np.where(kind == "NOISE", COUNTS.noise_shape, COUNTS.burst_shape),
    )


def _follow_depth(modelled: FloatArray, rest: FloatArray, depth: IntArray, share: FloatArray) -> FloatArray:
    """Give the depth-only genes a fixed share of each cell's other molecules."""
    others = modelled[:, ~depth].sum(axis=1) + rest
    modelled[:, depth] = np.outer(others, share[depth])
    return modelled


def _neighbourhood(tissue: Tissue) -> FloatArray:
    """Share of immune, epithelial and stromal cells around each cell, centred, [C, 3]."""
    xy = np.column_stack([tissue.cells.x, tissue.cells.y])
    tree = cKDTree(xy)
    sigma = TISSUE.neighbourhood_sigma_um
    near = tree.sparse_distance_matrix(tree, 2.5 * sigma, output_type="coo_matrix")
    weight = np.exp(-0.5 * (near.data / sigma) ** 2) * (near.row != near.col)
    groups = np.stack([np.isin(tissue.cells.kind, g) for g in (IMMUNE, EPITHELIAL, STROMAL)], 1)
    total = sparse.csr_array((weight, (near.row, near.col)), shape=(len(xy), len(xy)))
    share = (total @ groups) / np.maximum(total.sum(axis=1), 1e-9)[:, None]
    return np.asarray(share - np.array([0.2, 0.4, 0.3]))


def _macro(tissue: Tissue) -> FloatArray:
    """Zone, nearness of muscle and of immune aggregates on the scale of a region, [C, 3]."""
    sigma = TISSUE.region_sigma_um / tissue.step_um
    fields = [
        tissue.zone - 0.5,
        ndimage.gaussian_filter((tissue.region == Region.MUSCLE).astype(np.float32), sigma) - 0.3,
        ndimage.gaussian_filter((tissue.region == Region.IMMUNE).astype(np.float32), sigma) - 0.1,
    ]
    return np.stack([tissue.at(field) for field in fields], axis=1)


def _batch_effects(genes: int, slide: str, patient: str, seed: int) -> FloatArray:
    of_patient = stream("simulate", VERSION, "patient", seed, patient).normal(0, 1, genes)
    of_slide = stream("simulate", VERSION, "slide", seed, slide).normal(0, 1, genes)
    return np.asarray(GENES.patient_log_sd * of_patient + GENES.slide_log_sd * of_slide)


def _cell_sizes(tissue: Tissue, slide: str, seed: int) -> FloatArray:
    """Molecules of each cell: type, chance, and the depth of the slide, [C]."""
    rng = stream("simulate", VERSION, "sizes", seed, slide)
    rna = np.array([kind.rna for kind in TYPES])[tissue.cells.kind]
    size = rna * np.exp(rng.normal(0, COUNTS.cell_size_sd, len(rna)))
    area = np.count_nonzero(tissue.region > Region.LUMEN) * tissue.step_um**2
    depth = np.exp(rng.normal(0, COUNTS.slide_depth_sd) - 2 * COUNTS.stripe_mean)
    return np.asarray(size / size.sum() * area * COUNTS.umi_per_um2 * depth)
