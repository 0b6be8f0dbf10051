"""Recurrent decoding: a small network of gated recurrent units that reads the activity in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field

from driftwave.readouts.activity import Activity, Context, Predictor, Scaling, Setting, masked
from driftwave.readouts.driver import decode
from driftwave.readouts.params import Params as SharedParams

PAPER = "Glaser et al. 2020 eNeuro 7:4 (10.1523/ENEURO.0506-19.2020); Cho et al. 2014"
DECODES = "continuous"
QUICK = {"shuffles": 1, "epochs": 2, "hidden": 4, "halves": 1}
LEAST_CHUNK = 60


class Params(SharedParams):
    """Parameters of the decoder."""

    hidden: int = Field(32, ge=1, description="Gated recurrent units.")
    epochs: int = Field(100, ge=1, description="Most passes over the training trials.")
    patience: int = Field(
        8, ge=1, description="Passes without a lower validation error before training stops."
    )
    learning_rate: float = Field(0.005, gt=0, description="Step size of Adam.")
    weight_decays: tuple[float, ...] = Field(
        (1e-3,), min_length=1, description="Weight decays (AdamW) tried; the best by nested folds."
    )
    input_noise: float = Field(
        0.5, ge=0, description="Standard deviation of the noise on standardised inputs in training."
    )
    validation: float = Field(
        0.15, gt=0, lt=0.5, description="Share of the training trials that stops the training."
    )
    batch: int = Field(32, ge=1, description="Sequences per step of the training.")


@dataclass(frozen=True)
class Fitted:
    """A trained network, with the scaling of its inputs and outputs."""

    network: Any
    scaling: Scaling
    centre: np.ndarray
    scale: np.ndarray

    def predict(self, activity: Activity, trials: np.ndarray) -> np.ndarray:
        """Decoded targets; the network starts afresh at each stretch without a break."""
        import torch

        features = activity.features.shape[-1]
        found = np.empty((len(trials), activity.mask.shape[1], len(self.centre)))
        lengths = [(len(some), some) for some in activity.sequences(trials)]
        for length in sorted({number for number, _ in lengths}):
            alike = [some for number, some in lengths if number == length]
            x = np.stack([activity.features[trials[some]].reshape(-1, features) for some in alike])
            with torch.no_grad():
                out = self.network(torch.as_tensor(self.scaling(x), dtype=torch.float32))
            values = out.numpy().astype(float) * self.scale + self.centre
            for some, rows in zip(alike, values, strict=True):
                found[some] = rows.reshape(len(some), -1, len(self.centre))
        return masked(activity, trials, found[activity.mask[trials]])


def network(inputs: int, hidden: int, outputs: int, rng: np.random.Generator) -> Any:
    """A GRU with a linear readout, its weights drawn from ``rng`` alone."""
    import torch

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = torch.nn.GRU(inputs, hidden, batch_first=True)
            self.readout = torch.nn.Linear(hidden, outputs)

        def forward(self, x: Any) -> Any:
            return self.readout(self.recurrent(x)[0])

    # Module constructors draw from torch's global generator, which parallel folds share.
    module = Decoder()
    draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-(hidden**-0.5), hidden**-0.5, generator=draws)
    return module


def chunks(activity: Activity, trials: np.ndarray) -> list[np.ndarray]:
    """Positions of abutting trials that make up training sequences of at least about 60 bins."""
    size = max(1, -(-LEAST_CHUNK // activity.mask.shape[1]))
    return [
        some[start : start + size]
        for some in activity.sequences(trials)
        for start in range(0, len(some), size)
    ]


@dataclass(frozen=True)
class Recurrent:
    """The decoder; see :class:`driftwave.readouts.activity.Decoder`."""

    params: Params
    past: int = 0
    future: int = 0
    joint: bool = True
    costly: bool = True

    def candidates(self) -> Sequence[Setting]:
        """Weight decays."""
        return [{"weight_decay": value} for value in self.params.weight_decays]

    def fit(
        self,
        activity: Activity,
        trials: np.ndarray,
        targets: np.ndarray,
        settings: Sequence[Setting],
        rng: np.random.Generator,
    ) -> list[Predictor]:
        """Train until the error on a part of the training trials no longer falls."""
        stopping, learning = self._divide(activity, trials, rng)
        rows = activity.features[trials[learning]].reshape(-1, activity.features.shape[-1])
        y = targets[learning]
        y = y[np.isfinite(y).all(axis=-1)]
        spread = y.std(axis=0)
        scaling, centre = Scaling.of(rows), y.mean(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        learnt, stops = (
            _padded(activity, trials, targets, part, scaling, centre, scale)
            for part in (learning, stopping)
        )
        seeds = rng.integers(2**62, size=len(settings))
        return [
            Fitted(
                self._train(learnt, stops, setting, np.random.default_rng(seed)),
                scaling,
                centre,
                scale,
            )
            for setting, seed in zip(settings, seeds, strict=True)
        ]

    def _divide(
        self, activity: Activity, trials: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions that stop the training, and those that are learnt from.

        Trials that abut are divided into the last block and the rest, one trial left out between.
        """
        there = np.flatnonzero(activity.mask[trials].any(axis=1))
        count = max(1, round(self.params.validation * len(there)))
        if len(there) < 2:
            return there, there
        if len(activity.sequences(trials)) == len(trials):
            order = rng.permutation(there)
            return np.sort(order[:count]), np.sort(order[count:])
        between = min(1, max(0, len(there) - count - 1))
        return there[-count:], there[: len(there) - count - between]

    def _train(
        self,
        learning: tuple[Any, Any],
        stopping: tuple[Any, Any],
        setting: Setting,
        rng: np.random.Generator,
    ) -> Any:
        import torch

        torch.set_num_threads(1)
        x, y = learning
        module = network(x.shape[-1], self.params.hidden, y.shape[-1], rng)
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        optimiser = torch.optim.AdamW(
            module.parameters(),
            lr=self.params.learning_rate,
            weight_decay=setting["weight_decay"],
        )
        best, kept, since = np.inf, module.state_dict(), 0
        for _ in range(self.params.epochs):
            order = rng.permutation(len(x))
            for start in range(0, len(order), self.params.batch):
                some = torch.as_tensor(order[start : start + self.params.batch])
                noise = torch.randn(x[some].shape, generator=draws) * self.params.input_noise
                loss = _error(module(x[some] + noise), y[some])
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimiser.step()
            with torch.no_grad():
                error = float(_error(module(stopping[0]), stopping[1]))
            since += 1
            if error < best:
                best, since = error, 0
                kept = {name: value.clone() for name, value in module.state_dict().items()}
            if since >= self.params.patience:
                break
        module.load_state_dict(kept)
        return module


