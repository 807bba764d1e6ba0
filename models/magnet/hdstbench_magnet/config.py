"""What can be chosen about MagNet; defaults follow the paper, sections 2 and 3."""

from dataclasses import dataclass
from typing import Literal

from hdstbench.torchkit.schedule import Schedule
from hdstbench.torchkit.trainer import Optimiser, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights of the paper's loss (equations 3 to 5 and "Experiment setting")."""

    unit: float = 0.8  # lambda_b
    spot: float = 0.25  # lambda_s
    region: float = 0.25  # lambda_r
    with_spot: float = 0.1  # lambda_1
    with_region: float = 0.1  # lambda_2
    prediction: float = 1.0  # gamma_1
    consistency: float = 0.25  # gamma_2


@dataclass(frozen=True, slots=True, kw_only=True)
class MagNetConfig(Training):
    """Configuration of one MagNet.

    Attributes:
        encoder: Image encoder of all levels; those of spot and region are frozen.
        weights: Its weights.
        train_encoder: Train the encoder of the unit level, as the paper does; else its features
            are cached too.
        input_px: Side to which a unit's patch is resized; 0 for as it is.
        width: D, width of everything after the encoders.
        heads: Of every attention.
        rounds: Of graph attention.
        neighbours: k nearest units of the block that a unit is connected to, besides itself.
        key_grid: A spot's or region's feature map is pooled to key_grid x key_grid keys. With one
            key attention would be a constant.
        fusion: How the levels are joined; the paper's text says concatenation, its figure a sum.
        depth: Transformer layers over the rounds of one node.
    """

    encoder: str = "resnet50"
    weights: str = "pretrained"
    train_encoder: bool = True
    input_px: int = 0
    width: int = 1024
    heads: int = 8
    rounds: int = 3
    neighbours: int = 8
    key_grid: int = 4
    fusion: Literal["concat", "sum"] = "concat"
    depth: int = 3
    dropout: float = 0.1
    loss: LossWeights = LossWeights()
    epochs: int = 50
    batch_size: int = 256
    optimiser: Optimiser = "sgd"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    patience: int = 10
