"""Numbers quoted from the MagNet paper's tables. They are never put into one column with measured ones.

Zhu et al., "MagNet: Multi-Level Attention Graph Network for Predicting High-Resolution Spatial
Transcriptomics", MIDL 2025, arXiv 2502.21011, Tables 1 to 4: mean and standard deviation over four folds.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Metric = Literal["mse", "mae", "pcc"]
METRICS: tuple[Metric, ...] = ("mse", "mae", "pcc")


@dataclass(frozen=True, slots=True)
class Score:
    """A mean and its standard deviation; NaN with one value."""

    mean: float
    sd: float

    def __str__(self) -> str:
        spread = f" ± {self.sd:.3f}" if self.sd == self.sd else ""
        return f"{self.mean:.3f}{spread}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One row of one table; `variant` is empty for the full model, `printed` has each score's very digits."""

    table: int
    dataset: str
    resolution: str
    patch_px: int
    model: str
    variant: str
    scores: dict[Metric, Score]
    printed: dict[Metric, str]


@cache
def reported_rows() -> tuple[Reported, ...]:
    """All rows of Tables 1 to 4."""
    text = files("hdstbench.report").joinpath("magnet_paper.csv").read_text(encoding="utf-8")
    return tuple(
        Reported(
            table=int(row["table"]),
            dataset=row["dataset"],
            resolution=row["resolution"],
            patch_px=int(row["patch_px"]),
            model=row["model"],
            variant=row["variant"],
            scores={m: Score(float(row[m]), float(row[f"{m}_sd"])) for m in METRICS},
            printed={m: f"{row[m]} ± {row[f'{m}_sd']}" for m in METRICS},
        )
        for row in csv.DictReader(text.splitlines())
    )


def first_table(dataset: str, resolution: str) -> list[Reported]:
    """The rows of Table 1 of one data set at one resolution."""
    rows = reported_rows()
    return [r for r in rows if (r.table, r.dataset, r.resolution) == (1, dataset, resolution)]
