"""The released MagNet as a model of the suite: the same parts, and a start from its checkpoints."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn
from typing_extensions import override

from hdstbench.plugins.plugin import RunContext
from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.encoders import read_weights
from hdstbench.torchkit.official import Tensors, for_frozen
from hdstbench_magnet.config import MagNetConfig
from hdstbench_magnet.model import MagNet
from hdstbench_magnet.official import OFFICIAL, joined


class PublishedMagNet(MagNet):
    """MagNet that may start from a state dict of the released network."""

    def __init__(self, config: MagNetConfig) -> None:
        super().__init__(config)
        self.checkpoint: Tensors | None = None

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        super().fit(train, val, self._started(context))

    @override
    def load(self, folder: Path, context: RunContext) -> None:
        super().load(folder, self._started(context))

    def _started(self, context: RunContext) -> RunContext:
        """Take a checkpoint from the weights if it is one; the encoder's own then are the context's."""
        if context.weights is None:
            return context
        tensors = read_weights(context.weights)
        if not OFFICIAL.knows(tensors):
            return context
        self.checkpoint = joined(tensors)
        return for_frozen(context, "MagNet", self.config.encoder, self.config.weights)

    @override
    def build(self, genes: int) -> nn.Module:
        net = super().build(genes)
        if self.checkpoint is not None:
            OFFICIAL.start(net, self.checkpoint)
        return net
