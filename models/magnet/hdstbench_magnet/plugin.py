"""MagNet's entries in the registry: as the paper means it, with another correlation, as it was released."""

from dataclasses import replace

from hdstbench.plugins.plugin import Cost, ModelPlugin
from hdstbench.plugins.weights import OFFLINE
from hdstbench.torchkit.trainer import TUNED
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.model import MagNet
from hdstbench_magnet.official import PUBLISHED
from hdstbench_magnet.published import PublishedMagNet

PAPER, LICENCE = "arXiv:2502.21011 (MIDL 2025)", "Apache-2.0"


def _recipes(official: MagNetConfig) -> dict[str, MagNetConfig]:
    """All recipes of one form; the smaller ones shrink the network and freeze the unit encoder too."""
    intended = MagNetConfig()
    common = replace(
        official,
        epochs=intended.epochs,
        learning_rate=intended.learning_rate,
        weight_decay=intended.weight_decay,
        schedule=intended.schedule,
        patience=intended.patience,
    )
    quick = replace(
        official,
        encoder=OFFLINE,
        train_encoder=False,
        width=128,
        heads=4,
        depth=1,
        epochs=4,
        batch_size=64,
        epoch_units=12_000,
        validation_units=3_000,
        optimiser="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        schedule="cosine",
        patience=4,
    )
    tiny = replace(
        quick,
        encoder="tiny",
        weights="none",
        train_encoder=True,
        width=16,
        heads=2,
        epochs=2,
        epoch_units=0,
        validation_units=0,
        learning_rate=1e-2,
        weight_decay=1e-4,
        patience=10,
    )
    return {
        "official": official,
        "tuned": replace(official, rates=TUNED),
        "common": common,
        "quick": quick,
        "tiny": tiny,
    }


NOTES = (
    "The network that the paper describes; the released code cannot run and mixes up graph nodes (magnet- "
    "published). Keys of cross-attention are 4 x 4 pooled feature maps, since attention over one key is "
    "void; the graph joins the 8 nearest units of the sampling block, not of a random batch, with self- "
    "loops; spot and region parents follow from coordinates, not from labels; a head a level; consistency "
    "compares predictions of the levels. A level that a task lacks is left out; at 8 and 16 um a block is "
    "one region, whose graph then is its own loop; native spots are blocks of their own. Where the paper "
    "is silent: rounds of graph attention follow one another, with their input as a further token, ELU "
    "between them; the transformer over the rounds is the released one (shared by the levels, normalised "
    "last, ReLU, hidden width 4 D), its places drawn with sd 0.02; features are normalised and projected "
    "by a trained layer a level; heads start at zero weight and the training mean; one of the square's "
    "symmetries a batch; early stopping on inner validation. Every such point is an option of the "
    "configuration. quick: width 128, one transformer layer, and the unit encoder is frozen too "
    "(EfficientNet-Lite0, ImageNet)."
)

PLUGIN = ModelPlugin(
    name="magnet",
    kind="model",
    context="block",
    recipes=_recipes(MagNetConfig()),
    build=MagNet,
    paper=PAPER,
    licence=LICENCE,
    notes=NOTES,
    proven=(
        "The loss is that of equations 3 to 5, checked against scipy. Set to the released code's choices, "
        "the same parts compute the released network (magnet-published)."
    ),
    published=(
        "No: the kidney slides are private, and numbers on colorectal cancer need its slides, a GPU and "
        "another protocol (`--protocol magnet-paper`); docs/magnet-reproduction.md sets them side by side."
    ),
    cost=Cost(parameters=89_390_894, gflop=2.63, memory_mb=6_052, batch=256),
)

GENE_PCC = replace(
    PLUGIN,
    name="magnet-gene-pcc",
    kind="variant",
    recipes=_recipes(MagNetConfig(correlation="gene")),
    notes=(
        "magnet, with correlations of the loss taken over the units of a batch, gene by gene, instead of "
        "over the genes of a unit: what the suite's headline measures. A level with one node in a batch has "
        "no such correlation. Everything else is as in magnet: " + NOTES
    ),
    proven="Nothing of it is in the paper; the loss is checked against scipy.",
    published="No: it is the suite's own variant, of which nothing was published.",
)

PUBLISHED_PLUGIN = ModelPlugin(
    name="magnet-published",
    kind="variant",
    context="slide",
    recipes=_recipes(PUBLISHED),
    build=PublishedMagNet,
    paper=PAPER,
    licence=LICENCE,
    notes=(
        "The released network, bit for bit where it computes something, as a warning: it mixes the rounds "
        "of three nodes where it means those of one, so that a unit is predicted from others; its "
        "attention has one key and no effect; its graph joins 256 units drawn at random from the slide, "
        "without the unit itself, and so do predictions, in an order that is drawn once here; coarse "
        "features stand in a basis that is drawn anew for every slide and level; the unit encoder starts "
        "from random weights. Loss weights, momentum, schedule and the README's rate of 5e-3 are the "
        "script's. Parts without effect are left out (an LSTM, two heads, the attention of a round). "
        "Unlike the script: spots and regions are those above the prepared units, parents follow from "
        "coordinates instead of labels, the rate falls every step instead of every slide, the weights are "
        "those of the best epoch on inner validation. quick: width 128, one transformer layer, AdamW, and "
        "the unit encoder is frozen and pretrained (EfficientNet-Lite0, ImageNet)."
    ),
    proven=(
        "Outputs, every stage, all gradients, the loss and the graphs equal those of the authors' modules at "
        "small size for the same state dict. Checkpoints load by name, none missing or extra."
    ),
    cost=Cost(parameters=81_490_234, gflop=2.42, memory_mb=5_762, batch=256),
    exceptions={
        "parts": "its graph joins units drawn at random, so that a prediction depends on its batch mates",
        "order": "as for parts: the order of units is the order of the graph's nodes, which it mixes up",
        "signal": "a unit is predicted from the rounds of other units; it can learn the mean profile alone",
    },
    published=(
        "No, and none can come of it: the released script passes ten tensors to a network that takes eight. "
        "No checkpoint was released."
    ),
)
