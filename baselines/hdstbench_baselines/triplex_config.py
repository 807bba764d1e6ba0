"""What can be chosen about TRIPLEX; defaults are the authors' settings for her2st."""

from dataclasses import dataclass
from typing import Literal

from hdstbench.torchkit.schedule import Schedule
from hdstbench.torchkit.space import SpaceName
from hdstbench.torchkit.trainer import Optimiser, Training
from hdstbench_baselines.triplex_whole import Stack

_FUSION = Stack(depth=1, heads=4, ratio=4, dropout=0.4)
_WHOLE = Stack(depth=5, heads=8, ratio=4, dropout=0.3)
_AROUND = Stack(depth=4, heads=4, ratio=4, dropout=0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriplexConfig(Training):
    """The authors' settings for her2st.

    Attributes:
        encoder: Of patches, tiles and the slide's units; only that of patches is trained.
        train_encoder: Train it; else the patch's features are cached too.
        target_grid: A frozen feature map of a patch is pooled to so many tokens a side; 0 for one token.
        input_px: Side to which patches and tiles are resized; 0 for as they are.
        width: D.
        fusion: Cross-attention of a unit's token of the slide with its patch and its tiles.
        whole: Attention among all prepared units of a slide.
        around: Attention among the tiles around a unit.
        neighbours: What stands for a tile: its own features, or those of the prepared unit that is
            nearest to its centre, if one is within half a tile.
        global_keys: Units of a slide that all others look at; where there are more, so many of them.
        detach_fusion: See `triplex_loss`.
        start_at_mean: Heads start at the training mean, not at random.
    """

    encoder: str = "resnet18"
    weights: str = "pretrained"
    train_encoder: bool = True
    target_grid: int = 4
    input_px: int = 0
    width: int = 512
    fusion: Stack = _FUSION
    whole: Stack = _WHOLE
    around: Stack = _AROUND
    neighbours: Literal["tiles", "units"] = "tiles"
    global_keys: int = 6_000
    detach_fusion: bool = False
    start_at_mean: bool = False
    epochs: int = 200
    batch_size: int = 128
    optimiser: Optimiser = "adam"
    learning_rate: float = 1e-4
    schedule: Schedule = "steps"
    patience: int = 20
    space: SpaceName = "log10"
