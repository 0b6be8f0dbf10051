"""Factor analysis of smoothed square-root counts, with Poisson readouts to all units.

Square roots stabilise the variance of Poisson counts; they are smoothed and modelled as
``x = mean + loading z + noise`` with independent noise per unit, and a log-linear Poisson readout
turns the factors into rates (the two-stage method of the paper). A unit's rate is read out from
factors inferred without that unit, or the readout would reproduce the unit's own noise; kernel
width and number of factors are chosen by the same leave-units-out prediction (the paper's
"leave-neuron-out") on validation trials. The latents are the factors inferred from all held-in
units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.inference.data import SpikeArrays, rates_dataset, spike_arrays
from driftwave.inference.factors import Factors, fit_factors
from driftwave.inference.hidden import check_same_view
from driftwave.inference.kernel import last_bins, smooth
from driftwave.inference.readout import (
    PoissonReadout,
    choose_features,
    fit_readout,
    flat,
    poisson_cost,
    unit_means,
)
from driftwave.progress import Progress

OBSERVES = "spikes"
PAPER = "Yu et al. 2009, J Neurophysiol 102:614"
QUICK = {"widths": [0.03], "factors": [2, 3], "penalties": [100.0]}


class Params(BaseModel):
    """Parameters of the factor-analysis baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[float, ...] = Field(
        (0.01, 0.015, 0.02, 0.03, 0.05, 0.08),
        min_length=1,
        description="Candidate standard deviations of the Gaussian kernel, s.",
    )
    factors: tuple[int, ...] = Field(
        (3, 5, 8, 12, 16),
        min_length=1,
        description="Candidate numbers of factors; those not below the number of held-in units "
        "are left out.",
    )
    penalties: tuple[float, ...] = Field(
        (10.0, 100.0, 1000.0),
        min_length=1,
        description="Candidate ridge penalties of the readouts, nats.",
    )
    folds: int = Field(
        5, ge=2, description="Groups of units left out in turn to train and to choose."
    )
    forward_lag: float = Field(
        0.04,
        gt=0,
        description="Forward bins are read out from the last seen bin and this long (s) before it.",
    )
    iterations: int = Field(1000, ge=1, description="Largest number of EM iterations.")
    selection_bins: int = Field(
        20_000,
        ge=1,
        description="Candidates are compared on random training trials of about this many bins.",
    )


