"""BLEEP's network, its loss, its way from neighbours to a prediction, and the authors' checkpoints."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from hdstbench.torchkit.compat import import_timm
from hdstbench.torchkit.encoders import IMAGENET_MEAN, IMAGENET_STD, Encoder
from hdstbench.torchkit.official import Official, Tensors

Combine = Literal["average", "simple", "weighted"]
EXPANSION = 4
"""Channels that a bottleneck block gives, for each that it works in."""


class Projection(nn.Module):
    """A linear layer, refined by a second one and normalised."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(width, embedding)
        self.second = nn.Linear(embedding, embedding)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Project, [B, D] -> [B, E]."""
        first = self.first(x)
        out: Tensor = self.norm(first + self.dropout(self.second(functional.gelu(first))))
        return out


class BLEEPNetwork(nn.Module):
    """Two ways into one space of width E: of a patch, and of a unit's expression.

    Without an encoder, features of patches come instead of patches; they are `width` wide.
    """

    def __init__(
        self, encoder: Encoder | None, width: int, genes: int, *, embedding: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.image = Projection(width, embedding, dropout)
        self.spot = Projection(genes, embedding, dropout)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed patches, uint8 [B, 3, S, S], or their features [B, D], -> [B, E]."""
        out: Tensor = self.image(patches if self.encoder is None else self.encoder(patches))
        return out


OFFICIAL = Official(
    model="BLEEP",
    mark=r"(module\.)?image_projection\.projection\.weight",
    rules=(
        (r"(?:module\.)?image_encoder\.model\.(.*)", r"encoder.net.\1"),
        (r"(?:module\.)?image_projection\.projection\.(.*)", r"image.first.\1"),
        (r"(?:module\.)?image_projection\.fc\.(.*)", r"image.second.\1"),
        (r"(?:module\.)?image_projection\.layer_norm\.(.*)", r"image.norm.\1"),
        (r"(?:module\.)?(?:spot|well)_projection\.projection\.(.*)", r"spot.first.\1"),
        (r"(?:module\.)?(?:spot|well)_projection\.fc\.(.*)", r"spot.second.\1"),
        (r"(?:module\.)?(?:spot|well)_projection\.layer_norm\.(.*)", r"spot.norm.\1"),
    ),
    anew=(r"spot\.first\.weight",),
    constant=("encoder.mean", "encoder.std"),
)


def load_official(state_dict: Tensors) -> BLEEPNetwork:
    """Make the network of an official checkpoint, with a ResNet of bottleneck blocks of any width.

    Raises:
        DataError: If a tensor is missing, extra or of another shape.
    """
    tensors = OFFICIAL.need(state_dict)
    resnet = {n.removeprefix("encoder.net."): t for n, t in tensors.items() if n.startswith("encoder.net.")}
    embedding, width = tensors["image.first.weight"].shape
    genes = tensors["spot.first.weight"].shape[1]
    net = BLEEPNetwork(_resnet(resnet), width, genes, embedding=embedding)
    OFFICIAL.load(net, state_dict)
    return net.eval()


def _resnet(tensors: Tensors) -> Encoder:
    """Make the ResNet that tensors are of; timm's own have a stem of 64 channels."""
    resnet = import_timm().models.resnet
    stages = ("layer1", "layer2", "layer3", "layer4")
    blocks = [{n.split(".")[1] for n in tensors if n.startswith(f"{stage}.")} for stage in stages]
    channels = tuple(len(tensors[f"{stage}.0.conv3.weight"]) // EXPANSION for stage in stages)
    net = resnet.ResNet(resnet.Bottleneck, tuple(map(len, blocks)), channels=channels, num_classes=0)
    stem = len(tensors["conv1.weight"])
    if stem != net.conv1.out_channels:
        first = net.layer1[0]
        net.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        net.bn1 = nn.BatchNorm2d(stem)
        first.conv1 = nn.Conv2d(stem, channels[0], 1, bias=False)
        first.downsample[0] = nn.Conv2d(stem, channels[0] * EXPANSION, 1, bias=False)
    return Encoder(net, channels[-1] * EXPANSION, IMAGENET_MEAN, IMAGENET_STD)


def contrastive(image: Tensor, spot: Tensor, temperature: float = 1.0, *, detach: bool = False) -> Tensor:
    """How far a batch's patches and expressions, [B, E] each, are from finding each other.

    Soft targets say which units look alike anyway. As in the authors' code the transposed targets are
    not normalised anew, and unless `detach` is set, gradients flow through the targets.
    """
    logits = spot @ image.T / temperature
    alike = (image @ image.T + spot @ spot.T) / 2
    targets = functional.softmax(alike / temperature, dim=1)
    if detach:
        targets = targets.detach()
    of_spot = -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1)
    of_image = -(targets.T * functional.log_softmax(logits.T, dim=1)).sum(dim=1)
    return ((of_spot + of_image) / 2).mean()


def combined(how: Combine, values: Tensor, query: Tensor, keys: Tensor) -> Tensor:
    """Make one prediction of the values of neighbours, nearest first, [B, k, G] -> [B, G].

    Args:
        how: `average`, `simple` for the nearest alone, or `weighted`: by exp(-d^2), d being the
            distance of the embeddings, which are not of unit length.
        values: Of the neighbours.
        query: Embeddings of the patches, [B, E].
        keys: Embeddings of the neighbours, [B, k, E].
    """
    if how == "simple":
        return values[:, 0]
    if how == "weighted":
        distance = (query[:, None].double() - keys.double()).square().sum(dim=-1)
        weights = functional.softmax(-distance, dim=1).float()
        return (weights[..., None] * values).sum(dim=1)
    return values.mean(dim=1)
