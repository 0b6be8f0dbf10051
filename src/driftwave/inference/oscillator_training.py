"""The EM loop: early stopping on a validation stretch, checkpoints, progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from driftwave.inference.checkpoint import load_arrays, save_arrays
from driftwave.inference.oscillator_em import maximise
from driftwave.inference.oscillator_likelihood import Observations
from driftwave.inference.oscillator_model import Bounds, Oscillators
from driftwave.progress import Progress

SAVE_EVERY = 10


@dataclass(frozen=True)
class Schedule:
    """When EM stops.

    Attributes
    ----------
    iterations : int
        At most so many.
    tolerance : float
        Stop once an iteration gains less than this on the fitted stretch, nats per sample and
        channel.
    patience : int
        Stop after so many iterations without a better validation loss.
    """

    iterations: int
    tolerance: float
    patience: int


@dataclass(frozen=True)
class Trained:
    """Outcome of the loop.

    Attributes
    ----------
    model : Oscillators
        The iterate with the lowest validation loss.
    train_loss, valid_loss : ndarray (epoch,)
        Negative log-likelihood of each iterate, nats per sample and channel.
    best : int
        Epoch of ``model``.
    """

    model: Oscillators
    train_loss: np.ndarray
    valid_loss: np.ndarray
    best: int


def _save(path: Path, fingerprint: str, arrays: dict[str, np.ndarray]) -> None:
    save_arrays(path, {"fingerprint": np.array(fingerprint), **arrays})


def _load(path: Path, fingerprint: str) -> dict[str, np.ndarray] | None:
    """The arrays of a checkpoint of this very fit; None if there is none."""
    if not path.exists():
        return None
    arrays = load_arrays(path)
    return arrays if str(arrays.pop("fingerprint")) == fingerprint else None


def _model(arrays: dict[str, np.ndarray], prefix: str) -> Oscillators:
    names = Oscillators.__dataclass_fields__
    return Oscillators(**{name: arrays[f"{prefix}_{name}"] for name in names})


def _arrays(model: Oscillators, prefix: str) -> dict[str, np.ndarray]:
    return {f"{prefix}_{name}": array for name, array in model.arrays().items()}


def run_em(
    observations: Observations,
    start: Oscillators,
    bounds: Bounds,
    schedule: Schedule,
    *,
    label: str | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "",
) -> Trained:
    """Iterate EM from ``start``.

    Parameters
    ----------
    observations : Observations
    start : Oscillators
    bounds : Bounds
    schedule : Schedule
    label : str, optional
        Of the progress bar; None shows none.
    checkpoint : Path, optional
        File written to every ten iterations and resumed from.
    fingerprint : str
        Identifies data and settings; a checkpoint with another one is ignored.
    """
    path = checkpoint
    model = best_model = start
    train: list[float] = []
    valid: list[float] = []
    best = 0
    stored = _load(path, fingerprint) if path else None
    if stored is not None:
        model, best_model = _model(stored, "model"), _model(stored, "best")
        train, valid = list(stored["train_loss"]), list(stored["valid_loss"])
        best = int(stored["best"])
    with Progress(schedule.iterations, label) as bar:
        bar.step(len(train))
        while len(train) < schedule.iterations:
            moments = observations.moments(model)
            train.append(-moments.fitted / observations.values)
            valid.append(-moments.validation / observations.later_values)
            bar.step(loss=train[-1], valid=valid[-1])
            if valid[-1] < valid[best] or len(valid) == 1:
                best, best_model = len(valid) - 1, model
            settled = len(train) > 1 and train[-2] - train[-1] < schedule.tolerance
            if settled or len(valid) - 1 - best >= schedule.patience:
                break
            model = maximise(model, moments, bounds)
            if path and len(train) % SAVE_EVERY == 0:
                state = _arrays(model, "model") | _arrays(best_model, "best")
                curves = {"train_loss": np.array(train), "valid_loss": np.array(valid)}
                _save(path, fingerprint, state | curves | {"best": np.array(best)})
    return Trained(best_model, np.array(train), np.array(valid), best)
