"""Which of the facts about a sample are problems, and what to do about each."""

from collections.abc import Sequence
from dataclasses import dataclass

from hdstbench.data.facts import CountFacts, GridFacts, SizeFacts, contradiction
from hdstbench.data.levels import BASE_UM
from hdstbench.data.picture import ImageFacts
from hdstbench.data.registration import Scan, advice

MANY_OUTSIDE, MANY_EMPTY, TAG_SLACK = 0.05, 0.5, 0.05


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to look at; `stops` if a run would fail over it."""

    text: str
    stops: bool = False


NO_IMAGE = Problem(
    "no full-resolution H&E was found in or beside the run (it is no part of outs/): give the picture that "
    "Space Ranger got with --image",
    stops=True,
)
NO_IMAGE_IN_CARD = Problem(
    "the card names no image; wanted the full-resolution H&E that Space Ranger got (it is no part of outs/): "
    "write where it is into the card",
    stops=True,
)
NO_HIRES = Problem(
    "the run has no spatial/tissue_hires_image.png, so nothing says whether the image is the one that its "
    "positions belong to: look at the overlay whether bins lie on the tissue",
)


def of_grid(grid: GridFacts) -> list[Problem]:
    """Bins of Visium HD are mirrored; an array that is not may have been flipped."""
    if grid.determinant < 0 or grid.unit_um > BASE_UM:
        return []
    text = (
        "the array is not mirrored in the image, as it is on every public Visium HD slide: look at the "
        "overlay whether the image was flipped after Space Ranger read it"
    )
    return [Problem(text)]


def of_counts(counts: CountFacts) -> list[Problem]:
    """Too few UMI to work with."""
    if not counts.enough:
        text = f"no unit has {counts.minimum} UMI, so none is left for a task: take a coarser resolution"
        return [Problem(text, stops=True)]
    if counts.empty > MANY_EMPTY:
        text = f"{counts.empty:.0%} of the units are empty: take a coarser resolution, or sequence deeper"
        return [Problem(text)]
    return []


def of_image(image: ImageFacts, mpp: float) -> list[Problem]:
    """A resolution tag that means something and contradicts the positions."""
    if image.tag_um is None or image.placeholder or abs(image.tag_um / mpp - 1) <= TAG_SLACK:
        return []
    text = (
        f"the resolution tag says {image.tag_um:.4f} um a pixel, the positions {mpp:.4f}: the tag is "
        "ignored, but see whether the image was scaled after Space Ranger read it"
    )
    return [Problem(text)]


def of_place(outside: int, units: int) -> list[Problem]:
    """Tissue that the image does not show."""
    if outside <= MANY_OUTSIDE * units:
        return []
    text = (
        f"{outside} of {units} units lie outside the image, where patches are white: give the whole image, "
        "or a crop made with hdstbench data convert --run"
    )
    return [Problem(text)]


def of_scan(scan: Scan, applied_um: tuple[float, ...]) -> list[Problem]:
    """A registration that is off by more than a bin, on top of what the card has moved already."""
    text = advice(scan, applied_um)
    return [Problem(text)] if text else []


def of_sizes(sizes: Sequence[SizeFacts]) -> list[Problem]:
    """Bins of different sizes that do not belong together."""
    texts = [contradiction(sizes[0], other) for other in sizes[1:]]
    return [Problem(text, stops=True) for text in texts if text]
