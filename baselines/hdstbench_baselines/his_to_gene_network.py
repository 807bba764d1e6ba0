"""HisToGene's network: a linear layer on pixels, position tables and a transformer over a window."""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from hdstbench.torchkit.official import Checkpoint, Official, Tensors
from hdstbench_baselines.attention import TransformerBlock
from hdstbench_baselines.pixels import ColourScale
from hdstbench_baselines.positions import PositionTables


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes of the network.

    Attributes:
        width: D of the tokens.
        depth: Transformer blocks; 8 in the authors' tutorial, 4 by default in their class.
    """

    width: int = 1024
    depth: int = 8
    heads: int = 16
    head_width: int = 64
    dropout: float = 0.1


class HisToGeneNetwork(nn.Module):
    """A linear layer on pixels, position tables, transformer blocks, a linear head."""

    def __init__(self, plan: Plan, px: int, rows: int, genes: int) -> None:
        super().__init__()
        p = plan
        self.scale = ColourScale()
        self.embed = nn.Linear(3 * px**2, p.width)
        self.places = PositionTables(rows, p.width)
        self.dropout = nn.Dropout(p.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(p.width, p.heads, p.head_width, 2 * p.width, p.dropout) for _ in range(p.depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(p.width), nn.Linear(p.width, genes))

    def forward(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """Predict a window's units together.

        Args:
            pixels: 0 to 255, as `flat_pixels` orders them, [N, 3 S^2].
            positions: Rows of the (x, y) tables, int64 [N, 2].

        Returns:
            [N, G].
        """
        colours = self.scale(pixels.unflatten(1, (-1, 3)), axis=-1)
        tokens = self.dropout(self.embed(colours.flatten(1)) + self.places(positions))[None]
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.head(tokens[0])
        return out


BLOCK = r"vit\.transformer\.layers\.(\d+)\."
OFFICIAL = Official(
    model="HisToGene",
    mark=r"vit\.transformer\.layers\.0\.0\.fn\.to_qkv\.weight",
    rules=(
        (r"patch_embedding\.(.*)", r"embed.\1"),
        (r"([xy])_embed\.weight", r"places.\1.weight"),
        (BLOCK + r"0\.norm\.(.*)", r"blocks.\1.attention_norm.\2"),
        (BLOCK + r"0\.fn\.to_qkv\.(.*)", r"blocks.\1.attention.qkv.\2"),
        (BLOCK + r"0\.fn\.to_out\.0\.(.*)", r"blocks.\1.attention.out.\2"),
        (BLOCK + r"1\.norm\.(.*)", r"blocks.\1.feed_norm.\2"),
        (BLOCK + r"1\.fn\.net\.0\.(.*)", r"blocks.\1.feed.wide.\2"),
        (BLOCK + r"1\.fn\.net\.3\.(.*)", r"blocks.\1.feed.narrow.\2"),
        (r"gene_head\.(.*)", r"head.\1"),
    ),
    anew=(r"head\.1\..*",),
    tables=(r"places\..*",),
    constant=("scale.mean", "scale.std"),
)


def load_official(state_dict: Tensors, *, heads: int = 16) -> HisToGeneNetwork:
    """Make the network of an official checkpoint, of its patch size, tables, depth and genes.

    Args:
        state_dict: Tensors under the authors' names.
        heads: Heads of every attention, which shapes do not tell.

    Raises:
        DataError: If a tensor is missing, extra or of another shape.
    """
    ours = OFFICIAL.need(state_dict)
    plan, px = sizes_of(ours, Plan(heads=heads))
    net = HisToGeneNetwork(plan, px, len(ours["places.x.weight"]), len(ours["head.1.bias"]))
    OFFICIAL.load(net, state_dict)
    return net.eval()


def sizes_of(ours: Checkpoint, like: Plan) -> tuple[Plan, int]:
    """Sizes of the network of a checkpoint, and of its patches; heads and dropout as in `like`."""
    width, inputs = ours["embed.weight"].shape
    plan = replace(
        like,
        width=width,
        depth=sum(name.endswith("attention.qkv.weight") for name in ours),
        head_width=ours["blocks.0.attention.out.weight"].shape[1] // like.heads,
    )
    return plan, round((inputs / 3) ** 0.5)
