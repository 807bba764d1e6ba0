"""Hist2ST's network: convolutions, a transformer and a graph over the units of a window."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from hdstbench.torchkit.official import Checkpoint, Official, Tensors
from hdstbench_baselines.attention import TransformerBlock
from hdstbench_baselines.pixels import ColourScale
from hdstbench_baselines.positions import PositionTables
from hdstbench_baselines.zinb import to_dispersion, to_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes of the network; the defaults are the authors' at patches of 112 px.

    Attributes:
        stem: Side and stride of the first convolution.
        map_side: Side of the map that it makes of a patch.
        channels: Channels of the map; an eighth as many make the token.
        kernel: Side of the convolutions within a channel.
        mixers: ConvMixer blocks.
        depth: Transformer blocks.
        rounds: Graph layers.
        counts: Whether there are heads for the likelihood of counts.
        distils: Whether there is a net that weighs the copies of self-distillation.
    """

    stem: int = 7
    map_side: int = 16
    channels: int = 32
    kernel: int = 5
    mixers: int = 2
    depth: int = 8
    rounds: int = 4
    heads: int = 16
    head_width: int = 64
    dropout: float = 0.2
    counts: bool = True
    distils: bool = True

    @property
    def width(self) -> int:
        """D: the map, flat."""
        return self.map_side**2 * (self.channels // 8)


class Counts(NamedTuple):
    """Parameters of the counts' distribution, each [N, G]."""

    mean: Tensor
    dispersion: Tensor
    dropout: Tensor


class ConvMixer(nn.Module):
    """Convolutions within channels, added to what came in; then one across channels."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        within = [
            layer
            for _ in range(2)
            for layer in (
                nn.Conv2d(channels, channels, kernel, groups=channels, padding="same"),
                nn.BatchNorm2d(channels),
                nn.GELU(),
            )
        ]
        self.within = nn.Sequential(*within)
        self.across = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.GELU(), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Transform maps, [N, C, M, M] -> [N, C, M, M]."""
        out: Tensor = self.across(self.within(maps) + maps)
        return out


class GraphLayer(nn.Module):
    """Mean over a unit's neighbours, through a matrix and ReLU, brought to length one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width, bias=False)
        nn.init.xavier_uniform_(self.mix.weight)

    def forward(self, hidden: Tensor, mean_over: Tensor) -> Tensor:
        """Update units, [N, D] and [N, N] -> [N, D]."""
        return functional.normalize(functional.relu(self.mix(mean_over @ hidden)), dim=1)


class Hist2STNetwork(nn.Module):
    """Encode a window's units together; heads read each unit's state."""

    def __init__(self, plan: Plan, rows: int, genes: int) -> None:
        super().__init__()
        p, width = plan, plan.width
        self.scale = ColourScale()
        self.stem = nn.Conv2d(3, p.channels, p.stem, stride=p.stem)
        self.dropout = nn.Dropout(p.dropout)
        self.mixers = nn.Sequential(*(ConvMixer(p.channels, p.kernel) for _ in range(p.mixers)))
        self.down = nn.Conv2d(p.channels, p.channels // 8, 1)
        self.places = PositionTables(rows, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, p.heads, p.head_width, width, p.dropout) for _ in range(p.depth)
        )
        self.graph = nn.ModuleList(GraphLayer(width) for _ in range(p.rounds))
        self.memory = nn.LSTM(width, width, 2)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, genes))
        names = Counts._fields if p.counts else ()
        self.counts = nn.ModuleDict({name: nn.Linear(width, genes) for name in names})
        self.trust = (
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)) if p.distils else None
        )

    def encode(self, patches: Tensor, positions: Tensor, neighbours: Tensor) -> Tensor:
        """Encode the units of a window.

        Args:
            patches: 0 to 255, the image's x before its y, [N, 3, S, S] with S = map_side x stem.
            positions: Rows of the (x, y) tables, int64 [N, 2].
            neighbours: 1 where the column's unit is a neighbour of the row's, [N, N].

        Returns:
            [N, D].
        """
        maps = self.mixers(self.dropout(self.stem(self.scale(patches, axis=1))))
        tokens = rearrange(self.down(maps), "n c x y -> n (c x y)") + self.places(positions)
        tokens = tokens[None]
        for block in self.blocks:
            tokens = block(tokens)
        hidden, mean_over, steps = tokens[0], row_means(neighbours), []
        for layer in self.graph:
            hidden = layer(hidden, mean_over)
            steps.append(hidden)
        out: Tensor = self.memory(torch.stack(steps))[0].mean(dim=0)
        return out

    def forward(self, patches: Tensor, positions: Tensor, neighbours: Tensor) -> Tensor:
        """Predict the units of a window, [N, G]; inputs as in `encode`."""
        out: Tensor = self.head(self.encode(patches, positions, neighbours))
        return out

    def expected_counts(self, hidden: Tensor) -> Counts:
        """Parameters of the counts' distribution from states, [N, D] -> three of [N, G]."""
        return Counts(
            to_mean(self.counts["mean"](hidden)),
            to_dispersion(self.counts["dispersion"](hidden)),
            torch.sigmoid(self.counts["dropout"](hidden).float()),
        )


def row_means(neighbours: Tensor) -> Tensor:
    """Divide each row by its sum, [N, N]; a unit without neighbours is its own.

    The authors divide by zero there, and the NaN of one unit reaches all units of the slide.
    """
    degree = neighbours.sum(dim=1, keepdim=True)
    alone = (degree == 0).to(neighbours.dtype)
    return (neighbours + torch.diag_embed(alone[:, 0])) / (degree + alone)


LAYER = r"vit\.transformer\."
OFFICIAL = Official(
    model="Hist2ST",
    mark=LAYER + r"jknet\.0\.weight_ih_l0",
    rules=(
        (r"patch_embedding\.(.*)", r"stem.\1"),
        (r"([xy])_embed\.weight", r"places.\1.weight"),
        (LAYER + r"layer1\.(\d+)\.dw\.(.*)", r"mixers.\1.within.\2"),
        (LAYER + r"layer1\.(\d+)\.pw\.(.*)", r"mixers.\1.across.\2"),
        (LAYER + r"down\.0\.(.*)", r"down.\1"),
        (LAYER + r"layer2\.(\d+)\.attn\.norm\.(.*)", r"blocks.\1.attention_norm.\2"),
        (LAYER + r"layer2\.(\d+)\.attn\.fn\.to_qkv\.(.*)", r"blocks.\1.attention.qkv.\2"),
        (LAYER + r"layer2\.(\d+)\.attn\.fn\.to_out\.0\.(.*)", r"blocks.\1.attention.out.\2"),
        (LAYER + r"layer2\.(\d+)\.ff\.norm\.(.*)", r"blocks.\1.feed_norm.\2"),
        (LAYER + r"layer2\.(\d+)\.ff\.fn\.net\.0\.(.*)", r"blocks.\1.feed.wide.\2"),
        (LAYER + r"layer2\.(\d+)\.ff\.fn\.net\.3\.(.*)", r"blocks.\1.feed.narrow.\2"),
        (LAYER + r"layer3\.(\d+)\.weight", r"graph.\1.mix.weight"),
        (LAYER + r"jknet\.0\.(.*)", r"memory.\1"),
        (r"gene_head\.(.*)", r"head.\1"),
        (r"mean\.0\.(.*)", r"counts.mean.\1"),
        (r"disp\.0\.(.*)", r"counts.dispersion.\1"),
        (r"pi\.0\.(.*)", r"counts.dropout.\1"),
        (r"coef\.(.*)", r"trust.\1"),
    ),
    anew=(r"head\.1\..*", r"counts\..*"),
    spare=(r"trust\..*",),
    tables=(r"places\..*",),
    constant=("scale.mean", "scale.std"),
)


def load_official(state_dict: Tensors, *, heads: int = 16) -> Hist2STNetwork:
    """Make the network of an official checkpoint, of its sizes, tables, genes and optional heads.

    Args:
        state_dict: Tensors under the authors' names.
        heads: Heads of every attention, which shapes do not tell.

    Raises:
        DataError: If a tensor is missing, extra or of another shape.
    """
    ours = OFFICIAL.need(state_dict)
    plan = plan_of(ours, Plan(heads=heads))
    net = Hist2STNetwork(plan, len(ours["places.x.weight"]), len(ours["head.1.bias"]))
    OFFICIAL.load(net, state_dict)
    return net.eval()


def plan_of(ours: Checkpoint, like: Plan) -> Plan:
    """Sizes of the network of a checkpoint; heads and dropout as in `like`."""
    width = ours["places.x.weight"].shape[1]
    channels, _, stem, _ = ours["stem.weight"].shape
    return replace(
        like,
        stem=stem,
        map_side=round((width / len(ours["down.bias"])) ** 0.5),
        channels=channels,
        kernel=ours["mixers.0.within.0.weight"].shape[-1],
        mixers=sum(name.endswith("across.0.weight") for name in ours),
        depth=sum(name.endswith("attention.qkv.weight") for name in ours),
        rounds=sum(name.startswith("graph.") for name in ours),
        head_width=ours["blocks.0.attention.out.weight"].shape[1] // like.heads,
        counts="counts.mean.bias" in ours,
        distils="trust.0.bias" in ours,
    )
