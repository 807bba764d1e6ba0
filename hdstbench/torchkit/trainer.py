"""The training loop that models written in torch may share."""

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typing_extensions import override

from hdstbench.arrays import FloatArray
from hdstbench.errors import DataError
from hdstbench.plugins.kept import Kept as Fitted
from hdstbench.plugins.kept import load_kept, save_kept
from hdstbench.plugins.plugin import Progress, RunContext, Savable
from hdstbench.protocol.slide import Slide
from hdstbench.rng import seed_of, stream
from hdstbench.torchkit.ahead import ahead, send
from hdstbench.torchkit.batch import Batch, BatchLabels, some_blocks
from hdstbench.torchkit.keep import Before, Keeper, Kept
from hdstbench.torchkit.schedule import Schedule, rate_factor
from hdstbench.torchkit.space import TASK, Space, SpaceName, make_space

REPORT_S = 0.3
NET = "net.safetensors"
TUNED = (1 / 3, 1.0, 3.0)
"""Multiples of the rate that a `tuned` recipe tries."""
Optimiser = Literal["sgd", "adam", "adamw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What every trained model's configuration holds.

    Attributes:
        epochs: At most so many passes over the training units.
        epoch_units: Units that one pass takes at most, shared among slides; 0 for all.
        validation_units: Units that one validation takes at most, whole blocks of each slide; 0 for all.
        patience: Epochs without a better validation error before training stops; 0 for never.
        schedule: Rate over the units seen (`hdstbench.torchkit.schedule`).
        rates: Multiples of the rate to try, each with all epochs; the best validation error decides.
            Without validation units the rate stays as it is.
        space: What the network is trained on; predictions are mapped back to the task's target.
    """

    epochs: int
    batch_size: int
    optimiser: Optimiser
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    epoch_units: int = 0
    validation_units: int = 0
    patience: int = 0
    rates: tuple[float, ...] = ()
    space: SpaceName = "task"


class TorchModel(Savable, ABC):
    """A model that is a torch network: subclasses say what it is, this trains and applies it.

    After every epoch the mean squared error on the validation units is taken, and the weights of
    the best epoch are kept; `validation` is its error, None without validation units.
    """

    net: nn.Module
    validation: float | None = None

    def __init__(self, config: Training) -> None:
        self.training = config
        self.context: RunContext | None = None
        self.space = TASK
        self._genes = 0

    @abstractmethod
    def build(self, genes: int) -> nn.Module:
        """Make the network."""

    @abstractmethod
    def batches(self, slide: Slide, rng: np.random.Generator | None) -> Iterator[Batch]:
        """Cut a slide into batches with inputs; shuffled if there is a generator, then to train."""

    @abstractmethod
    def infer(self, batch: Batch) -> Tensor:
        """Predict the targets of a batch's units, [B, G]."""

    @abstractmethod
    def loss(self, batch: Batch, labels: BatchLabels) -> Tensor:
        """What is minimised."""

    def prepare(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Hook: look at the training slides, after the network was built."""

    def finish(self, train: Sequence[Slide]) -> None:
        """Hook: do what is left after training."""

    def keep(self) -> Fitted:
        """Hook: what `build` and `infer` need beside the network, to be saved with it."""
        return Fitted()

    def restore(self, kept: Fitted) -> None:
        """Hook: take back what `keep` gave, before the network is built."""

    def labels(self, batch: Batch) -> BatchLabels:
        """Hook: targets of a batch; a model of several levels adds theirs."""
        target = self.space.inward(batch.slide.need_labels().target(batch.index))
        return BatchLabels(target=send(target, self.device))

    def training_mean(self, train: Sequence[Slide]) -> Tensor:
        """Mean of what is trained on over the training units, float32 [G]."""
        mean = np.concatenate([s.need_labels().target() for s in train]).mean(axis=0)
        return torch.from_numpy(self.space.inward(mean))

    @property
    def device(self) -> str:
        """Where the network computes."""
        return self._context().device

    @property
    def parameters(self) -> int:
        """Numbers in the network, trained or not."""
        return sum(p.numel() for p in self.net.parameters())

    @override
    def fit(self, train: Sequence[Slide], val: Sequence[Slide], context: RunContext) -> None:
        self.context, self.space = context, make_space(self.training.space, train)
        self._genes = len(train[0].genes)
        rates = self.training.rates if val and self.training.rates else (1.0,)
        keeper = Keeper(context.scratch, context.device)
        kept = keeper.load()
        best = kept["before"] if kept else None
        for number, rate in list(enumerate(rates))[kept["trial"] if kept else 0 :]:
            self._start(train, val)
            loop = _Loop(self, train, val, _Trial(rate, number, len(rates)))
            try:
                error = loop.run(keeper, kept, best)
            except DivergedError:
                if best is None and number + 1 == len(rates):
                    raise
                continue
            finally:
                kept = None
            if best is None or error < best["error"]:
                best = {"error": error, "net": copy.deepcopy(self.net.state_dict())}
        assert best is not None
        self.net.load_state_dict(best["net"])
        self.validation = best["error"] if val else None
        self.finish(train)

    def _start(self, train: Sequence[Slide], val: Sequence[Slide]) -> None:
        """Make the network as it is before training."""
        context = self._context()
        torch.manual_seed(seed_of("fit", context.seed))
        self.net = self.build(self._genes).to(context.device)
        if context.compile:
            self.net.compile()
        self.prepare(train, val)

    @override
    def predict(self, slide: Slide) -> FloatArray:
        out = np.zeros((len(slide), len(slide.genes)), np.float32)
        self.net.eval()
        with torch.inference_mode():
            for batch in ahead(self.batches(slide, None), self.device):
                with self.autocast():
                    predicted = self.infer(batch)
                out[batch.index] = predicted.float().cpu().numpy()
        return self.space.outward(out)

    @override
    def save(self, folder: Path) -> None:
        """Write the network and what the model needs beside it."""
        state = {name: value.detach().cpu().contiguous().clone() for name, value in self._net_state().items()}
        save_file(state, folder / NET)
        space = {"space/scale": self.space.scale, "space/shift": self.space.shift}
        save_kept(folder, self.keep().joined(Fitted(arrays=space, numbers={"genes": self._genes})))

    @override
    def load(self, folder: Path, context: RunContext) -> None:
        """Become the model that was saved in a folder.

        Raises:
            DataError: If the files are not there, or of another network.
        """
        kept = load_kept(folder)
        self.context, self._genes = context, kept.numbers["genes"]
        self.space = Space(kept.arrays["space/scale"], kept.arrays["space/shift"])
        self.restore(kept)
        torch.manual_seed(seed_of("fit", context.seed))
        self.net = self.build(self._genes).to(context.device)
        try:
            self.net.load_state_dict(load_file(folder / NET))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:400]
            msg = f"{folder / NET} does not fit the network of its configuration: {reason}"
            raise DataError(msg) from error
        self.net.eval()

    def _net_state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.net.state_dict()
        return state

    def autocast(self) -> torch.autocast:
        """The precision that was asked for."""
        bf16 = self._context().precision == "bf16"
        return torch.autocast(self.device, torch.bfloat16, enabled=bf16)

    def _context(self) -> RunContext:
        if self.context is None:
            msg = "fit the model first"
            raise ValueError(msg)
        return self.context


class DivergedError(ValueError):
    """The loss or the validation error is not finite."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """One rate, as a multiple of the configured one, of those that are tried."""

    rate: float
    number: int
    of: int


class _Loop:
    """State of one training run."""

    def __init__(
        self, model: TorchModel, train: Sequence[Slide], val: Sequence[Slide], trial: _Trial
    ) -> None:
        self.model, self.config, self.context = model, model.training, model._context()
        self.train, self.trial = train, trial
        self.val = some_blocks(val, self.config.validation_units)
        self.optimiser = _optimiser(self.config, [p for p in model.net.parameters() if p.requires_grad])
        self.planned = self.config.epochs * sum(map(self._units, train))
        self.seen, self.told = 0, 0.0

    def run(self, keeper: Keeper, kept: Kept | None = None, before: Before | None = None) -> float:
        """Train; the net then has the weights of the best epoch, whose validation error is returned.

        Args:
            keeper: Keeps the fit between epochs.
            kept: Where to go on from; None to begin.
            before: The best of earlier trials, to be kept too.
        """
        best, best_state, since, done = math.inf, copy.deepcopy(self.model.net.state_dict()), 0, 0
        if kept:
            best, best_state, since, done = kept["best"], kept["best_net"], kept["since"], kept["epoch"]
            self.seen = kept["seen"]
            self.model.net.load_state_dict(kept["net"])
            self.optimiser.load_state_dict(kept["optimiser"])
        self._make_features()
        for epoch in range(done, self.config.epochs):
            self._epoch(epoch)
            error = self._validate()
            if not math.isfinite(error):
                msg = f"the validation error is {error} after epoch {epoch + 1}; lower the learning rate"
                raise DivergedError(msg)
            if error < best or not self.val:
                best, best_state, since = error, copy.deepcopy(self.model.net.state_dict()), 0
            else:
                since += 1
            if self.config.patience and since >= self.config.patience:
                break
            if keeper.due():
                keeper.save(
                    Kept(
                        trial=self.trial.number,
                        epoch=epoch + 1,
                        best=best,
                        since=since,
                        seen=self.seen,
                        net=self.model.net.state_dict(),
                        best_net=best_state,
                        optimiser=self.optimiser.state_dict(),
                        before=before,
                    )
                )
        self.model.net.load_state_dict(best_state)
        return best

    def _make_features(self) -> None:
        """Have what a model computes once a slide, so that it is not computed beside training."""
        if self.context.device != "cpu":
            for slide in self.train:
                next(self.model.batches(slide, None), None)

    def _epoch(self, epoch: int) -> None:
        self.model.net.train()
        torch.manual_seed(seed_of("epoch", self.context.seed, epoch))
        rng = stream("epoch", self.context.seed, epoch)
        loss = torch.zeros(())
        for batch, labels in ahead(self._drawn(rng), self.context.device):
            loss = self._one_step(batch, labels, epoch)
        self._tell(loss, epoch)

    def _drawn(self, rng: np.random.Generator) -> Iterator[tuple[Batch, BatchLabels]]:
        """Draw the batches of one epoch with their labels."""
        for number in rng.permutation(len(self.train)):
            slide = self.train[number]
            units = self._units(slide)
            for batch in self.model.batches(slide, rng):
                yield batch, self.model.labels(batch)
                units -= len(batch.index)
                if units <= 0:
                    break

    def _units(self, slide: Slide) -> int:
        """How many units of a slide one epoch takes."""
        share = self.config.epoch_units / len(self.train)
        return min(len(slide), math.ceil(share)) if self.config.epoch_units else len(slide)

    def _one_step(self, batch: Batch, labels: BatchLabels, epoch: int) -> Tensor:
        rate = self.config.learning_rate * self.trial.rate * self._factor()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with self.model.autocast():
            loss = self.model.loss(batch, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.seen += len(batch.index)
        if time.monotonic() - self.told > REPORT_S:  # reading the loss waits for the device: seldom
            self._tell(loss, epoch)
        return loss.detach()

    def _tell(self, loss: Tensor, epoch: int) -> None:
        """Report the loss; one that is not finite ends the training."""
        self.told, value = time.monotonic(), float(loss.detach())
        if not math.isfinite(value):
            msg = f"the training loss is {value} in epoch {epoch + 1}; lower the learning rate"
            raise DivergedError(msg)
        share = (self.trial.number + self._share()) / self.trial.of
        self.context.report(Progress(share=share, stage=f"epoch {epoch + 1}", loss=value))

    def _share(self) -> float:
        return min(self.seen / max(self.planned, 1), 1.0)

    def _factor(self) -> float:
        c = self.config
        return rate_factor(c.schedule, self.seen, self.planned // c.epochs, c.epochs, c.batch_size)

    def _validate(self) -> float:
        if not self.val:
            return 0.0
        total, count = 0.0, 0
        for slide in self.val:
            error = self.model.predict(slide) - slide.need_labels().target()
            total += float(np.sum(error.astype(np.float64) ** 2))
            count += error.size
        return total / max(count, 1)


def _optimiser(config: Training, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay, fused = config.learning_rate, config.weight_decay, any(p.is_cuda for p in trained)
    if config.optimiser == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=config.momentum, weight_decay=decay, fused=fused)
    kind = torch.optim.Adam if config.optimiser == "adam" else torch.optim.AdamW
    return kind(trained, lr=rate, weight_decay=decay, fused=fused)
