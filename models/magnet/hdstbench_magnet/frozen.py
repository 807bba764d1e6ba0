"""Features of the levels whose encoder is frozen: cached on the disk, read once a slide."""

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.rng import stream
from hdstbench.torchkit.features import FeatureSpec, frozen_features
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.network import UNIT


class FrozenLevels:
    """Cached features of all prepared units of a level, by slide."""

    def __init__(self, config: MagNetConfig) -> None:
        self.config = config
        self.read: dict[tuple[str, str], FloatArray] = {}

    def __call__(self, slide: Slide, level: str, context: RunContext) -> FloatArray:
        """Features of a level's units of this view: of units [N, E], of coarser ones [M, K, E].

        With a random basis coarse features are [M, 1, D].
        """
        key = (slide.key, level)
        if key not in self.read:
            self.read[key] = self._features(slide, level, context)
        return self.read[key][slide.rows(level)]

    def _features(self, slide: Slide, level: str, context: RunContext) -> FloatArray:
        c = self.config
        single = level == UNIT or c.keys == "single"
        spec = FeatureSpec(
            encoder=c.encoder,
            level=level,
            input_px=c.input_px if level == UNIT else 0,
            grid=0 if single else c.key_grid,
        )
        found = frozen_features([slide.whole()], spec, context)[0]
        if level == UNIT:
            return found
        keys = found[:, None] if single else found
        if c.basis == "trained":
            return keys
        basis, shift = self._basis(slide, level, keys.shape[-1], context)
        return keys @ basis + shift

    def _basis(
        self, slide: Slide, level: str, width: int, context: RunContext
    ) -> tuple[FloatArray, FloatArray]:
        """The released script's layer, which nobody trains and every slide draws anew, [E, D] and [D]."""
        bound = width**-0.5
        rng = stream("magnet-basis", context.seed, slide.id, level)
        basis = rng.uniform(-bound, bound, (width, self.config.width))
        return basis.astype(np.float32), rng.uniform(-bound, bound, self.config.width).astype(np.float32)
