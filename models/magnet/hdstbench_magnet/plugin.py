"""MagNet's entry in the registry."""

from hdstbench.plugins.plugin import Cost, ModelPlugin
from hdstbench.plugins.weights import OFFLINE
from hdstbench.torchkit.trainer import TUNED
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.model import MagNet

PLUGIN = ModelPlugin(
    name="magnet",
    kind="model",
    context="block",
    recipes={
        "official": MagNetConfig(),
        "tuned": MagNetConfig(rates=TUNED),
        "common": MagNetConfig(),
        "quick": MagNetConfig(
            encoder=OFFLINE,
            train_encoder=False,
            width=128,
            heads=4,
            depth=1,
            epochs=6,
            batch_size=64,
            epoch_units=6_000,
            optimiser="adamw",
            learning_rate=1e-3,
            weight_decay=1e-2,
            patience=4,
        ),
        "tiny": MagNetConfig(
            encoder="tiny",
            weights="none",
            width=16,
            heads=2,
            depth=1,
            epochs=2,
            batch_size=64,
            optimiser="adamw",
            learning_rate=1e-2,
        ),
    },
    build=MagNet,
    paper="arXiv:2502.21011 (MIDL 2025)",
    licence="Apache-2.0",
    notes=(
        "The network that the paper describes; the released code cannot run and mixes up graph nodes. "
        "Keys of cross-attention are 4 x 4 pooled feature maps, since attention over one key is void; "
        "the graph joins the 8 nearest units of the sampling block, not of a random batch, with "
        "self-loops; spot and region parents follow from coordinates, not from labels; a head a level; "
        "consistency compares predictions of the levels. A level that a task lacks is left out; at 8 and "
        "16 um a block is one region, whose graph then is its own loop. Unlike the released code: heads "
        "start at zero weight and the training mean; rounds of graph attention follow one another, with "
        "their input as a further token, ELU between them; transformer layers normalise first (GELU, "
        "hidden width 2 D), one stack a level; levels are concatenated; one of the square's symmetries a "
        "batch; early stopping on inner validation; loss weights of the paper's text. "
        "quick: width 128, and the unit encoder is frozen too (EfficientNet-Lite0, ImageNet)."
    ),
    proven=(
        "The loss is that of equations 3 to 5, checked against scipy. The released network cannot run as "
        "published, so nothing is shown to equal it here."
    ),
    published=(
        "No: the kidney slides are private, and numbers on colorectal cancer need its slides, a GPU and "
        "another protocol (slides as folds, correlation within a unit)."
    ),
    cost=Cost(parameters=127_209_262, gflop=2.52, memory_mb=6_121, batch=256),
)
