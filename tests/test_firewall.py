"""No object, handle or path that a plugin gets in predict leads to labels of the tested slide."""

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, MethodType

import numpy as np
import pytest
from helpers import Planted

from hdstbench.arrays import FloatArray
from hdstbench.data.card import Dataset, cache_root
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import DataError
from hdstbench.plugins.plugin import ModelPlugin, RunContext
from hdstbench.plugins.weights import NONE
from hdstbench.protocol.slide import Slide, open_slide
from hdstbench.protocol.target import MEDIAN, find_target
from hdstbench.records import Record
from hdstbench.sweep import cell as cells
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import plan_cells, plan_job
from hdstbench.sweep.setting import Setting

PLAIN = (str, bytes, int, float, bool, type(None), type, np.generic, np.dtype)
DEPTH = 7
"""How far attributes of attributes are followed; `hidden()` and `whole()` would go on forever."""


def walk(
    thing: object, name: str = "", depth: int = DEPTH, seen: set[int] | None = None
) -> Iterator[tuple[str, object]]:
    """Everything that can be reached from an object by names, items, closures and calls without arguments."""
    seen = set() if seen is None else seen
    if depth < 0 or isinstance(thing, PLAIN) or id(thing) in seen or inspect.ismodule(thing):
        return
    seen.add(id(thing))
    yield name, thing
    if isinstance(thing, np.ndarray | Path):
        return
    keep = []  # an id is another object's once its owner is gone
    for label, part in parts_of(thing):
        keep.append(part)
        yield from walk(part, f"{name}.{label}", depth - 1, seen)
    KEPT.append(keep)


KEPT: list[object] = []


def parts_of(thing: object) -> Iterator[tuple[str, object]]:
    if isinstance(thing, Mapping):
        for key, value in thing.items():
            yield from ((f"key {key}", key), (f"[{key}]", value))
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from ((f"[{i}]", value) for i, value in enumerate(thing))
    elif isinstance(thing, FunctionType):
        yield from (("closure", c.cell_contents) for c in thing.__closure__ or ())
        yield "defaults", (thing.__defaults__, thing.__kwdefaults__)
    elif isinstance(thing, MethodType):
        yield from (("self", thing.__self__), ("function", thing.__func__))
    elif isinstance(thing, functools.partial):
        yield "partial", (thing.func, thing.args, thing.keywords)
    else:
        yield from attributes(thing)


def attributes(thing: object) -> Iterator[tuple[str, object]]:
    """Values of `__dict__` and slots, private ones too, and results of all that needs no argument."""
    names = dict.fromkeys(getattr(thing, "__dict__", {}))
    for base in type(thing).__mro__:
        own = base.__dict__.get("__slots__", ())
        names |= dict.fromkeys([own] if isinstance(own, str) else own)
        names |= dict.fromkeys(name for name in vars(base) if not name.startswith("__"))
    for name in names:
        try:
            value = getattr(thing, name)
            free = callable(value) and not inspect.isclass(value) and needs_nothing(value)
            yield name, value() if free and type(thing).__module__.startswith("hdstbench") else value
        except Exception:  # whatever it is, it gave nothing
            continue


def needs_nothing(call: Callable[..., object]) -> bool:
    try:
        return not [p for p in inspect.signature(call).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        return False


@dataclass
class Secrets:
    """What must not be found: a slide's label arrays and the files that hold them."""

    arrays: list[np.ndarray]
    files: set[str]
    folder: Path

    @classmethod
    def of(cls, folder: Path, slide: Slide) -> "Secrets":
        """Of a labelled view of all prepared units."""
        files = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / "labels").iterdir()}
        labels = slide.need_labels()
        arrays = [labels.target(), labels.library, labels.counts().toarray(), labels.counts().data]
        arrays += [labels.coarse(level)[0] for level in slide.levels[1:]]
        for path in (folder / "labels").glob("*.npz"):
            with np.load(path) as file:
                arrays += [file[n] for n in ("data", "library", "pseudobulk", "share") if n in file.files]
        return cls([a.ravel() for a in arrays if a.size > 1], files, folder / "labels")

    def leaks(self, *things: object) -> list[str]:
        """Where something leads to a label, or to a file of labels."""
        return [name for thing in things for name, found in walk(thing) if self._is_secret(found)]

    def _is_secret(self, found: object) -> bool:
        if isinstance(found, np.ndarray):
            return any(a.size == found.size and np.array_equal(a, found.ravel()) for a in self.arrays)
        return isinstance(found, Path) and any(map(self._holds, below(found)))

    def _holds(self, path: Path) -> bool:
        inside = path.resolve().is_relative_to(self.folder.resolve())
        return inside or hashlib.sha256(path.read_bytes()).hexdigest() in self.files


def below(path: Path) -> Iterator[Path]:
    yield from [path] if path.is_file() else (p for p in path.rglob("*") if p.is_file())


@dataclass(frozen=True)
class Config:
    """Of a spy."""

    asks: str = ""


class Spy:
    """Looks through all that it gets in predict, and may ask for labels there."""

    secrets: Secrets
    found: list[str]
    visited: int

    def __init__(self, config: Config) -> None:
        self.asks = config.asks

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        """Keep the context, as models do."""
        self.context = context

    def predict(self, slide: Slide) -> FloatArray:
        """Predict nothing."""
        Spy.visited = sum(1 for _ in walk((slide, self.context)))
        Spy.found = Spy.secrets.leaks(slide, self.context)
        if self.asks == "need_labels":
            slide.need_labels()
        elif self.asks:
            getattr(slide.labels, self.asks)
        return np.zeros((len(slide), len(slide.genes)), np.float32)


