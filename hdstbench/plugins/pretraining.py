"""What image encoders were trained on, as their authors say; declared, not measured."""

from collections.abc import Mapping

UNKNOWN = "not published"
IMAGENET = ("imagenet",)
TRAINED_ON: Mapping[str, tuple[str, ...]] = {
    "efficientnet-lite0": IMAGENET,
    "densenet121": IMAGENET,
    "resnet18": IMAGENET,
    "resnet50": IMAGENET,
    "uni": ("mass-general-brigham", "gtex"),
    "uni2": ("mass-general-brigham", "gtex"),
    "conch": ("pmc-open-access", "mass-general-brigham"),
    "virchow": ("mskcc",),
    "virchow2": ("mskcc",),
    "h-optimus-0": (UNKNOWN,),
    "h-optimus-1": (UNKNOWN,),
}
"""Collections by encoder, from model cards and papers: UNI (Chen et al. 2024, 10.1038/s41591-024-02857-3),
CONCH (Lu et al. 2024, 10.1038/s41591-024-02856-4), Virchow (Vorontsov et al. 2024,
10.1038/s41591-024-03141-0); Bioptimus names no collection."""


def trained_on(encoder: str) -> tuple[str, ...]:
    """Collections of an encoder; that nothing is known is one of them."""
    return TRAINED_ON.get(encoder, (UNKNOWN,))