@dataclass(frozen=True)
class View:
    """Some units to predict and the held-in units they are predicted from.

    Attributes
    ----------
    targets : ndarray of int (target,)
        Their places among all units.
    shown : ndarray of bool (held-in unit,)
    """

    targets: np.ndarray
    shown: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A factor analysis and its readouts.

    Attributes
    ----------
    model : Factors
        Of the held-in units' smoothed square-root counts.
    width : float
        Kernel width, bins.
    views : list of View
        Which units are read out from factors inferred from which.
    readouts : list of PoissonReadout
        One for each view, from the factors to its units in the same bin.
    forward : PoissonReadout or None
        From the factors at the last seen bin, and a lag before, to (forward bin x unit).
    forecast : ndarray (2 factor + 1, forward bin x factor)
        Linear forecast of the factors in the forward bins; last row: intercept.
    lag : int
        bins.
    held_in : ndarray of bool (unit,)
    seen_bins, bins : int
    candidates : ndarray (candidate, 2)
        Kernel width (s) and number of factors.
    costs : ndarray (candidate,)
        Validation cost of each on units left out, nats per entry.
    """

    model: Factors
    width: float
    views: list[View]
    readouts: list[PoissonReadout]
    forward: PoissonReadout | None
    forecast: np.ndarray
    lag: int
    held_in: np.ndarray
    seen_bins: int
    bins: int
    candidates: np.ndarray
    costs: np.ndarray

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) of all units and bins and the factors, from the visible counts."""
        arrays = spike_arrays(recording, "factor_analysis")
        check_same_view(recording, arrays, self.held_in, self.seen_bins, self.bins)
        smoothed = smooth(np.sqrt(arrays.visible), self.width)
        rate = np.empty(arrays.counts.shape)
        for view, readout in zip(self.views, self.readouts, strict=True):
            factors = self.model.infer(smoothed, view.shown)
            rate[:, : self.seen_bins, view.targets] = readout.rate(factors)
        latent = self.model.infer(smoothed)
        if self.forward is not None:
            shape = (len(rate), self.bins - self.seen_bins, -1)
            ends = last_bins(latent, self.lag)
            rate[:, self.seen_bins :] = self.forward.rate(ends).reshape(shape)
            latent = np.concatenate([latent, (_with_one(ends) @ self.forecast).reshape(shape)], 1)
        dataset = rates_dataset(recording, rate / arrays.bin_width, latent)
        return dataset.assign(
            valid_cost=("candidate", self.costs, {"units": "nats/entry"})
        ).assign_coords(
            candidate_width=("candidate", self.candidates[:, 0], {"units": "s"}),
            candidate_factors=("candidate", self.candidates[:, 1].astype(int), {"units": "1"}),
        )

    def save(self, folder: Path) -> None:
        """Write ``fit.npz``."""
        plain = ("width", "forecast", "lag", "held_in", "seen_bins", "bins", "candidates", "costs")
        arrays: dict[str, Any] = {name: np.asarray(getattr(self, name)) for name in plain}
        arrays |= {f"model_{name}": value for name, value in vars(self.model).items()}
        for i, (view, readout) in enumerate(zip(self.views, self.readouts, strict=True)):
            arrays |= {f"view{i}_targets": view.targets, f"view{i}_shown": view.shown}
            arrays |= readout.arrays(f"view{i}_readout")
        if self.forward is not None:
            arrays |= self.forward.arrays("forward")
        np.savez(Path(folder) / "fit.npz", **arrays)

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        with np.load(Path(folder) / "fit.npz", allow_pickle=False) as file:
            arrays = dict(file)
        views: list[View] = []
        readouts: list[PoissonReadout] = []
        while f"view{len(views)}_shown" in arrays:
            prefix = f"view{len(views)}"
            views.append(View(arrays[f"{prefix}_targets"], arrays[f"{prefix}_shown"]))
            readouts.append(PoissonReadout.from_arrays(arrays, f"{prefix}_readout"))
        return cls(
            model=Factors(*(arrays[f"model_{name}"] for name in Factors.__dataclass_fields__)),
            width=float(arrays["width"]),
            views=views,
            readouts=readouts,
            forward=PoissonReadout.from_arrays_or_none(arrays, "forward"),
            forecast=arrays["forecast"],
            lag=int(arrays["lag"]),
            held_in=arrays["held_in"],
            seen_bins=int(arrays["seen_bins"]),
            bins=int(arrays["bins"]),
            candidates=arrays["candidates"],
            costs=arrays["costs"],
        )


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str,  # noqa: ARG001
    progress: str | None,
    checkpoint: Path | None,  # noqa: ARG001
) -> Fit:
    """Choose width and number of factors on validation trials; train on training trials."""
    arrays = spike_arrays(recording, "factor_analysis")
    views = leave_units_out(arrays.held_in, params.folds, seed)
    factors = [n for n in params.factors if n < arrays.held_in.sum()]
    factors = factors or [max(1, int(arrays.held_in.sum()) - 1)]
    steps = len(params.widths) + len(factors) + len(params.penalties)
    fewer = _fewer_trials(arrays, params.selection_bins, seed)
    with Progress(steps, progress) as bar:
        width, count, tried = _choose(fewer, views, params, factors, bar)
        model, smoothed = _model(arrays, width, count, params)
        penalty = _best(
            params.penalties, lambda p: _valid_cost(model, smoothed, fewer, views, p), bar
        )
        readouts = [found[-1] for found in _each_view(model, smoothed, arrays, views, penalty)]
        lag = max(1, round(params.forward_lag / arrays.bin_width))
        forward, forecast = _fit_forward(arrays, model, smoothed, width, lag, params)
    return Fit(
        model=model,
        width=width / arrays.bin_width,
        views=views,
        readouts=readouts,
        forward=forward,
        forecast=forecast,
        lag=lag,
        held_in=arrays.held_in,
        seen_bins=arrays.seen_bins,
        bins=arrays.counts.shape[1],
        candidates=np.array(list(tried), dtype=float),
        costs=np.array(list(tried.values())),
    )


def leave_units_out(held_in: np.ndarray, folds: int, seed: int) -> list[View]:
    """Random groups of held-in units, each to be predicted from the others, and the held-out ones.

    Parameters
    ----------
    held_in : ndarray of bool (unit,)
    folds : int
        Number of groups; fewer if there are fewer held-in units.
    """
    visible = np.flatnonzero(held_in)
    order = generator(seed, "factor_analysis").permutation(visible.size)
    groups = np.array_split(order, min(folds, visible.size))
    views = []
    for group in groups:
        shown = np.ones(visible.size, dtype=bool)
        shown[group] = False
        views.append(View(visible[group], shown))
    if not held_in.all():
        views.append(View(np.flatnonzero(~held_in), np.ones(visible.size, dtype=bool)))
    return views


