"""A model on trial: planted slides, and fits and predictions that the checks share."""

import contextlib
import pickle
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hdstbench.arrays import FloatArray
from hdstbench.plugins.checks.cohort import Cohort, Slides, write_slides
from hdstbench.plugins.checks.fingerprint import files_in, hash_of
from hdstbench.plugins.checks.watch import written
from hdstbench.plugins.plugin import AnyPlugin, Model, Progress, RunContext
from hdstbench.plugins.weights import find_weights
from hdstbench.protocol.slide import Slide

T = TypeVar("T")


class BrokenContractError(AssertionError):
    """The model breaks the contract; says what was found and what was wanted."""


class NotRunError(Exception):
    """A check could not look, since what it looks at failed; says how."""


class NothingToCheckError(Exception):
    """There is nothing to check, and that is no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One fit of a trial: its seed, its cache folder, and whether on all training units or on few.

    On few units there is no validation. `number` tells fits of one seed and cache apart.
    """

    seed: int
    cache: str
    number: int = 0
    all_units: bool = False


MAIN = Plan(seed=0, cache="main", all_units=True)
COLD = Plan(seed=5, cache="cold")
AGAIN = Plan(seed=5, cache="warm")
WARM = Plan(seed=5, cache="warm", number=1)
"""After AGAIN, whose cached features it finds."""
OTHER = Plan(seed=6, cache="warm")
ELSEWHERE = "elsewhere"
"""Where the process is while the model works; a file that appears there is a stray."""
OWN = ("scratch", "cache", "saved", "slides")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A fitted model, the slides of its panel, what it told while it was fitted, and what it was given."""

    model: Model
    cohort: Cohort
    told: tuple[Progress, ...]
    context: RunContext


class Trial:
    """One plugin on trial; slides, fits and predictions are made when first asked for, and kept.

    Attributes:
        plugin: The plugin.
        recipe: Name of the recipe that is fitted.
        folder: Where everything is written; it stays when the trial is over.
        strays: Files that the model wrote elsewhere than in its own folders, so far.
        before: Hashes of the main fit's slides, of all slides' files, and the configuration, taken
            before the fit.
    """

    def __init__(self, plugin: AnyPlugin, folder: Path, *, recipe: str = "tiny") -> None:
        self.plugin, self.recipe, self.folder = plugin, recipe, folder.resolve()
        self.strays = set[Path]()
        self.before: list[object] = []
        self._done = dict[object, Any]()
        (self.folder / ELSEWHERE).mkdir(parents=True)

    @cached_property
    def slides(self) -> Slides:
        """The planted slides, of this trial alone."""
        within = self.plugin.scope == "within-slide"
        return write_slides(self.folder / "slides", within=within)

    @property
    def config(self) -> Any:  # noqa: ANN401 - any plugin's configuration
        """The recipe's configuration as a worker process gets it."""
        return self._once("config", lambda: pickle.loads(pickle.dumps(self.plugin.recipes[self.recipe])))

    def fit(self, plan: Plan) -> Fitted:
        """Fit a model, or find it fitted.

        Raises:
            NotRunError: If the fit fails, or failed before.
        """
        return self._once(plan, lambda: self._fit(plan))

    @property
    def main(self) -> Fitted:
        """The model that was fitted on all training units."""
        return self.fit(MAIN)

    @property
    def whole(self) -> FloatArray:
        """What the main model predicts of the hidden test slide, [N, G].

        Raises:
            NotRunError: If fit or predict fail, or the shape is wrong.
        """
        main = self.main
        return self._once("whole", lambda: self.predict(main, main.cohort.test.hidden()).copy())

    def predict(self, fitted: Fitted, slide: Slide) -> FloatArray:
        """Predict a slide.

        Raises:
            BrokenContractError: If that is not an array [N, G].
        """
        with self.confined():
            out = fitted.model.predict(slide)
        wanted = (len(slide), len(slide.genes))
        if not isinstance(out, np.ndarray) or out.shape != wanted:
            shape = getattr(out, "shape", "")
            msg = f"predict gave {type(out).__name__} {shape}, wanted an array {wanted}"
            raise BrokenContractError(msg)
        return out

    @contextlib.contextmanager
    def confined(self) -> Iterator[None]:
        """Note what is written meanwhile outside of the folders that a model is given."""
        elsewhere, paths = self.folder / ELSEWHERE, set[Path]()
        try:
            with contextlib.chdir(elsewhere), written() as paths:
                yield
        finally:
            left = {path for path in elsewhere.rglob("*") if path.is_file()}
            self.strays |= {path for path in paths if not self._may_write(path)} | left

    def state(self) -> list[object]:
        """Hashes of what models must leave as it is: slides of the main fit, files, configuration."""
        cohort = self._once("main cohort", lambda: self.slides.open(self.slides.panels[0]))
        views = (*cohort.train, *cohort.val, cohort.test, cohort.other)
        return [[hash_of(view) for view in views], files_in(self.folder / "slides"), repr(self.config)]

    def _fit(self, plan: Plan) -> Fitted:
        told = list[Progress]()
        context = self._context(plan, told.append)
        if plan.all_units:
            self.before = self.state()
            cohort = self._done["main cohort"]
            train, val = cohort.train, cohort.val
        else:
            cohort = self.slides.open(self.slides.panels[1])
            train, val = cohort.few(), ()
        model: Model = self.plugin.build(self.config)
        with self.confined():
            model.fit(train, val, context)
        return Fitted(model=model, cohort=cohort, told=tuple(told), context=context)

    def _context(self, plan: Plan, report: Callable[[Progress], None]) -> RunContext:
        scratch = self.folder / "scratch" / f"{plan.cache}-{plan.seed}-{plan.number}"
        scratch.mkdir(parents=True)
        encoder, wanted = getattr(self.config, "encoder", ""), getattr(self.config, "weights", "none")
        weights = find_weights(encoder, wanted).path
        cache = self.folder / "cache" / plan.cache
        return RunContext(seed=plan.seed, scratch=scratch, cache=cache, weights=weights, report=report)

    def _may_write(self, path: Path) -> bool:
        """Whether a file is no stray; those of slides are compared one by one, when the trial is over.

        Temporary files of libraries are none either.
        """
        if path.is_relative_to(self.folder):
            return path.relative_to(self.folder).parts[0] in OWN
        return path.is_relative_to(Path(tempfile.gettempdir()).resolve())

    def _once(self, name: object, make: Callable[[], T]) -> T:
        """Make something, or remember it; what failed fails again."""
        if name not in self._done:
            try:
                self._done[name] = make()
            except NotRunError:
                raise
            except (Exception, SystemExit) as error:  # a model may raise anything, or try to leave
                self._done[name] = error
        if isinstance(self._done[name], Exception | SystemExit):
            raise NotRunError(in_one_line(self._done[name])) from self._done[name]
        made: T = self._done[name]
        return made


def in_one_line(error: BaseException) -> str:
    """What to say of an error that a model raised."""
    text = " ".join(str(error).split())
    return text if isinstance(error, BrokenContractError) else f"{type(error).__name__}: {text}"
