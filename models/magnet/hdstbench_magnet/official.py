"""The released network: its tensors under our names, and our network at its sizes."""

import re
from dataclasses import replace

import torch
from torch import Tensor

from hdstbench.torchkit.official import Official, Tensors
from hdstbench_magnet.config import CODE_WEIGHTS, MagNetConfig
from hdstbench_magnet.network import MagNetwork

LEVEL = {"512": "region", "224": "spot"}

PUBLISHED = MagNetConfig(
    pretrained_unit=False,
    turns="patch",
    keys="single",
    basis="random",
    fusion="sum",
    sampler="random",
    self_loops=False,
    graph_attention="mean",
    rounds="parallel",
    round_zero=False,
    tokens="mixed",
    place_sd=1.0,
    share_head=True,
    start_at_mean=False,
    loss=CODE_WEIGHTS,
    consistency="truth",
    epochs=51,
    learning_rate=5e-3,
    weight_decay=0.0,
    schedule="poly",
    patience=0,
)
"""What the released script does; the rate is that of its README, its option's default being 1.5e-5."""

OFFICIAL = Official(
    model="MagNet",
    mark=r"gat_layer_112\.0\.weight",
    rules=(
        (r"encoder\.fc\.(.*)", r"project.unit.\1"),
        (r"encoder\.(.*)", r"encoder.net.\1"),
        *(
            rule
            for px, level in LEVEL.items()
            for rule in (
                (rf"cross_attention_{px}\.in_proj_(.*)", rf"body.attend.{level}.attention.in_proj_\1"),
                (rf"cross_attention_{px}\.out_proj\.(.*)", rf"body.attend.{level}.attention.out_proj.\1"),
                (rf"gat_layer_{px}\.(\d+)\.weight", rf"body.rounds.{level}.\1.project.weight"),
            )
        ),
        (r"gat_layer_112\.(\d+)\.weight", r"body.rounds.unit.\1.project.weight"),
        (r"transformer\.positional_encoding", "body.mixer.place"),
        (r"transformer\.transformer_encoder\.(.*)", r"body.mixer.layers.\1"),
        (r"gene_head_250\.(.*)", r"body.heads.all.\1"),
    ),
    # the attention of a round is undone by its normalisation; the rest is never called
    unused=(
        r"gat_layer_\d+\.\d+\.att_weight",
        r"transformer\.encoder_layer\..*",
        r"lstm_512\..*",
        r"gene_head_(512|224)\..*",
    ),
    anew=(r"body\.heads\.all\.1\..*",),
    constant=("encoder.mean", "encoder.std"),
)


def joined(tensors: Tensors) -> dict[str, Tensor]:
    """The official tensors, query, key and value layers of each cross-attention stacked as one."""
    parts = re.compile(r"(cross_attention_\d+)\.(query|key|value)_proj\.(weight|bias)")
    out = {name: value for name, value in tensors.items() if not parts.fullmatch(name)}
    for px in LEVEL:
        for kind in ("weight", "bias"):
            names = [f"cross_attention_{px}.{part}_proj.{kind}" for part in ("query", "key", "value")]
            found = [tensors[name] for name in names if name in tensors]
            if len(found) == len(names):
                out[f"cross_attention_{px}.in_proj_{kind}"] = torch.cat(found)
    return out


def load_official(tensors: Tensors, *, heads: int = 8) -> MagNetwork:
    """Make the released network from its state dict, the image encoder left aside.

    Args:
        tensors: The authors' state dict, with or without `encoder.*`.
        heads: Of every attention; no tensor tells.

    Raises:
        DataError: If a tensor is missing, extra or of another shape.
    """
    body = {name: value for name, value in tensors.items() if not name.startswith("encoder.")}
    ours = OFFICIAL.need(joined(body))
    genes, width = ours["body.heads.all.1.weight"].shape
    depth = len({name.split(".")[4] for name in ours if name.startswith("body.mixer.layers.layers.")})
    rounds = len(ours["body.mixer.place"])
    config = replace(PUBLISHED, width=width, heads=heads, depth=depth, graph_depth=rounds)
    net = _Named(MagNetwork(("spot", "region"), genes, config))
    OFFICIAL.load(net, joined(body))
    return net.body


class _Named(torch.nn.Module):
    """The body under the name that it has in the whole module."""

    def __init__(self, body: MagNetwork) -> None:
        super().__init__()
        self.body = body