def _fewer_trials(arrays: SpikeArrays, bins: int, seed: int) -> SpikeArrays:
    """The same arrays with fewer training trials, where they hold more than ``bins`` bins."""
    train = np.flatnonzero(arrays.train)
    wanted = max(2, bins // arrays.seen_bins)
    if train.size <= wanted:
        return arrays
    chosen = np.zeros_like(arrays.train)
    rng = generator(seed, "factor_analysis", "selection")
    chosen[rng.choice(train, wanted, replace=False)] = True
    return replace(arrays, train=chosen)


def _choose(
    arrays: SpikeArrays, views: list[View], params: Params, factors: list[int], bar: Progress
) -> tuple[float, int, dict[tuple[float, int], float]]:
    """Best width at the middle number of factors, then best number of factors at that width."""
    penalty = params.penalties[len(params.penalties) // 2]
    tried: dict[tuple[float, int], float] = {}

    def cost(width: float, count: int) -> float:
        if (width, count) not in tried:
            model, smoothed = _model(arrays, width, count, params)
            tried[width, count] = _valid_cost(model, smoothed, arrays, views, penalty)
        return tried[width, count]

    middle = factors[len(factors) // 2]
    width = _best(params.widths, lambda w: cost(w, middle), bar)
    return width, _best(factors, lambda n: cost(width, n), bar), tried


def _best(options: Sequence[Any], cost: Callable[[Any], float], bar: Progress) -> Any:
    """The option of least cost."""
    costs = []
    for option in options:
        costs.append(cost(option))
        bar.step(valid=costs[-1])
    return options[int(np.argmin(costs))]


def _model(
    arrays: SpikeArrays, width: float, count: int, params: Params
) -> tuple[Factors, np.ndarray]:
    """Factor analysis of the training trials, and all trials' smoothed roots it applies to."""
    smoothed = smooth(np.sqrt(arrays.visible), width / arrays.bin_width)
    samples = flat(smoothed[arrays.train]).astype(float)
    mean = samples.mean(0)
    centred = samples - mean
    covariance = centred.T @ centred / len(samples)
    model = fit_factors(mean, covariance, count, samples=len(samples), iterations=params.iterations)
    return model, smoothed


def _each_view(
    model: Factors, smoothed: np.ndarray, arrays: SpikeArrays, views: list[View], penalty: float
) -> Iterator[tuple[View, np.ndarray, np.ndarray, PoissonReadout]]:
    """For each view: its factors, its target counts and the readout trained between them."""
    for view in views:
        latent = model.infer(smoothed, view.shown)
        counts = arrays.counts[:, : arrays.seen_bins, view.targets]
        train = flat(latent[arrays.train]), flat(counts[arrays.train])
        yield view, latent, counts, fit_readout(*train, penalty)


def _valid_cost(
    model: Factors, smoothed: np.ndarray, arrays: SpikeArrays, views: list[View], penalty: float
) -> float:
    """Validation cost of every unit predicted without itself, nats per entry."""
    total = 0.0
    for view, latent, counts, readout in _each_view(model, smoothed, arrays, views, penalty):
        log_rate = readout.log_rate(latent[arrays.valid])
        total += view.targets.size * poisson_cost(log_rate, counts[arrays.valid])
    return total / arrays.held_in.size


def _fit_forward(
    arrays: SpikeArrays,
    model: Factors,
    smoothed: np.ndarray,
    width: float,
    lag: int,
    params: Params,
) -> tuple[PoissonReadout | None, np.ndarray]:
    """Readout of the forward bins' counts, and least-squares forecast of their factors.

    The forecast's targets are the factors inferred from whole training trials.
    """
    bins, factors = arrays.counts.shape[1] - arrays.seen_bins, len(model.components)
    if not bins:
        return None, np.zeros((2 * factors + 1, 0))
    ends = last_bins(model.infer(smoothed), lag)
    choice = choose_features(
        lambda _: ends,
        1,
        arrays.counts[:, arrays.seen_bins :].reshape(len(ends), -1),
        arrays.train,
        arrays.valid,
        params.penalties,
        base=np.tile(unit_means(arrays.counts[arrays.train, arrays.seen_bins :]), bins),
    )
    roots = np.sqrt(arrays.counts[arrays.train][..., arrays.held_in])
    whole = model.infer(smooth(roots, width / arrays.bin_width))
    design = _with_one(ends[arrays.train])
    gram = design.T @ design
    # A little ridge keeps the forecast defined with fewer training trials than features.
    ridge = 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
    goal = whole[:, arrays.seen_bins :].reshape(len(whole), -1)
    return choice.readout, np.linalg.solve(gram + ridge, design.T @ goal)


def _with_one(features: np.ndarray) -> np.ndarray:
    return np.column_stack([features, np.ones(len(features))])
