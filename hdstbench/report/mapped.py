"""One slide whose maps are drawn, in a report or as figures: what was measured and what is predicted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hdstbench.arrays import FloatArray
from hdstbench.protocol.slide import Slide


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedSlide:
    """Predictions of all prepared units of one slide.

    Attributes:
        slide: Its units, labels included, with the panel that `predictions` have.
        folder: Its prepared folder.
        predictions: By model, [N, G], in the order in which they are shown.
        scores: What the cells that predict it store of its genes: model, gene, pcc, mse and more.
    """

    slide: Slide
    folder: Path
    predictions: Mapping[str, FloatArray]
    scores: pd.DataFrame
