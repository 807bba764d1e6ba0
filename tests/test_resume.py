"""A fit that was killed goes on from what it kept, and ends with the same numbers, bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Planted

from hdstbench.arrays import FloatArray
from hdstbench.plugins.plugin import Progress, RunContext
from hdstbench.plugins.registry import load_model
from hdstbench.torchkit import keep, trainer


class KilledError(BaseException):
    """Stands for a kill: nothing catches it."""


class Killer:
    """Ends a fit at the n-th thing that it tells."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, progress: Progress) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError


def _fit(
    name: str, change: dict[str, object], planted: list[Planted], folder: Path, after: int = -1
) -> FloatArray:
    plugin = load_model(name)
    model = plugin.build(replace(plugin.recipes["tiny"], epochs=4, patience=0, **change))
    folder.mkdir(parents=True, exist_ok=True)
    context = RunContext(seed=0, scratch=folder, cache=folder.parent / "cache", report=Killer(after))
    model.fit([planted[0].slide], [planted[1].slide], context)
    return model.predict(planted[2].slide.hidden())


CASES = [
    ("st-net", {}),
    ("st-net", {"rates": (0.3, 1.0, 3.0)}),
    ("st-net", {"optimiser": "sgd", "schedule": "cosine"}),
    ("magnet", {}),
    ("his2st", {}),
    ("bleep", {}),
    ("egn", {}),
    ("triplex", {}),
    ("his-to-gene", {}),
]


@pytest.mark.parametrize(("name", "change"), CASES, ids=[f"{n}-{'-'.join(c)}" for n, c in CASES])
def test_a_killed_fit_ends_with_the_same_bits(
    name: str,
    change: dict[str, object],
    planted: list[Planted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keep, "KEEP_S", 0.0)
    monkeypatch.setattr(trainer, "REPORT_S", 1e9)  # one word an epoch: the same on any machine
    undisturbed = _fit(name, change, planted, tmp_path / "undisturbed")

    killed, after = 0, 2
    while True:
        try:
            resumed = _fit(name, change, planted, tmp_path / "killed", after)
            break
        except KilledError:
            killed, after = killed + 1, 3
    assert killed >= 1
    assert resumed.tobytes() == undisturbed.tobytes()


def test_a_resumed_fit_does_not_begin_again(
    planted: list[Planted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep, "KEEP_S", 0.0)
    epochs: list[int] = []
    whole = trainer._Loop._epoch

    def watched(self: trainer._Loop, epoch: int) -> None:
        epochs.append(epoch)
        if len(epochs) == 3:
            raise KilledError
        whole(self, epoch)

    monkeypatch.setattr(trainer._Loop, "_epoch", watched)
    with pytest.raises(KilledError):
        _fit("st-net", {}, planted, tmp_path / "fit")

    _fit("st-net", {}, planted, tmp_path / "fit")

    assert epochs == [0, 1, 2, 2, 3]


def test_what_is_kept_holds_no_code(
    planted: list[Planted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle  # noqa: PLC0415 - to write what must be refused

    monkeypatch.setattr(keep, "KEEP_S", 0.0)
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / keep.FILE).write_bytes(pickle.dumps(Path("x")))

    with pytest.raises(Exception, match="Weights only load failed"):
        _fit("st-net", {}, planted, tmp_path / "fit")
