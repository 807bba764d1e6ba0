"""Simulate one slide and write its folder: counts at 2, 8 and 16 um, positions, images, truth."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hdstbench.arrays import CSR, BoolArray, FloatArray
from hdstbench.rng import stream
from hdstbench.simulate import tenx
from hdstbench.simulate.cells import Region, Tissue
from hdstbench.simulate.constants import COUNTS, VERSION
from hdstbench.simulate.counts import bin_counts, draw, drift_sigmas
from hdstbench.simulate.expression import GeneModel, Rates, Signal, gene_model, rates
from hdstbench.simulate.featureslice import write_feature_slice
from hdstbench.simulate.frame import SQUARE_UM, Frame, place
from hdstbench.simulate.images import HIRES, LOWRES, write_full_image, write_small_images
from hdstbench.simulate.labels import read_labels, tissue_from_labels
from hdstbench.simulate.paint import paint
from hdstbench.simulate.tables import GeneTable, coarsen, coarsen_mask, gene_table
from hdstbench.simulate.tissue import grow

BIN_UM = (2, 8, 16)
FLAT_EVERY, FLAT = 4, 2  # slide 3 of 4 comes as a flat download with a stripped image


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidePlan:
    """One slide of a cohort."""

    name: str
    patient: str
    index: int
    seed: int
    size_mm: float
    signal: Signal
    overdispersion: float
    shift_um: float
    labels: str

    @property
    def flat(self) -> bool:
        """Whether it is written like a public download, else like a run's own folder."""
        return self.index % FLAT_EVERY == FLAT

    @property
    def image(self) -> str:
        """Path of the full-resolution image below the cohort's folder."""
        return f"{self.name}/{self.name}_tissue_image.{'btf' if self.flat else 'tif'}"

    @property
    def outs(self) -> str:
        """Path of the Space Ranger output below the cohort's folder."""
        return self.name if self.flat else f"{self.name}/outs"


@dataclass(frozen=True, slots=True)
class Section:
    """Everything latent of one slide, from which both its image and its counts are made.

    `u_um` and `v_um` [C] are the cells' places in the array frame; a registration error has moved
    them all along the columns.
    """

    plan: SlidePlan
    frame: Frame
    tissue: Tissue
    genes: GeneModel
    table: GeneTable
    rates: Rates
    u_um: FloatArray
    v_um: FloatArray


def write_slide(plan: SlidePlan, folder: Path) -> None:
    """Simulate `plan` and write it below `folder`."""
    section = grow_section(plan)
    (folder / plan.outs).mkdir(parents=True)
    _write_truth(folder / plan.name / "truth.h5", section)
    _write_bins(folder / plan.outs, section)
    rng = stream("simulate", VERSION, "paint", plan.seed, plan.name)
    picture = paint(section.tissue, *section.frame.image_px, rng)
    write_full_image(folder / plan.image, picture, stripped=plan.flat)
    bins = folder / plan.outs / "binned_outputs"
    spatial = [bins / f"square_{size:03d}um" / "spatial" for size in BIN_UM]
    write_small_images([*spatial, folder / plan.outs / "spatial"], picture)


def grow_section(plan: SlidePlan) -> Section:
    """Draw the cells of a slide and what they express."""
    frame = place(plan.size_mm, plan.index)
    rng = stream("simulate", VERSION, "tissue", plan.seed, plan.name)
    if plan.labels:
        size = (frame.width_um, frame.height_um)
        tissue = tissue_from_labels(read_labels(Path(plan.labels)), size, plan.index, rng)
    else:
        tissue = grow(frame.width_um, frame.height_um, rng)
    genes = gene_model(plan.seed, plan.signal)
    u, v = frame.to_array(tissue.cells.x, tissue.cells.y)
    return Section(
        plan=plan,
        frame=frame,
        tissue=tissue,
        genes=genes,
        table=gene_table(genes, plan.seed),
        rates=rates(tissue, genes, plan.name, plan.patient, plan.seed),
        u_um=u + plan.shift_um,
        v_um=v,
    )


