"""The generator's constants, versioned and frozen before any model was run on its output.

Each number has its source behind it; *chosen* marks what no source was found for. Change one and
`VERSION` has to change too (a test holds their hash), since cached cohorts are keyed by it.
"""

from dataclasses import dataclass

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Depth, spread and overdispersion of the counts."""

    mpp: float = 0.2738  # full-resolution pixel of the public HD slides (P1 CRC)
    umi_per_um2: float = 488 / 64  # P2 CRC: mean 488 UMI per 8 um bin (Oliveira et al. 2025)
    slide_depth_sd: float = 0.25  # log; chosen, the CRC slides differ by less than a factor two
    cell_size_sd: float = 0.35  # log; with cell type, diffusion and stripes: median / mean near P2's
    stripe_mean: float = -0.1  # log share that a 2 um row or column catches; chosen
    stripe_sd: float = 0.08  # log; 2 um rows and columns differ in width (bin2cell); size chosen
    cell_sigma_um: float = 3.0  # spread of a cell's molecules: half of a cell's radius of 6 um
    near_sigma_um: float = 3.0  # lateral diffusion, the bulk; chosen (You et al. 2024 show it is there)
    far_sigma_um: float = 20.0  # lateral diffusion, the tail; chosen
    far_share: float = 0.12  # chosen
    burst_shape: float = 3.0  # gamma shape a cell and gene; weak within a type (Zhao et al. 2022); chosen
    noise_shape: float = 0.4  # the same for the pure-noise genes; chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Genes:
    """How many genes of which kind, and how strongly each level acts on a log rate."""

    type_only: int = 300
    neighbourhood: int = 120
    region: int = 120
    mixed: int = 100
    housekeeping: int = 60
    depth_only: int = 30
    image_invisible: int = 40
    pure_noise: int = 30
    rest: int = 2_200  # low background genes without pattern
    raw_only: int = 300  # in the raw matrix alone, like genes outside the probe set
    duplicate_symbols: int = 6
    modelled_share: float = 0.46  # top 800 genes' share of counts: 0.45-0.49 in her2st
    rest_log_sd: float = 0.7  # chosen so that few of them reach the panel
    share_log_sd: float = 0.65  # log sd among the top 800 genes of her2st: 0.62-0.67
    patient_log_sd: float = 0.40  # her2st B4 against C2: 0.57 with sampling noise
    slide_log_sd: float = 0.15  # her2st C2 against C3, C5: 0.14-0.19 with sampling noise
    type_log_fold: float = 1.6  # chosen
    neighbourhood_log_fold: float = 2.2  # a unit of composition; chosen
    region_log_fold: float = 1.4  # chosen
    invisible_log_fold: float = 0.9  # chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissue:
    """Sizes of structures in um."""

    crypt_radius_um: float = 34.0  # colonic crypts are 60-90 um wide (Tipoe & White 1996: order)
    crypt_radius_zone_um: float = 26.0  # added where the zone field is high; chosen
    crypt_gap_um: float = 10.0
    lumen_share: float = 0.42  # of the crypt radius; chosen
    nucleus_spacing_um: float = 6.5  # along the crypt wall; chosen
    immune_radius_um: tuple[float, float] = (35.0, 80.0)
    spacing_um: tuple[float, float, float] = (13.0, 12.0, 7.0)  # stroma, muscle, immune cells; chosen
    neighbourhood_sigma_um: float = 28.0
    region_sigma_um: float = 70.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stain:
    """Optical densities; directions of Ruifrok & Johnston 2001 (haematoxylin, eosin)."""

    haematoxylin: tuple[float, float, float] = (0.650, 0.704, 0.286)
    eosin: tuple[float, float, float] = (0.072, 0.990, 0.105)
    direction_sd: float = 0.03  # a slide; chosen
    strength_sd: float = 0.15  # log, a slide; chosen


COUNTS, GENES, TISSUE, STAIN = Counts(), Genes(), Tissue(), Stain()
