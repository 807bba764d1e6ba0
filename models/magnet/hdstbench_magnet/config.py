"""What can be chosen about MagNet: every point on which paper, figure and released code differ.

Defaults follow the paper's text, sections 2 and 3; what the released code does is in `plugin.PUBLISHED`.
"""

from dataclasses import dataclass
from typing import Literal

from hdstbench.torchkit.schedule import Schedule
from hdstbench.torchkit.trainer import Optimiser, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights of the loss; defaults are those of equations 3 to 5 and "Experiment setting"."""

    error: float = 1.0  # of the squared error in equation 3
    unit: float = 0.8  # lambda_b
    spot: float = 0.25  # lambda_s
    region: float = 0.25  # lambda_r
    with_spot: float = 0.1  # lambda_1
    with_region: float = 0.1  # lambda_2
    prediction: float = 1.0  # gamma_1
    consistency: float = 0.25  # gamma_2


CODE_WEIGHTS = LossWeights(
    error=0.75, unit=0.1, spot=0.05, region=0.05, with_spot=0.05, with_region=0.05, consistency=1.0
)
"""Weights of the released training script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MagNetConfig(Training):
    """Configuration of one MagNet.

    Attributes:
        encoder: Image encoder of all levels; those of spot and region are frozen.
        weights: Its weights.
        train_encoder: Train the encoder of the unit level, as the paper does; else its features
            are cached too.
        pretrained_unit: Whether the unit's encoder starts from the weights, as in the paper, or anew.
        checkpoint: Compute the unit encoder's activations again in the backward pass instead of keeping
            them, so that a large encoder trains on as large a batch, hence as large a graph.
        input_px: Side to which a unit's patch is resized; 0 for as it is.
        turns: Whether one symmetry of the square turns a whole batch of training patches, or every
            patch its own, in training and at test, as the released loader has it.
        levels: Coarser levels that are used, of those that the task has.
        width: D, width of everything after the encoders.
        heads: Of every attention.
        keys: A spot's or region's feature map gives key_grid x key_grid keys ("grid"), or one mean
            ("single", the literal reading), over which attention is constant.
        key_grid: Side of that map.
        basis: Coarse features are projected by trained layers, or by a random matrix drawn for each
            slide and level, as the released feature script does.
        fusion: How the levels are joined; the paper's text says concatenation, its figure a sum.
        sampler: A batch is whole blocks of neighbours, or units drawn at random from the slide, among
            which the graph then lies; coarse graphs then hold the whole slide.
        neighbours: k nearest units that a unit is connected to.
        self_loops: Whether a unit is connected to itself.
        graph_attention: Rounds of multi-head graph attention, of the mean over neighbours, or none.
        rounds: Whether each round is fed by the one before, or all by the same nodes.
        graph_depth: Number of rounds.
        round_zero: Whether a node's input is a token beside its rounds.
        tokens: The transformer sees the rounds of one node ("node"), or, by the released code's
            reshape in place of a transposition, of several ("mixed").
        cross_level_tokens: Whether spot and region nodes enter the unit's transformer, as in the figure.
        place_sd: Standard deviation of the transformer's places before training; of the released code 1.
        depth: Transformer layers.
        share_head: One head for all levels, as in the released code, or one each.
        start_at_mean: Heads start at zero weights and the training mean.
        loss: Its weights.
        correlation: The loss correlates over the genes of a unit, as the paper's code, or over the
            units of a batch, gene by gene.
        consistency: Unit predictions agree with those of the coarser levels, or, as in the code, the
            coarser predictions with the units' truth.
    """

    encoder: str = "resnet50"
    weights: str = "pretrained"
    train_encoder: bool = True
    pretrained_unit: bool = True
    checkpoint: bool = False
    input_px: int = 0
    turns: Literal["batch", "patch"] = "batch"
    levels: tuple[Literal["spot", "region"], ...] = ("spot", "region")
    width: int = 1024
    heads: int = 8
    keys: Literal["grid", "single"] = "grid"
    key_grid: int = 4
    basis: Literal["trained", "random"] = "trained"
    fusion: Literal["concat", "sum"] = "concat"
    sampler: Literal["block", "random"] = "block"
    neighbours: int = 8
    self_loops: bool = True
    graph_attention: Literal["gat", "mean", "off"] = "gat"
    rounds: Literal["stacked", "parallel"] = "stacked"
    graph_depth: int = 3
    round_zero: bool = True
    tokens: Literal["node", "mixed"] = "node"
    cross_level_tokens: bool = False
    place_sd: float = 0.02
    depth: int = 3
    share_head: bool = False
    start_at_mean: bool = True
    dropout: float = 0.1
    loss: LossWeights = LossWeights()
    correlation: Literal["unit", "gene"] = "unit"
    consistency: Literal["prediction", "truth"] = "prediction"
    epochs: int = 50
    batch_size: int = 256
    optimiser: Optimiser = "sgd"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    patience: int = 10

    def __post_init__(self) -> None:
        """Refuse what makes no network.

        Raises:
            ValueError: If a number is too small, or options exclude each other.
        """
        least = {"width": 1, "heads": 1, "key_grid": 1, "neighbours": 0, "graph_depth": 1, "batch_size": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                msg = f"{name} = {getattr(self, name)}, wanted at least {low}"
                raise ValueError(msg)
        if self.tokens == "mixed" and self.cross_level_tokens:
            msg = 'tokens = "mixed" reshapes the rounds of all nodes: set cross_level_tokens = false'
            raise ValueError(msg)
        if self.width % self.heads:
            msg = f"width {self.width} is no multiple of {self.heads} heads"
            raise ValueError(msg)

    @property
    def flags(self) -> tuple[str, ...]:
        """What a table has to say of it."""
        return ("batch-mates",) if self.sampler == "random" else ()

    @property
    def token_count(self) -> int:
        """Tokens of a node without those of other levels."""
        if self.graph_attention == "off":
            return 1
        return self.graph_depth + self.round_zero
