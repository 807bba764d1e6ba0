"""Encoders trained on pathology images, whose weights their users fetch themselves.

Each is a network of timm made offline with the arguments of its model card, or of the `config.json` beside
the weights, and reads features as the card says. Licences differ; most weights are gated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from torch import Tensor, nn

from hdstbench.torchkit.compat import import_timm
from hdstbench.torchkit.readings import AttentionPooled, ClassAndMean

Numbers = tuple[float, float, float]
IMAGENET: tuple[Numbers, Numbers] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP: tuple[Numbers, Numbers] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
BIOPTIMUS: tuple[Numbers, Numbers] = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)

_CONCH_OUT, _CONCH_HEADS = 512, 8
_CONCH_ELSE = (
    "visual.attn_pool_caption.",
    "visual.ln_caption.",
    "visual.proj_contrast",
    "text",
    "logit_scale",
)
"""What CONCH's file holds beside the image features: captions, the joint space and both text towers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An encoder by its published architecture.

    Attributes:
        arch: Name of timm's network.
        arguments: What differs from timm's own, as the card says.
        swiglu: Whether its layers are gated by SiLU (timm's SwiGLUPacked).
        channels: Mean and deviation of pixels in [0, 1].
        input_px: Side that patches are brought to.
        width: Width of a feature.
        reads: The class token, it and the mean patch token, or the output of a pooler.
    """

    arch: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    swiglu: bool = False
    channels: tuple[Numbers, Numbers] = IMAGENET
    input_px: int = 224
    width: int
    reads: Literal["class", "class+mean", "pooler"] = "class"

    def make(self) -> nn.Module:
        """Make the network, with random weights."""
        timm = import_timm()
        net: nn.Module = timm.create_model(
            self.arch,
            pretrained=False,
            num_classes=0,
            img_size=self.input_px,
            **self.arguments,
            **(_swiglu(timm) if self.swiglu else {}),
        )
        if self.reads == "class+mean":
            return ClassAndMean(net)
        if self.reads == "pooler":
            return AttentionPooled(net, int(net.num_features), _CONCH_OUT, _CONCH_HEADS)  # type: ignore[arg-type]
        return net

    def named(self, tensors: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
        """Name a file's tensors as the network's are, all of them."""
        if self.reads == "class+mean":
            return {f"trunk.{name}": tensor for name, tensor in tensors.items()}
        if self.reads == "pooler":
            return _conch(tensors, net)
        return tensors


def _swiglu(timm: ModuleType) -> dict[str, Callable[..., nn.Module]]:
    return {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}


def _conch(tensors: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Take the image tower; its grid of places is brought to the input size as the authors' loader does."""
    kept = {k.removeprefix("visual."): v for k, v in tensors.items() if not k.startswith(_CONCH_ELSE)}
    table, own = kept.get("trunk.pos_embed"), net.state_dict()["trunk.pos_embed"]
    if table is not None and table.ndim == own.ndim and table.shape != own.shape:
        timm = import_timm()
        size = list(net.trunk.patch_embed.grid_size)  # type: ignore[union-attr, arg-type]
        kept["trunk.pos_embed"] = timm.layers.resample_abs_pos_embed(
            table, new_size=size, interpolation="bilinear", antialias=False
        )
    return kept


_SCALE = {"init_values": 1e-5}
_VIRCHOW = {**_SCALE, "mlp_ratio": 5.3375, "global_pool": "", "dynamic_img_size": True}
_H_OPTIMUS = Known(
    arch="vit_giant_patch14_reg4_dinov2",
    arguments={**_SCALE, "global_pool": "token"},
    channels=BIOPTIMUS,
    width=1536,
)

PATHOLOGY: Mapping[str, Known] = {
    "uni": Known(arch="vit_large_patch16_224", arguments={**_SCALE, "dynamic_img_size": True}, width=1024),
    "uni2": Known(
        arch="vit_giant_patch14_224",
        arguments={
            **_SCALE,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
        },
        swiglu=True,
        width=1536,
    ),
    "conch": Known(
        arch="vit_base_patch16_224",
        arguments={"dynamic_img_size": True},
        channels=CLIP,
        input_px=448,
        width=_CONCH_OUT,
        reads="pooler",
    ),
    "virchow": Known(
        arch="vit_huge_patch14_224", arguments=_VIRCHOW, swiglu=True, width=2560, reads="class+mean"
    ),
    "virchow2": Known(
        arch="vit_huge_patch14_224",
        arguments={**_VIRCHOW, "reg_tokens": 4},
        swiglu=True,
        width=2560,
        reads="class+mean",
    ),
    "h-optimus-0": _H_OPTIMUS,
    "h-optimus-1": _H_OPTIMUS,
}
"""By the names of the suite.

Sources: the cards at huggingface.co of MahmoodLab/uni, UNI2-h and conch, paige-ai/Virchow and Virchow2,
bioptimus/H-optimus-0 and H-optimus-1; github.com/mahmoodlab/CONCH."""
