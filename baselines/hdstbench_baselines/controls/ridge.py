"""Ridge regression on frozen image features, and the same on labels that were shuffled.

A model of this field that does not beat ridge has not shown that its training is worth it; one that
does not beat shuffled labels has learnt nothing about places.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from hdstbench.arrays import FloatArray
from hdstbench.plugins.plugin import ModelPlugin
from hdstbench.plugins.weights import OFFLINE
from hdstbench.protocol.slide import Slide
from hdstbench.rng import stream
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench_baselines.controls.linear import LinearModel, Table, table

PAPER = "Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634; as a probe of encoders: HEST-1k"
PENALTY = (
    "One penalty for all genes, chosen on inner validation blocks by squared error; then refitted on "
    "training and validation units together, which networks with early stopping never do. Features are "
    "standardised on training units, but one that hardly varies there is not enlarged to full size."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RidgeConfig:
    """Defaults: the ImageNet encoder that installs from the package index, one patch a unit.

    With `shared` the units of a block share one pass of the encoder over their pixels: some ten times faster
    at 8 um, with other features, which then depend on the block.
    """

    encoder: str = OFFLINE
    weights: str = "pretrained"
    input_px: int = 0
    shuffle: bool = False
    shared: bool = False

    def __post_init__(self) -> None:
        """Refuse what excludes each other.

        Raises:
            ValueError: If patches are both resized and seen in one pass with their neighbours.
        """
        if self.shared and self.input_px:
            msg = f"shared = true takes patches as they are: leave input_px = {self.input_px} out"
            raise ValueError(msg)


class Ridge(LinearModel):
    """Predict each gene linearly from the features of the unit's patch."""

    def __init__(self, config: RidgeConfig) -> None:
        super().__init__()
        self.config = config

    @override
    def features(self, slides: Sequence[Slide]) -> list[Table]:
        c = self.config
        spec = FeatureSpec(encoder=c.encoder, level="unit", input_px=c.input_px, shared=c.shared)
        return [table(values) for values in frozen_features(slides, spec, self.context)]

    @override
    def targets(self, slides: Sequence[Slide]) -> list[FloatArray]:
        targets = super().targets(slides)
        if self.config.shuffle:
            for i, slide in enumerate(slides):
                rng = stream("shuffle", slide.id, self.context.seed)
                targets[i] = rng.permuted(targets[i], axis=0)
        return targets


_QUICK = RidgeConfig()
_TINY = RidgeConfig(encoder="tiny", weights="none")
_RECIPES = {"official": _QUICK, "tuned": _QUICK, "common": _QUICK, "quick": _QUICK, "tiny": _TINY}

PLUGIN = ModelPlugin(
    name="ridge",
    kind="control",
    context="unit",
    recipes=_RECIPES,
    build=Ridge,
    paper=PAPER,
    licence="Apache-2.0",
    notes=PENALTY,
)

SHUFFLED = replace(
    PLUGIN,
    name="shuffled-ridge",
    recipes={name: replace(config, shuffle=True) for name, config in _RECIPES.items()},
    notes=(
        "Ridge on labels permuted among the units of each slide, every gene on its own, so that luck "
        "averages out over genes. What is left is what differs between whole slides, such as stain and depth."
    ),
    exceptions={"signal": "it is fitted on labels that were shuffled"},
)