def _write_truth(path: Path, section: Section) -> None:
    name = dict(zip(section.table.column.tolist(), section.table.ids, strict=True))
    kinds = np.array(section.genes.kind)
    sigma = [float(np.hypot(COUNTS.cell_sigma_um, s)) for s in drift_sigmas()]
    with h5py.File(path, "w") as file:
        file["u_um"], file["v_um"] = section.u_um, section.v_um
        file.create_dataset("rates", data=section.rates.modelled, compression="gzip", shuffle=True)
        file["rest"] = section.rates.rest
        file["gene_ids"] = np.array([name[i] for i in range(len(kinds))], "S")
        file["unseen"] = np.flatnonzero(kinds == "UNSEEN")
        file["unseen_factor"] = section.rates.hidden_factor
        file["sigma_um"] = np.array(sigma)
        file["weight"] = np.array([1 - COUNTS.far_share, COUNTS.far_share])


def _write_bins(outs: Path, section: Section) -> None:
    plan, squares, table = section.plan, section.frame.squares, section.table
    names = (plan.seed, plan.name)
    cells = (section.u_um, section.v_um)
    molecules = draw(section.rates, section.genes, cells, plan.overdispersion, names)
    counts = bin_counts(molecules, squares, len(table.ids), names)[:, table.column]
    mask = _tissue_mask(section)
    slice_name = f"{plan.name}_feature_slice.h5" if plan.flat else "feature_slice.h5"
    write_feature_slice(outs / slice_name, section.frame, counts, mask, table)
    for bin_um in BIN_UM:
        scale = round(bin_um / SQUARE_UM)
        coarse, _ = coarsen(counts, squares, scale)
        folder = outs / "binned_outputs" / f"square_{bin_um:03d}um"
        _write_bin_folder(folder, section, bin_um, coarse, coarsen_mask(mask, scale))


def _tissue_mask(section: Section) -> BoolArray:
    """Which 2 um squares lie under tissue, [squares, squares]."""
    frame, tissue = section.frame, section.tissue
    centre = (np.arange(frame.squares) + 0.5) * SQUARE_UM
    u, v = np.meshgrid(centre, centre)
    x, y = frame.to_image(u.ravel(), v.ravel())
    row, col = np.floor(y / tissue.step_um).astype(int), np.floor(x / tissue.step_um).astype(int)
    height, width = tissue.region.shape
    ok = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    under = np.zeros(len(x), bool)
    under[ok] = tissue.region[row[ok], col[ok]] > Region.BACKGROUND
    return under.reshape(u.shape)


def _write_bin_folder(folder: Path, section: Section, bin_um: int, counts: CSR, mask: BoolArray) -> None:
    spatial = folder / "spatial"
    spatial.mkdir(parents=True)
    row, col = np.indices(mask.shape)
    x, y = section.frame.to_image((col.ravel() + 0.5) * bin_um, (row.ravel() + 0.5) * bin_um)
    xy_px = np.stack([x, y], axis=1) / COUNTS.mpp
    tenx.write_positions(spatial / "tissue_positions.parquet", bin_um, mask, xy_px)
    tenx.write_scalefactors(spatial / "scalefactors_json.json", bin_um, COUNTS.mpp, HIRES, LOWRES)
    _write_matrices(folder, section, bin_um, counts, mask)


def _write_matrices(folder: Path, section: Section, bin_um: int, counts: CSR, mask: BoolArray) -> None:
    """Raw: every bin with a read, every gene. Filtered: bins in tissue, scrambled, and the probe set."""
    plan, table, side = section.plan, section.table, mask.shape[0]
    raw = np.flatnonzero(np.diff(counts.indptr))
    names = tenx.barcodes(bin_um, *np.divmod(raw, side))
    tenx.write_matrix(folder / tenx.RAW, counts[raw], names, table, plan.name)
    order = stream("simulate", VERSION, "order", plan.seed, plan.name, bin_um)
    kept = order.permutation(np.flatnonzero(mask))
    names = tenx.barcodes(bin_um, *np.divmod(kept, side))
    tenx.write_matrix(
        folder / tenx.FILTERED, counts[kept][:, table.on_target], names, table.probes(), plan.name
    )
