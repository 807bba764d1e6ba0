"""The released MagNet as a model of the suite: the same parts, and a start from its checkpoints."""

from collections.abc import Sequence

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
        if context.weights is not None:
            tensors = read_weights(context.weights)
            if OFFICIAL.knows(tensors):
                self.checkpoint = joined(tensors)
                context = for_frozen(context, "MagNet", self.config.encoder, self.config.weights)
        super().fit(train, val, context)

    @override
    def build(self, genes: int) -> nn.Module:
        net = super().build(genes)
        if self.checkpoint is not None:
            OFFICIAL.start(net, self.checkpoint)
        return net
