"""Options of the model and its recipes."""

from dataclasses import dataclass

from hdstbench.plugins.weights import OFFLINE
from hdstbench.torchkit.trainer import TUNED, Optimiser, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSpotConfig(Training):
    """Defaults follow the paper, or where it is silent its released settings.

    Attributes:
        encoder: Image encoder of all tiles; it is never trained.
        weights: "pretrained" or "none".
        input_px: Side to which tiles are resized; 0 for as they are.
        sub_tiles: Sub-tiles along the side of a unit's tile.
        around: Tiles along the side of the neighbourhood, the unit's own in the middle; 3 or 5.
        width: Length of the vector of each set.
        members: Networks of each kind: the median of the first kind, the mean of the second counts.
        dropout: Of both kinds.
    """

    epochs: int = 100
    batch_size: int = 1024
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-6
    patience: int = 10
    encoder: str = OFFLINE
    weights: str = "pretrained"
    input_px: int = 0
    sub_tiles: int = 3
    around: int = 3
    width: int = 512
    members: int = 10
    dropout: float = 0.3


RECIPES = {
    "official": DeepSpotConfig(),
    "tuned": DeepSpotConfig(rates=TUNED),
    "common": DeepSpotConfig(
        epochs=50, batch_size=256, optimiser="sgd", learning_rate=1e-4, weight_decay=1e-4, schedule="cosine"
    ),
    "quick": DeepSpotConfig(
        epochs=10,
        epoch_units=3_000,
        validation_units=3_000,
        batch_size=128,
        learning_rate=1e-3,
        patience=0,
        width=64,
        members=2,
        dropout=0.1,
    ),
    "tiny": DeepSpotConfig(
        encoder="tiny",
        weights="none",
        epochs=10,
        batch_size=32,
        learning_rate=1e-2,
        patience=0,
        width=16,
        members=2,
        dropout=0.0,
        sub_tiles=2,
    ),
}
