"""TRIPLEX's published checkpoints: the authors' names of tensors as ours."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from hdstbench.torchkit.encoders import Encoder, make_encoder
from hdstbench.torchkit.official import Checkpoint, Official, Tensors
from hdstbench_baselines.triplex_network import Triplex
from hdstbench_baselines.triplex_whole import Stack

_BLOCKS = (
    (r"neighbor_encoder\.layer\.layers\.(\d+)", r"around.blocks.\1"),
    (r"global_encoder\.layer1\.layers\.(0)", "whole.first"),
    (r"global_encoder\.layer2\.layers\.(\d+)", r"whole.rest.\1"),
    (r"fusion_encoder\.fusion_layer\.layers\.(\d+)", r"fusion.blocks.\1"),
)
_PARTS = (
    (r"0\.norm", "attention_norm"),
    (r"0\.fn\.to_(qkv|q|kv)", r"attention.\2"),
    (r"0\.fn\.to_(out)\.0", r"attention.\2"),
    (r"1\.norm", "feed_norm"),
    (r"1\.fn\.net\.0", "feed.wide"),
    (r"1\.fn\.net\.3", "feed.narrow"),
)
_RESNET = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4"}

OFFICIAL = Official(
    model="TRIPLEX",
    mark=r"global_encoder\.pos_layer\.proj1\.weight",
    rules=(
        *((rf"target_encoder\.{i}\.(.*)", rf"encoder.net.{name}.\1") for i, name in _RESNET.items()),
        (r"neighbor_encoder\.layer\.layers\.(\d+)\.0\.fn\.attention_biases", r"around.bias.\1"),
        *(
            (rf"{block}\.{part}\.(?P<rest>weight|bias)", rf"{our_block}.{our_part}.\g<rest>")
            for block, our_block in _BLOCKS
            for part, our_part in _PARTS
        ),
        (r"global_encoder\.pos_layer\.proj1\.(.*)", r"whole.position.conv.\1"),
        (r"neighbor_encoder\.norm\.(.*)", r"around.norm.\1"),
        (r"global_encoder\.norm\.(.*)", r"whole.norm.\1"),
        (r"fusion_encoder\.norm\.(.*)", r"fusion.norm.\1"),
        (r"fc_target\.(.*)", r"head_target.\1"),
        (r"fc_neighbor\.(.*)", r"head_around.\1"),
        (r"fc_global\.(.*)", r"head_whole.\1"),
        (r"fc\.(.*)", r"head_fused.\1"),
    ),
    constant=("encoder.mean", "encoder.std"),
    anew=(r"head_\w+\..*",),
)


def load_official(state_dict: Tensors, heads: tuple[int, int, int] = (4, 8, 4)) -> Triplex:
    """Make the network of an official checkpoint of the CVPR release, of any size.

    Args:
        state_dict: The authors' tensors.
        heads: Of fusion, global and neighbour attention; the default is that of her2st.

    Raises:
        DataError: If a tensor is missing, extra or of another shape.
    """
    ours = OFFICIAL.need(state_dict)
    genes, width = ours["head_fused.weight"].shape
    stacks = stacks_of(ours, [Stack(depth=1, heads=h, ratio=1, dropout=0.0) for h in heads])
    encoder = _sized(make_encoder("resnet18", None), ours, width)
    kernel = ours["whole.position.conv.weight"].shape[-1]
    net = Triplex(encoder, encoder.width, width, genes, stacks, kernel=kernel)
    OFFICIAL.load(net, state_dict)
    return net.eval()


def stacks_of(ours: Checkpoint, like: Sequence[Stack]) -> tuple[Stack, Stack, Stack]:
    """Depths and ratios of fusion, whole and around in a checkpoint; heads and dropout as in `like`."""
    width = ours["head_fused.weight"].shape[1]
    depths = (_count(ours, "fusion.blocks"), 1 + _count(ours, "whole.rest"), _count(ours, "around.blocks"))
    kinds = ("fusion.blocks.0", "whole.first", "around.blocks.0")
    ratios = (len(ours[f"{kind}.feed.wide.weight"]) // width for kind in kinds)
    fusion, whole, around = (
        replace(stack, depth=depth, ratio=ratio)
        for stack, depth, ratio in zip(like, depths, ratios, strict=True)
    )
    return fusion, whole, around


def _count(tensors: Tensors, name: str) -> int:
    found = {match[1] for key in tensors if (match := re.match(rf"{re.escape(name)}\.(\d+)\.", key))}
    return len(found)


def _sized(encoder: Encoder, tensors: Tensors, width: int) -> Encoder:
    """Give the tensors of an encoder the shapes that a checkpoint has; their content is to be loaded."""
    for name, own in encoder.net.state_dict().items():
        wanted = tensors.get(f"encoder.net.{name}", own)
        if wanted.shape != own.shape:
            module, _, leaf = name.rpartition(".")
            parent, fresh = encoder.net.get_submodule(module), torch.empty_like(wanted)
            is_buffer = leaf in dict(parent.named_buffers(recurse=False))
            setattr(parent, leaf, fresh if is_buffer else nn.Parameter(fresh))
    encoder.width = width
    return encoder
