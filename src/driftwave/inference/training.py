"""One training loop for every network: early stopping, best weights, resuming, divergence."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from driftwave.compute import generator
from driftwave.errors import DriftwaveError
from driftwave.inference.checkpoint import read_sealed, sealed
from driftwave.progress import Progress
from driftwave.store import atomic_path

CHECKPOINT = "training.pt"
MAX_STEP_BACKS = 3
# A training loss this many times the best one's size (plus one) has exploded, finite or not.
EXPLOSION = 100.0


@dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    Attributes
    ----------
    steps : int
        Optimiser steps at most.
    batch : int
        Trials per step.
    learning_rate, weight_decay, betas, clip
        Of AdamW (``optimiser`` "adam": weight decay added to the gradient); ``clip`` bounds the
        gradient's norm.
    rate : {"cosine", "plateau"}
        Cosine decay to a hundredth over ``steps``, or times .95 after 10 epochs without a better
        validation loss, down to 1e-5.
    warmup : int
        Steps over which the learning rate grows from zero.
    decay_warmup : int
        Epochs over which weight decay grows from zero to its value.
    ema : float
        Decay per step of the weights' moving average, which is what is validated and kept; 0 for
        none.
    patience : int
        Epochs without a better validation loss after which training stops.
    epoch_steps : int
        An epoch is as many passes over the trials as give at least this many steps, so that few
        trials do not mean a validation after every step.
    save_every : int
        Epochs between checkpoints.
    """

    steps: int = 2000
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    optimiser: Literal["adamw", "adam"] = "adamw"
    rate: Literal["cosine", "plateau"] = "cosine"
    warmup: int = 0
    decay_warmup: int = 0
    ema: float = 0.99
    patience: int = 50
    epoch_steps: int = 16
    save_every: int = 10

    def epoch_length(self, trials: int) -> tuple[int, int]:
        """Passes per epoch and steps per pass."""
        per_pass = max(1, math.ceil(trials / self.batch))
        return max(1, math.ceil(self.epoch_steps / per_pass)), per_pass


@dataclass
class History:
    """What happened in training: curves, best epoch, how it ended, and anything unusual."""

    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    best_epoch: int = -1
    ended: str = ""
    step_backs: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> float:
        return self.valid_loss[self.best_epoch] if self.best_epoch >= 0 else math.inf


