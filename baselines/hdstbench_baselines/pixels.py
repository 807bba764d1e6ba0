"""Pixels as HisToGene and Hist2ST take them: 0 to 255, in the order of their authors."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from hdstbench.protocol.slide import Slide
from hdstbench.torchkit.batch import to_tensor

STATISTICS_UNITS = 384


def flat_pixels(patches: Tensor) -> Tensor:
    """Flatten patches, x slowest and colour fastest, [N, 3, y, x] -> [N, 3 S^2]: HisToGene's order."""
    return rearrange(patches, "n c y x -> n (x y c)")


def x_first(patches: Tensor) -> Tensor:
    """Swap the image axes, [N, 3, y, x] -> [N, 3, x, y]: Hist2ST's order."""
    return patches.transpose(-1, -2)


class ColourScale(nn.Module):
    """Takes a mean from each colour and divides by a deviation; at first it changes nothing."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))

    def forward(self, pixels: Tensor, axis: int) -> Tensor:
        """Scale pixels whose colours stand along an axis; float of the same shape."""
        shape = [3 if i == axis % pixels.ndim else 1 for i in range(pixels.ndim)]
        return (pixels.float() - self.mean.view(shape)) / self.std.view(shape)

    def fit(self, slides: Sequence[Slide], px: int) -> None:
        """Standardise as some patches of these slides, resized to px, need it."""
        share = -(-STATISTICS_UNITS // len(slides))
        parts = []
        for slide in slides:
            index = np.unique(np.linspace(0, len(slide) - 1, share).astype(np.int64))
            parts.append(to_tensor(slide.patches("unit", index), "cpu", px).float())
        pixels = torch.cat(parts)
        self.mean.copy_(pixels.mean(dim=(0, 2, 3)))
        self.std.copy_(pixels.std(dim=(0, 2, 3)).clamp(min=1))


def start_head(head: nn.Sequential, mean: Tensor) -> None:
    """Let a head that ends in a linear layer predict some mean [G] at first."""
    last = head[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(mean)
