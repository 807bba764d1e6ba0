"""The contract: two methods at the level of slides, and what a plugin says about itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from hdstbench.arrays import FloatArray
from hdstbench.protocol.slide import Slide

C = TypeVar("C")

Kind = Literal["model", "variant", "control"]
Context = Literal["unit", "block", "slide"]
Scope = Literal["any", "within-slide"]
Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a model tells while it fits: share done in [0, 1], a word, a loss if there is one."""

    share: float
    stage: str
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What a model is given besides slides.

    Attributes:
        seed: Seeds every random draw of the model; the same seed gives the same numbers.
        device: "cpu" or "cuda".
        precision: "fp32"; "tf32", which rounds factors of products on a GPU; or "bf16", for autocast.
        scratch: A folder of this cell: empty, or with what a killed fit of the very same cell kept.
        cache: A folder shared by all cells, for what depends on pixels and weights alone.
        compile: Whether networks are compiled, which takes time first and changes numbers in the last digits.
        weights: File that the model starts from: its encoder's weights, or the authors' checkpoint of
            the whole model if it takes one; None means to start from random ones.
        encoder_weights: The encoder's own weights where `weights` is a file that the user named, since
            that may be a checkpoint; None if they are not there.
        report: Call it to show progress.
    """

    seed: int
    scratch: Path
    cache: Path
    device: str = "cpu"
    precision: Precision = "fp32"
    compile: bool = False
    weights: Path | None = None
    encoder_weights: Path | None = None
    report: Callable[[Progress], None] = lambda _: None


class Model(Protocol):
    """A model of one cell: fitted once, then asked for whole slides.

    After `fit` it may say two things of itself, which its record keeps: `parameters`, how many numbers it
    has, and `validation`, its mean squared error on the validation units, or None without any.
    """

    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        """Learn from labelled slides; `val` chooses epochs and the like and is never reported."""
        ...

    def predict(self, slide: Slide) -> FloatArray:
        """Predict a hidden slide: float32 [N, G], finite, in the task's target space."""
        ...


@runtime_checkable
class Savable(Model, Protocol):
    """A model that can be kept and used again without its training slides."""

    def save(self, folder: Path) -> None:
        """Write everything that `predict` needs into an empty folder."""
        ...

    def load(self, folder: Path, context: RunContext) -> None:
        """Become the model that was saved there; this one was built from the same configuration.

        The context has the seed, the device, the precision and the weights files of the fit.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the official recipe needs at 8 um, 112 px and 250 genes, as a script in benchmarks/ measured it.

    Attributes:
        parameters: Numbers in the network, trained or not.
        gflop: Of predicting one unit, multiply-adds counted twice; what is cached aside.
        memory_mb: What the forward pass of one training step keeps for the backward pass, in MiB.
        batch: Units of that step.
    """

    parameters: int
    gflop: float
    memory_mb: float
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlugin(Generic[C]):
    """A model as the suite finds it.

    Attributes:
        name: As on the command line.
        kind: A published model, a variant of one, or a control.
        context: What a prediction may depend on.
        recipes: Complete frozen configurations by name. A field `encoder` names the image encoder
            and lets `--encoder` replace it; a field `weights` ("pretrained" or "none") says whether
            it starts from weights; a model without an encoder has it if it takes a checkpoint. A
            property `flags`, a tuple of words, is shown in the row's flags.
        build: Makes a model from a configuration.
        paper: Where the model is from.
        licence: Licence of the authors' code.
        notes: Every departure from the authors' code.
        proven: What is shown to equal the authors' code, and how.
        published: Whether a published number was reproduced; if not, what is missing.
        cost: Of the official recipe.
        exceptions: Checks of the conformance suite (`hdstbench.plugins.checks`) that this model does not
            pass by its nature, and why not, by the check's name.
        scope: "within-slide" if it can do nothing on slides that it was not trained on; it then runs on
            splits within slides alone.
    """

    name: str
    kind: Kind
    context: Context
    recipes: Mapping[str, C]
    build: Callable[[C], Model]
    paper: str
    licence: str
    notes: str
    proven: str = ""
    published: str = ""
    cost: Cost | None = None
    exceptions: Mapping[str, str] = field(default_factory=dict)
    scope: Scope = "any"


AnyPlugin = ModelPlugin[Any]