def _error(decoded: Any, true: Any) -> Any:
    """Mean squared error over bins that have a target."""
    import torch

    there = torch.isfinite(true)
    return ((decoded - torch.where(there, true, 0.0)) ** 2)[there].mean()


def _padded(
    activity: Activity,
    trials: np.ndarray,
    targets: np.ndarray,
    part: np.ndarray,
    scaling: Scaling,
    centre: np.ndarray,
    scale: np.ndarray,
) -> tuple[Any, Any]:
    """Sequences of equal length: inputs padded with 0, targets with NaN at their ends."""
    import torch

    groups = chunks(activity, trials[part])
    bins, features = activity.mask.shape[1], activity.features.shape[-1]
    longest = max(len(group) for group in groups) * bins
    x = np.zeros((len(groups), longest, features), np.float32)
    y = np.full((len(groups), longest, len(centre)), np.nan, np.float32)
    for number, group in enumerate(groups):
        length = len(group) * bins
        x[number, :length] = scaling(activity.features[trials[part[group]]].reshape(length, -1))
        y[number, :length] = ((targets[part[group]] - centre) / scale).reshape(length, -1)
    return torch.as_tensor(x), torch.as_tensor(y)


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Decode with a gated recurrent network, stopped early on a part of each training fold.

    The network is causal: it starts at zero at the first bin of a trial (or of a stretch of
    abutting windows) and has seen the bins up to the one it decodes. All targets share it.

    Parameters
    ----------
    recording : DataTree
        With spikes, trials, and behaviour or a numeric stimulus.
    latents : Dataset or None
        None for counts; a model's output; or activations.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        As of :func:`driftwave.readouts.driver.decode`. The noise ceiling is that of a ridge
        regression.

    Raises
    ------
    InputError
        Nothing to decode, too few trials, latents of other trials.
    """

    def make(context: Context) -> Recurrent:
        del context
        return Recurrent(params)

    return decode(recording, latents, params, make, seed=seed)
