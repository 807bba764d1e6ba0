"""The authors' checkpoints of EGN: their names as ours, and the sizes that their tensors tell."""

import math

from hdstbench.torchkit.official import Checkpoint, Official, Tensors
from hdstbench_baselines.egn_network import EGNetwork, EGNShape

_BLOCK = r"transformer\.layers\.(\d+)"
OFFICIAL = Official(
    model="EGN",
    mark=r"transformer\.encoder\.proe\.weight",
    rules=(
        ("pos_embedding", "positions"),
        (r"to_patch_embedding\.1\.(.*)", r"embed.\1"),
        (r"transformer\.encoder\.proq\.(.*)", r"projector.query.\1"),
        (r"transformer\.encoder\.proe\.(.*)", r"projector.exemplar.\1"),
        (r"transformer\.encoder\.to_v\.(.*)", r"projector.value.\1"),
        (r"transformer\.encoder\.layers\.(\d+)\.norm\.(.*)", r"projector.layers.\1.norm.\2"),
        (r"transformer\.encoder\.layers\.(\d+)\.fn\.net\.0\.(.*)", r"projector.layers.\1.feed.wide.\2"),
        (r"transformer\.encoder\.layers\.(\d+)\.fn\.net\.3\.(.*)", r"projector.layers.\1.feed.narrow.\2"),
        (_BLOCK + r"\.0\.norm\.(.*)", r"blocks.\1.attention_norm.\2"),
        (_BLOCK + r"\.0\.fn\.to_qkv\.(.*)", r"blocks.\1.attention.qkv.\2"),
        (_BLOCK + r"\.0\.fn\.to_out\.0\.(.*)", r"blocks.\1.attention.out.\2"),
        (_BLOCK + r"\.1\.update\.query\.(.*)", r"blocks.\1.exemplars.gates.\2"),
        (_BLOCK + r"\.1\.update\.value\.(.*)", r"blocks.\1.exemplars.value.\2"),
        (_BLOCK + r"\.1\.update\.norm\.(.*)", r"blocks.\1.exemplars.exemplar_norm.\2"),
        (_BLOCK + r"\.1\.to_x\.0\.(.*)", r"blocks.\1.exemplars.content_norm.\2"),
        (_BLOCK + r"\.1\.to_x\.1\.(.*)", r"blocks.\1.exemplars.content.\2"),
        (_BLOCK + r"\.1\.to_k\.0\.(.*)", r"blocks.\1.exemplars.key_norm.\2"),
        (_BLOCK + r"\.1\.to_k\.1\.(.*)", r"blocks.\1.exemplars.key.\2"),
        (_BLOCK + r"\.1\.to_v\.1\.(.*)", r"blocks.\1.exemplars.to_tokens.\2"),
        (_BLOCK + r"\.1\.to_n\.1\.(.*)", r"blocks.\1.exemplars.to_query.\2"),
        (_BLOCK + r"\.2\.norm\.(.*)", r"blocks.\1.feed_norm.\2"),
        (_BLOCK + r"\.2\.fn\.net\.0\.(.*)", r"blocks.\1.feed.wide.\2"),
        (_BLOCK + r"\.2\.fn\.net\.3\.(.*)", r"blocks.\1.feed.narrow.\2"),
        (r"transformer\.pool\.head\.(.*)", r"pool.\1"),
        (r"mlp_head\.0\.(.*)", r"head_norm.\1"),
        (r"mlp_head\.1\.(.*)", r"head.\1"),
    ),
    unused=(_BLOCK + r"\.1\.to_out\..*",),
    anew=(r"projector\.exemplar\.weight", r"projector\.value\.weight", r"head\..*"),
)


def load_official(state_dict: Tensors, *, heads: int = 16, paper_update: bool = False) -> EGNetwork:
    """Make the network of an official checkpoint, whatever its sizes.

    Args:
        state_dict: The authors' tensors.
        heads: Attention heads, which no tensor tells.
        paper_update: As in `EGNShape`.

    Raises:
        DataError: If a tensor is missing, extra or of another shape.
    """
    OFFICIAL.need(state_dict)
    net = EGNetwork(_shape_of(Checkpoint(state_dict), heads, paper_update))
    OFFICIAL.load(net, state_dict)
    return net.eval()


def _shape_of(tensors: Checkpoint, heads: int, paper_update: bool) -> EGNShape:  # noqa: FBT001 - passed on
    blocks = {int(name.split(".")[2]) for name in tensors if name.startswith("transformer.layers.")}
    updates = sorted(int(name.split(".")[2]) for name in tensors if name.endswith(".1.to_k.1.weight"))
    if not updates:
        _ = tensors["transformer.layers.1.1.to_k.1.weight"]
    first = f"transformer.layers.{updates[0]}.1"
    _, rows, width = tensors["pos_embedding"].shape
    inner = len(tensors[f"{first}.to_x.1.weight"])
    exemplar_heads = len(tensors[f"{first}.to_k.1.weight"]) // (rows - 1)
    return EGNShape(
        genes=len(tensors["mlp_head.1.bias"]),
        patch=math.isqrt(tensors["to_patch_embedding.1.weight"].shape[1] // 3),
        features=tensors["transformer.encoder.proq.weight"].shape[1],
        grid=math.isqrt(rows - 1),
        width=width,
        depth=len(blocks),
        heads=heads,
        head_width=len(tensors["transformer.layers.0.0.fn.to_qkv.weight"]) // 3 // heads,
        hidden=len(tensors["transformer.layers.0.2.fn.net.0.bias"]),
        exemplar_heads=exemplar_heads,
        exemplar_width=inner // exemplar_heads,
        every=updates[0] + 1,
        projector_layers=sum(name.endswith(".fn.net.0.bias") and ".encoder." in name for name in tensors),
        paper_update=paper_update,
    )
