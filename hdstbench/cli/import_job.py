"""Import what `hdstbench data import` asks for."""

import re
from collections.abc import Mapping
from pathlib import Path

from hdstbench.cli.view import make_view
from hdstbench.data.cardfile import Draft, write_cards
from hdstbench.data.importing import Given, import_source
from hdstbench.errors import DataError
from hdstbench.strict import build


def execute(source: str, output: str, given: Mapping[str, object]) -> Path:
    """Write the card of a new data set, or of several where a source holds spots of several kinds.

    Returns:
        The card; of several that with the most slides.

    Raises:
        HdstError: If the source is nothing that can be imported, or is damaged; says why.
    """
    folder, view = Path(output), make_view(as_json=False)
    if folder.exists():
        msg = f"{folder} exists; choose another folder, or remove it to import again"
        raise DataError(msg)
    said = {name: value for name, value in given.items() if value is not None}
    name = re.sub(r"[^A-Za-z0-9-]+", "-", folder.resolve().name).strip("-") or "imported"
    found = import_source(Path(source), name, build(Given, said, "hdstbench data import"))
    cards = dict(zip(found.drafts, write_cards(found.drafts, folder), strict=True))
    for remark in found.remarks:
        view.say(remark)
    for label, draft in found.drafts.items():
        view.say(f"{cards[label]}: {_summary(draft)}")
    return cards[max(cards, key=lambda label: len(found.drafts[label].slides))]


def _summary(draft: Draft) -> str:
    slides, patients = len(draft.slides), draft.patients
    text = f"{slides} slide{'s' * (slides > 1)} of {patients} patient{'s' * (patients > 1)}"
    if draft.folds:
        return f"{text}, {len(draft.folds)} folds"
    return f"{text}; a benchmark needs several patients: join the slides of several cards in one of your own"
