"""Gaussian-process factor analysis of square-root counts, with Poisson readouts to all units.

Square roots stabilise the variance of Poisson counts; they are modelled as ``C x + d + noise`` with
latents that are smooth in time, each with a timescale of its own, fitted by exact EM. A log-linear
Poisson readout turns the posterior of the latents into rates of all units; forward bins follow from
the Gaussian processes. The number of latents is chosen by the paper's leave-neuron-out prediction
on validation trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.inference.data import SpikeArrays, rates_dataset, spike_arrays
from driftwave.inference.gaussian_process import (
    GpFactors,
    first_guess,
    orthonormal,
    smoother,
)
from driftwave.inference.gp_training import (
    GpReadout,
    GpRun,
    fit_readouts,
    run_em,
    segments,
)
from driftwave.inference.hidden import check_same_view
from driftwave.inference.selection import (
    View,
    leave_units_out,
    numbers_of_latents,
    some_trials,
)
from driftwave.progress import Progress

OBSERVES = "spikes"
PAPER = "Yu et al. 2009, J Neurophysiol 102:614"
GIVES_CURVES = True
QUICK = {"latents": [2, 4], "iterations": 10, "penalties": [100.0]}
CURVES = ("train_loss", "valid_loss")


class Params(BaseModel):
    """Parameters of Gaussian-process factor analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latents: tuple[int, ...] = Field(
        (2, 3, 5, 8, 12),
        min_length=1,
        description="Candidate numbers of latents, tried upwards until validation gets worse.",
    )
    transform: Literal["sqrt", "none"] = Field(
        "sqrt", description="Model square roots of the counts (the paper's choice) or the counts."
    )
    iterations: int = Field(300, ge=1, description="Largest number of EM iterations of a fit.")
    check_every: int = Field(
        5, ge=1, description="EM iterations between two looks at the validation trials."
    )
    tolerance: float = Field(
        1e-4,
        ge=0,
        description="EM stops when a look gains less log-likelihood than this on validation "
        "trials, nats per entry.",
    )
    penalties: tuple[float, ...] = Field(
        (10.0, 100.0, 1000.0),
        min_length=1,
        description="Candidate ridge penalties of the readouts, nats.",
    )
    folds: int = Field(
        5, ge=2, description="Groups of units left out in turn to train readouts and to choose."
    )
    segment_bins: int = Field(
        100, ge=2, description="Longer trials are cut into overlapping pieces to train on."
    )
    selection_bins: int = Field(
        15_000,
        ge=1,
        description="Candidates are compared on random training trials of about this many bins.",
    )