@contextlib.contextmanager
def seeded(seed: int, purpose: str, device: str = "cpu") -> Iterator[None]:
    """Seed torch's generators for a block and put their former state back afterwards."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(generator(seed, purpose).integers(2**62)))
        yield


def train(
    module: nn.Module,
    *,
    loss: Callable[[Tensor, int], Tensor],
    validate: Callable[[], Tensor],
    trials: int,
    schedule: Schedule,
    seed: int,
    label: str | None = None,
    checkpoint: Path | None = None,
    key: str = "",
) -> History:
    """Train ``module`` in place and leave the weights of its best epoch in it.

    Parameters
    ----------
    module : nn.Module
        On its device already. Its method ``undecayed()``, if it has one, names the parameters that
        weight decay spares.
    loss : callable
        ``loss(index, step)``: loss of the training trials ``index`` (int64, on the CPU) at an
        optimiser step, a scalar. Draws whatever noise it needs from torch's default generators.
    validate : callable
        Loss on validation data with the averaged weights, in evaluation mode, without gradient.
        It must not draw from torch's default generators.
    trials : int
        Number of training trials.
    schedule : Schedule
    seed : int
    label : str, optional
        Text of the progress bar; None shows none.
    checkpoint : Path, optional
        Folder. If it holds a checkpoint with the same ``key``, training goes on from there and
        ends with the very numbers of an undisturbed run.
    key : str
        Identifies data, parameters and seed of this fit.

    Returns
    -------
    History

    Raises
    ------
    DriftwaveError
        If no epoch gave a finite validation loss.
    InputError
        If the checkpoint cannot be read, or is not what was written.
    """
    device = str(next(module.parameters()).device)
    with seeded(seed, "training", device):
        run = _Run(module, schedule, trials, key)
        if checkpoint is not None:
            run.resume(Path(checkpoint))
        with Progress(run.epochs, label) as bar:
            if run.epoch:
                bar.step(run.epoch)
            while not run.history.ended:
                run.train_epoch(loss)
                run.judge(validate)
                bar.step(1, loss=run.history.train_loss[-1], valid=run.history.valid_loss[-1])
                if checkpoint is not None and run.epoch % schedule.save_every == 0:
                    run.save(Path(checkpoint))
        run.restore_best()
    return run.history


class _Run:
    """State of one training run: everything that a resumed run needs."""

    def __init__(self, module: nn.Module, schedule: Schedule, trials: int, key: str) -> None:
        self.module = module
        self.schedule = schedule
        self.trials = trials
        self.key = key
        self.passes, self.per_pass = schedule.epoch_length(trials)
        self.epochs = max(1, math.ceil(schedule.steps / (self.passes * self.per_pass)))
        self.weights: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.weights]
        self.kept = [p.detach().clone() for p in self.weights]
        self.history = History()
        self.epoch = 0
        self.step = 0
        self.factor = 1.0
        self.waited = 0
        self.optimiser = self._new_optimiser()

    def _new_optimiser(self) -> torch.optim.Optimizer:
        spared: set[str] = getattr(self.module, "undecayed", set)()
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for name, weight in self.module.named_parameters():
            if weight.requires_grad:
                groups[name not in spared].append(weight)
        chosen = torch.optim.AdamW if self.schedule.optimiser == "adamw" else torch.optim.Adam
        return chosen(
            [{"params": groups[acts], "decays": acts} for acts in groups if groups[acts]],
            lr=self.schedule.learning_rate,
            betas=self.schedule.betas,
            weight_decay=self.schedule.weight_decay,
            fused=True,
        )

    def _set_rates(self) -> None:
        schedule = self.schedule
        rate = schedule.learning_rate * self.factor
        if schedule.rate == "cosine":
            done = min(1.0, self.step / (self.epochs * self.passes * self.per_pass))
            rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        if schedule.warmup:
            rate *= min(1.0, (self.step + 1) / schedule.warmup)
        else:
            rate = max(rate, 1e-5)
        ramp = min(1.0, self.epoch / schedule.decay_warmup) if schedule.decay_warmup else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = rate
            group["weight_decay"] = schedule.weight_decay * ramp * group["decays"]

    def train_epoch(self, loss: Callable[[Tensor, int], Tensor]) -> None:
        """One epoch; its mean loss goes to the history."""
        self.module.train()
        total = torch.zeros((), device=self.weights[0].device)
        for _ in range(self.passes):
            for index in torch.tensor_split(torch.randperm(self.trials), self.per_pass):
                self._set_rates()
                self.optimiser.zero_grad()
                value = loss(index, self.step)
                value.backward()
                nn.utils.clip_grad_norm_(self.weights, self.schedule.clip)
                self.optimiser.step()
                self.step += 1
                self._average()
                total += value.detach()
        self.history.train_loss.append(float(total) / (self.passes * self.per_pass))
        self.epoch += 1

    def _average(self) -> None:
        # A fixed decay would keep the random start in the average for the first epochs.
        decay = min(self.schedule.ema, self.step / (10 + self.step)) if self.schedule.ema else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, 1.0 - decay)

    def judge(self, validate: Callable[[], Tensor]) -> None:
        """Validate the averaged weights; keep them, wait, step back or end."""
        self.module.eval()
        with torch.no_grad():
            self._swap()
            value = float(validate())
            self._swap()
        history = self.history
        trouble = self._trouble(value)
        history.valid_loss.append(math.nan if trouble else value)
        if trouble:
            self._step_back(trouble)
        elif value < history.best:
            history.best_epoch = self.epoch - 1
            self.waited = 0
            torch._foreach_copy_(self.kept, self.average)
        else:
            self.waited += 1
            if self.schedule.rate == "plateau" and self.waited % 11 == 0:
                self.factor *= 0.95
        if not history.ended and self.waited >= self.schedule.patience:
            history.ended = f"no better validation loss for {self.waited} epochs"
        if not history.ended and self.epoch >= self.epochs:
            history.ended = f"all {self.epochs} epochs done"

    def _trouble(self, value: float) -> str:
        """What is wrong with the losses of this epoch; nothing if they are sound."""
        *before, last = self.history.train_loss
        if not (math.isfinite(value) and math.isfinite(last)):
            return "not finite"
        best = min((abs(loss) for loss in before if math.isfinite(loss)), default=abs(last))
        return f"exploded to {last:.3g}" if last > EXPLOSION * (1.0 + best) else ""

    def _step_back(self, trouble: str) -> None:
        """Divergence: back to the best weights with half the learning rate."""
        history = self.history
        history.step_backs += 1
        where = f"epoch {history.best_epoch + 1}" if history.best_epoch >= 0 else "the start"
        history.notes.append(
            f"loss {trouble} in epoch {self.epoch}: back to the weights of {where}, "
            "learning rate halved"
        )
        if history.step_backs > MAX_STEP_BACKS:
            history.ended = f"diverged {history.step_backs} times"
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.kept)
            torch._foreach_copy_(self.average, self.kept)
        self.factor *= 0.5
        self.optimiser = self._new_optimiser()

    def _swap(self) -> None:
        for weight, average in zip(self.weights, self.average, strict=True):
            weight.data, average.data = average.data, weight.data

    def restore_best(self) -> None:
        """Put the weights of the best epoch into the module."""
        if self.history.best_epoch < 0:
            raise DriftwaveError(
                f"Training diverged {self.history.step_backs} times before any epoch gave a finite "
                "loss; lower learning_rate in the model's params."
            )
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.kept)
        self.module.eval()

    def save(self, folder: Path) -> None:
        """Write the whole state, atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        device = self.weights[0].device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        state = {
            "key": self.key,
            "weights": [w.detach() for w in self.weights],
            "average": self.average,
            "kept": self.kept,
            "optimiser": self.optimiser.state_dict(),
            "history": asdict(self.history),
            "counters": [self.epoch, self.step, self.waited, self.factor],
            "rng": torch.get_rng_state(),
            "cuda_rng": cuda,
        }
        with atomic_path(folder / CHECKPOINT) as temporary:
            torch.save(sealed(state), temporary)

    def resume(self, folder: Path) -> None:
        """Take up the state in ``folder`` if it is of this very fit."""
        path = folder / CHECKPOINT
        if not path.exists():
            return
        state = read_sealed(path, _load)
        if state["key"] != self.key:
            self.history.notes.append(
                "a checkpoint of other data, parameters or seed was left unused"
            )
            return
        with torch.no_grad():
            for name in ("weights", "average", "kept"):
                torch._foreach_copy_(getattr(self, name), state[name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.history = History(**state["history"])
        self.epoch, self.step, self.waited, self.factor = state["counters"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.weights[0].device)


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
