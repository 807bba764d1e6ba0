"""Things to fetch for tests: a small data set, a server of its files, and what a fetch said and left."""

import hashlib
from pathlib import Path

import pytest
from web import Web

from hdstbench.data.card import Card, Dataset, RemoteFile, SampleCard
from hdstbench.data.checksums import CHECKSUMS
from hdstbench.data.download import Patience
from hdstbench.data.fetch import Progress, fetch
from hdstbench.data.wanted import plan_fetch
from hdstbench.errors import HdstError

CONTENT = hashlib.shake_256(b"a slide").digest(2_500_000)
QUICK = Patience(tries=4, pause_s=0.0, connect_s=5.0, silent_s=5.0)


def serve(folder: Path) -> Web:
    """A server of a.bin and b.bin."""
    folder.mkdir()
    for name in ("a.bin", "b.bin"):
        (folder / name).write_bytes(CONTENT)
    return Web(folder)


def make_dataset(root: Path, *files: RemoteFile, base_url: str = "http://127.0.0.1:9/data") -> Dataset:
    """A data set of one sample a file, S0, S1, ..."""
    samples = [SampleCard(id=f"S{n}", patient=f"p{n}", path=f"S{n}", files=(f,)) for n, f in enumerate(files)]
    card = Card(
        name="toy",
        title="Toy",
        reader="spaceranger",
        licence="CC0-1.0",
        citation="nobody",
        resolutions=("8um",),
        splits={},
        samples=tuple(samples) or (SampleCard(id="S0", patient="p0", path="."),),
        homepage="https://toy.example",
        base_url=base_url,
    )
    return Dataset(card, root, root)


def get(web: Web, root: Path, *files: RemoteFile, patience: Patience = QUICK) -> list[Progress]:
    """Fetch files, a.bin by default; what was reported."""
    events: list[Progress] = []
    dataset = make_dataset(root, *(files or (RemoteFile(path="a.bin"),)), base_url=web.url)
    fetch(plan_fetch(dataset), root, events.append, patience=patience)
    return events


def fails(web: Web, root: Path, *files: RemoteFile) -> str:
    """The one line of a fetch that fails, where nothing gets its final name."""
    with pytest.raises(HdstError) as caught:
        get(web, root, *files)
    assert not (root / "a.bin").exists()
    line = str(caught.value)
    assert "\n" not in line
    assert f"{web.url}/a.bin" in line
    return line


def notes(events: list[Progress]) -> str:
    return "\n".join(event.note for event in events if event.note)


def litter(root: Path) -> set[str]:
    return {p.name for p in root.rglob("*")} - {"a.bin", "b.bin", CHECKSUMS}