@dataclass(frozen=True)
class Fit:
    """Gaussian-process factor analysis of the held-in units and its readouts.

    Attributes
    ----------
    model : GpFactors
    transform : str
    views : list of View
        Which units' readout was trained on latents inferred from which.
    readouts : list of GpReadout
        One for each view.
    held_in : ndarray of bool (unit,)
    seen_bins, bins : int
    epoch : ndarray of int (epoch,)
        EM iterations done at each look.
    train_loss, valid_loss : ndarray (epoch,)
        Minus the log-likelihood of transformed counts, nats per entry.
    candidates : ndarray of int (candidate,)
        Numbers of latents tried.
    costs : ndarray (candidate,)
        Validation cost of each on units left out, nats per entry.
    """

    model: GpFactors
    transform: str
    views: list[View]
    readouts: list[GpReadout]
    held_in: np.ndarray
    seen_bins: int
    bins: int
    epoch: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray
    candidates: np.ndarray
    costs: np.ndarray

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) of all units and bins and the latents, from the visible counts.

        Latents are those of orthonormal loadings, ordered by the variance that they explain;
        ``timescale`` belongs to the Gaussian processes that they are made of.
        """
        arrays = spike_arrays(recording, "gpfa")
        check_same_view(recording, arrays, self.held_in, self.seen_bins, self.bins)
        found = smoother(self.model, self.seen_bins, self.bins)
        latent = found.mean(self.model.reduced(_transformed(arrays.visible, self.transform)))
        covariance = found.marginal()
        rate = np.empty(arrays.counts.shape)
        for view, readout in zip(self.views, self.readouts, strict=True):
            rate[..., view.targets] = np.exp(readout.log_rate(latent, covariance))
        turn = orthonormal(self.model)
        variance = np.einsum("jk,tkl,jl->tj", turn, covariance, turn)
        latent = latent @ turn.T
        dataset = rates_dataset(
            recording,
            rate / arrays.bin_width,
            latent,
            latent_sd=np.broadcast_to(np.sqrt(variance), latent.shape),
            curves={name: getattr(self, name) for name in CURVES},
        )
        for name in CURVES:
            dataset[name].attrs["units"] = "nats per bin and unit"
        dataset.attrs["best_epoch"] = int(np.argmin(self.valid_loss)) + 1
        return dataset.assign(
            valid_cost=("candidate", self.costs, {"units": "nats/entry"}),
            timescale=("process", self.model.timescale * arrays.bin_width, {"units": "s"}),
        ).assign_coords(
            epoch=self.epoch,
            candidate_latents=("candidate", self.candidates, {"units": "1"}),
        )

    def save(self, folder: Path) -> None:
        """Write ``fit.npz``."""
        parts = ("model", "views", "readouts")
        arrays: dict[str, Any] = {
            name: np.asarray(value) for name, value in vars(self).items() if name not in parts
        }
        arrays |= {f"model_{name}": value for name, value in self.model.arrays().items()}
        for i, (view, readout) in enumerate(zip(self.views, self.readouts, strict=True)):
            arrays |= {f"view{i}_targets": view.targets, f"view{i}_sources": view.sources}
            arrays |= readout.arrays(f"view{i}_readout")
        np.savez(Path(folder) / "fit.npz", **arrays)

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        with np.load(Path(folder) / "fit.npz", allow_pickle=False) as file:
            arrays = dict(file)
        views: list[View] = []
        readouts: list[GpReadout] = []
        while f"view{len(views)}_targets" in arrays:
            prefix = f"view{len(views)}"
            views.append(View(arrays[f"{prefix}_targets"], arrays[f"{prefix}_sources"]))
            readouts.append(GpReadout.from_arrays(arrays, f"{prefix}_readout"))
        model = {n.removeprefix("model_"): v for n, v in arrays.items() if n.startswith("model_")}
        return cls(
            model=GpFactors.from_arrays(model),
            transform=str(arrays["transform"]),
            views=views,
            readouts=readouts,
            held_in=arrays["held_in"],
            seen_bins=int(arrays["seen_bins"]),
            bins=int(arrays["bins"]),
            **{name: arrays[name] for name in ("epoch", *CURVES, "candidates", "costs")},
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
    """Choose the number of latents on validation trials; fit to the training trials."""
    arrays = spike_arrays(recording, "gpfa")
    train = np.flatnonzero(arrays.train)
    few = some_trials(arrays, params.selection_bins, seed, "gpfa")
    task = _Task(arrays, params, seed)
    candidates = numbers_of_latents(arrays, params.latents)
    tried: dict[int, tuple[GpRun, float]] = {}
    looks = -(-params.iterations // params.check_every)
    with Progress(looks * (len(candidates) + 1), progress) as bar:
        middle = (params.penalties[len(params.penalties) // 2],)
        for count in candidates:
            run = task.run(task.start(few, count), few, bar)
            tried[count] = run, task.readouts(run.model, few, middle)[1]
            if tried[count][1] > min(cost for _, cost in tried.values()):
                break
        whole = min(tried.values(), key=lambda pair: pair[1])[0]
        if few.size < train.size:
            whole = task.run(whole.model, train, bar)
        readouts, _ = task.readouts(whole.model, train, params.penalties)
    return Fit(
        model=whole.model,
        transform=params.transform,
        views=task.views,
        readouts=readouts,
        held_in=arrays.held_in,
        seen_bins=arrays.seen_bins,
        bins=arrays.counts.shape[1],
        epoch=np.minimum(
            params.check_every * np.arange(1, len(whole.train_loss) + 1), params.iterations
        ),
        train_loss=np.array(whole.train_loss),
        valid_loss=np.array(whole.valid_loss),
        candidates=np.array(list(tried)),
        costs=np.array([cost for _, cost in tried.values()]),
    )


def _transformed(counts: np.ndarray, transform: str) -> np.ndarray:
    values = np.asarray(counts, dtype=float)
    return np.sqrt(values) if transform == "sqrt" else values


class _Task:
    """The recording as the model is fitted to it: held-in units, all bins of training trials."""

    def __init__(self, arrays: SpikeArrays, params: Params, seed: int) -> None:
        self.arrays = arrays
        self.params = params
        self.views = leave_units_out(arrays.held_in, params.folds, seed, "gpfa")

    def _values(self, trials: np.ndarray) -> np.ndarray:
        counts = self.arrays.counts[trials][..., self.arrays.held_in]
        return segments(_transformed(counts, self.params.transform), self.params.segment_bins)

    def start(self, trials: np.ndarray, count: int) -> GpFactors:
        return first_guess(self._values(trials), count)

    def run(self, start: GpFactors, trials: np.ndarray, bar: Progress) -> GpRun:
        return run_em(
            start,
            self._values(trials),
            self._values(np.flatnonzero(self.arrays.valid)),
            bar,
            iterations=self.params.iterations,
            check_every=self.params.check_every,
            tolerance=self.params.tolerance,
        )

    def readouts(
        self, model: GpFactors, trials: np.ndarray, penalties: tuple[float, ...]
    ) -> tuple[list[GpReadout], float]:
        """Readouts trained on some training trials, and the validation cost."""
        seen = self.arrays.counts[:, : self.arrays.seen_bins]

        def pair(trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            visible = seen[trials][..., self.arrays.held_in]
            return _transformed(visible, self.params.transform), seen[trials]

        return fit_readouts(model, self.views, pair(trials), pair(self.arrays.valid), penalties)
