"""Measure the spots of an .h5ad, and say which known kind of array they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hdstbench.data.adata import SLACK, said_mpp
from hdstbench.data.h5ad import in_tissue, library, need_mpp, open_h5ad, pitch_px, positions
from hdstbench.errors import DataError

NOMINAL = (2.0, 8.0, 16.0, 50.0, 55.0, 65.0, 100.0, 128.0, 150.0, 200.0)
"""Diameters and distances of spots of known arrays, and of HEST's pseudo-spots, in um."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The spots of one slide.

    Attributes:
        mpp: um a full-resolution pixel.
        pitch_um: Distance of neighbouring spots.
        spot_um: Their diameter; the distance where no diameter is stated.
        stated: Whether the file itself says um a pixel.
    """

    mpp: float
    pitch_um: float
    spot_um: float
    stated: bool = True


def measure(path: Path, mpp: float | None, remedy: str) -> Measured:
    """Measure the spots in tissue of an .h5ad; its counts are not read.

    Args:
        path: The .h5ad.
        mpp: um a pixel, where the file does not say it.
        remedy: What to do where neither does.

    Raises:
        DataError: If the file is damaged, or um a pixel is unknown or stated in two ways.
    """
    adata = open_h5ad(path, backed=True)
    try:
        pitch = pitch_px(positions(adata, path)[in_tissue(adata)], path)
        said, factors = said_mpp(adata, path), library(adata, path).get("scalefactors", {})
    finally:
        adata.file.close()
    if said is None and mpp is None:
        msg = f"{path} does not say how many um a pixel has; {remedy}"
        raise DataError(msg)
    own = None if mpp is None else need_mpp(mpp, f"um a pixel of {path}")
    if said and own and abs(said[0] / own - 1) > SLACK:
        msg = f"{path}: {said[1]} says {said[0]:.4f} um a pixel, you say {own:g}; mend the one that is wrong"
        raise DataError(msg)
    scale = said[0] if said else cast("float", own)
    diameter = float(factors.get("spot_diameter_fullres", 0.0))
    spot = diameter * scale if diameter > 0 else pitch * scale
    return Measured(mpp=scale, pitch_um=pitch * scale, spot_um=spot, stated=said is not None)


def nominal(um: float) -> float:
    """The known size that a measured one is within 5 % of; else its first two digits."""
    best = min(NOMINAL, key=lambda size: abs(um / size - 1))
    return best if abs(um / best - 1) <= SLACK else float(f"{um:.2g}")