def spy(
    cohort: Dataset, output: Path, monkeypatch: pytest.MonkeyPatch, asks: str = "", target: str = ""
) -> Record:
    """Run a spy as a cell of the first fold, whose test slide's labels are the secrets."""
    plugin = ModelPlugin(
        name="spy", kind="model", context="slide", recipes={"tiny": Config(asks)}, build=Spy,
        paper="none", licence="none", notes="for a test",
    )  # fmt: skip
    monkeypatch.setattr(cells, "load_model", lambda _: plugin)
    protocol = "magnet-paper" if target == MEDIAN else "hd"
    options = Options(recipe="tiny", folds=(0,), output=str(output), protocol=protocol, target=target)
    job = plan_job(cohort, "16um", options)
    folders = {s.id: prepare_slide(cohort, s, job.resolution) for s in cohort.card.samples}
    setting = Setting(name="spy", model="spy", kind="model", recipe="tiny", config=Config(asks),
                      weights=NONE, source="", origin="a test")  # fmt: skip
    one = next(c for c in plan_cells(job, [setting], folders, options, "cpu") if c.record.model == "spy")
    fold = cells.open_fold(one.task, one.split, 0, one.folders)
    test = fold.test[0].slide
    Spy.secrets, Spy.found, Spy.visited = Secrets.of(folders[test.id], test), ["never ran"], 0
    return cells.run_cell(one, lambda _: None)


@pytest.mark.parametrize("target", ["", "egn-minmax", "stnet-log", "log1p-cp10k+smooth3x3", MEDIAN])
def test_a_plugin_that_looks_everywhere_finds_no_label(
    cohort: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    record = spy(cohort, tmp_path, monkeypatch, target=target)

    assert record.status == "ok", record.error
    assert Spy.found == []
    assert Spy.visited > 50


@pytest.mark.parametrize("asks", ["need_labels", "target", "counts", "library", "coarse", "take"])
def test_a_plugin_that_asks_for_labels_in_predict_is_refused(
    cohort: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: str
) -> None:
    record = spy(cohort, tmp_path, monkeypatch, asks)

    assert record.status == "failed"
    assert record.error.startswith("DataError: slide SIM1 is hidden: a model may use labels in fit only")


def test_an_error_of_its_own_stays_the_models(
    cohort: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = spy(cohort, tmp_path, monkeypatch, asks="nothing_of_labels")

    assert record.error == "AttributeError: 'NoneType' object has no attribute 'nothing_of_labels'"


def test_the_search_finds_what_is_there(planted: list[Planted], tmp_path: Path) -> None:
    """Labels of a view, whichever way; a folder above them; a copy of a file; a closure."""
    slide, folder = planted[0].slide, planted[0].folder
    secrets = Secrets.of(folder, slide)
    copy = tmp_path / "features" / "x.bin"
    copy.parent.mkdir()
    copy.write_bytes((folder / "labels" / "unit.npz").read_bytes())
    target = slide.need_labels().target()
    context = RunContext(seed=0, scratch=tmp_path / "none", cache=copy.parent, report=lambda _: None)

    found = secrets.leaks(slide)

    assert any("labels._targets" in name for name in found)
    assert any("labels._folder" in name for name in found)
    assert secrets.leaks(slide.hidden()) == []
    assert secrets.leaks(folder)
    assert secrets.leaks(context) == [".cache"]
    assert secrets.leaks(lambda: target) == [".closure"]
    assert secrets.leaks({"a": [(target,)]})


def test_a_hidden_slide_shows_its_pixels_without_its_labels_anywhere(
    planted: list[Planted], tmp_path: Path
) -> None:
    slide = planted[0].slide
    assert slide.hidden()._folder.name == "pixels"

    assert slide.whole()._folder == slide.take(np.arange(3)).hidden()._folder == slide._folder
    assert not [p for p in slide._folder.rglob("*") if p.name in ("slide.npz", "expected.npz")]


def test_labels_of_a_view_never_give_those_of_other_units(planted: list[Planted]) -> None:
    """As a part of a slide that is tested elsewhere."""
    slide = planted[0].slide
    view = slide.take(np.arange(40, 80)).need_labels()
    inside = {level: slide.take(np.arange(50, 60)).rows(level) for level in slide.levels}

    assert len(view.take(inside).library) == 10
    with pytest.raises(DataError, match="hold 40 units, and not all that are wanted"):
        view.take({**inside, "unit": np.arange(39, 41)})
    outside = np.setdiff1d(slide.rows("region"), slide.take(np.arange(40, 80)).rows("region"))[:1]
    with pytest.raises(DataError, match="regions, and not all"):
        view.take({**inside, "region": outside})


def test_a_hidden_slides_target_holds_nothing_of_its_counts(planted: list[Planted]) -> None:
    own = open_slide(planted[0].folder, planted[0].slide.genes, find_target(MEDIAN))

    assert own.target.scale > 0
    assert own.hidden().target == find_target(MEDIAN)


def test_the_shared_cache_of_features_lies_beside_prepared_slides(cohort: Dataset) -> None:
    job = plan_job(cohort, "16um", Options(recipe="tiny"))
    folders = {s.id: prepare_slide(cohort, s, job.resolution) for s in cohort.card.samples}

    one = plan_cells(job, [], folders, Options(recipe="tiny"), "cpu")[0]

    assert one.cache == cache_root() / "features"
    assert not any(folder.is_relative_to(one.cache) for folder in folders.values())
