"""Poisson linear dynamical system fitted by Laplace-EM, with exact smoothing of the mode.

Latents follow ``x_{t+1} = A x_t + w``, ``w ~ N(0, Q)``, ``x_1 ~ N(m0, V0)``, and counts are
``Poisson(exp(C x + d))``. EM starts from subspace identification of the counts' moments (Buesing et
al. 2012) and stops when units that are left out of inference are predicted no better; the number of
latents is chosen the same way, on validation trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.inference.data import rates_dataset, spike_arrays
from driftwave.inference.hidden import check_same_view
from driftwave.inference.poisson_em import (
    PoissonLds,
    first_guess,
    in_standard_coordinates,
)
from driftwave.inference.poisson_training import EmSchedule, LdsRun, fit_key, run_em
from driftwave.inference.selection import leave_units_out, numbers_of_latents, some_trials
from driftwave.progress import Progress

OBSERVES = "spikes"
PAPER = "Macke et al. 2011, NIPS 24"
GIVES_CURVES = True
QUICK = {"latents": [2, 4], "iterations": 10}
CURVES = ("train_loss", "valid_loss")


class Params(BaseModel):
    """Parameters of the Poisson linear dynamical system."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latents: tuple[int, ...] = Field(
        (3, 6, 10, 16),
        min_length=1,
        description="Candidate numbers of latents, tried upwards until validation gets worse.",
    )
    iterations: int = Field(60, ge=1, description="Largest number of EM iterations of a fit.")
    check_every: int = Field(
        5, ge=1, description="EM iterations between two looks at the validation trials."
    )
    tolerance: float = Field(
        3e-4,
        ge=0,
        description="EM stops when a look gains less than this on validation, nats per spike.",
    )
    penalty: float = Field(1.0, gt=0, description="Prior precision of a loading.")
    folds: int = Field(5, ge=2, description="Groups of units left out in turn to validate.")
    selection_bins: int = Field(
        15_000,
        ge=1,
        description="Candidates are compared on random training trials of about this many bins.",
    )


@dataclass(frozen=True)
class Fit:
    """A Poisson linear dynamical system.

    Attributes
    ----------
    model : PoissonLds
    held_in : ndarray of bool (unit,)
    seen_bins, bins : int
    lowest, highest : ndarray (unit,)
        Bounds of the log rates (spikes/bin): half a spike in the training set, and one spike more
        than the largest training count.
    epoch : ndarray of int (epoch,)
        EM iterations done at each look.
    train_loss, valid_loss : ndarray (epoch,)
        Minus the log-likelihood and cost of units left out, nats per entry.
    candidates : ndarray of int (candidate,)
        Numbers of latents tried.
    costs : ndarray (candidate,)
        Validation cost of each, nats per entry.
    """

    model: PoissonLds
    held_in: np.ndarray
    seen_bins: int
    bins: int
    lowest: np.ndarray
    highest: np.ndarray
    epoch: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray
    candidates: np.ndarray
    costs: np.ndarray

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) of all units and bins and the latents, from the visible counts.

        ``rate`` is the posterior mean of exp(C x + d); in forward bins the posterior follows from
        the dynamics. ``frequency`` and ``decay`` describe the eigenvalues of A.
        """
        arrays = spike_arrays(recording, "poisson_lds")
        check_same_view(recording, arrays, self.held_in, self.seen_bins, self.bins)
        posterior = self.model.infer(arrays.visible, self.held_in, bins=self.bins)
        log_rate = self.model.loadings.log_rate(posterior.mean, posterior.covariance)
        rate = np.exp(np.clip(log_rate, self.lowest, self.highest))
        variance = np.diagonal(posterior.covariance, axis1=-2, axis2=-1)
        dataset = rates_dataset(
            recording,
            rate / arrays.bin_width,
            posterior.mean,
            latent_sd=np.sqrt(variance),
            curves={name: getattr(self, name) for name in CURVES},
        )
        for name in CURVES:
            dataset[name].attrs["units"] = "nats per bin and unit"
        dataset.attrs["best_epoch"] = int(np.nanargmin(self.valid_loss)) + 1
        dataset.attrs["spectral_radius"] = self.model.dynamics.spectral_radius
        dataset = dataset.assign(
            valid_cost=("candidate", self.costs, {"units": "nats/entry"}),
            **self._modes(arrays.bin_width),
        )
        return dataset.assign_coords(
            epoch=self.epoch,
            candidate_latents=("candidate", self.candidates, {"units": "1"}),
        )

    def _modes(self, bin_width: float) -> dict[str, Any]:
        """Frequency and decay time of A's eigenvalues, one of a conjugate pair, slow first."""
        values = np.linalg.eigvals(self.model.dynamics.transition)
        values = values[values.imag >= 0]
        values = values[np.argsort(-np.abs(values))]
        decay = -bin_width / np.log(np.maximum(np.abs(values), np.finfo(float).tiny))
        frequency = np.angle(values) / (2 * np.pi * bin_width)
        return {
            "frequency": ("mode", frequency, {"units": "Hz"}),
            "decay": ("mode", decay, {"units": "s"}),
        }

    def save(self, folder: Path) -> None:
        """Write ``fit.npz``."""
        arrays: dict[str, Any] = {n: value for n, value in vars(self).items() if n != "model"}
        np.savez(Path(folder) / "fit.npz", **(arrays | self.model.arrays()))

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        with np.load(Path(folder) / "fit.npz", allow_pickle=False) as file:
            arrays = dict(file)
        plain: dict[str, Any] = {
            name: arrays[name] for name in cls.__dataclass_fields__ if name != "model"
        }
        plain |= {name: int(arrays[name]) for name in ("seen_bins", "bins")}
        return cls(model=PoissonLds.from_arrays(arrays), **plain)


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str,  # noqa: ARG001
    progress: str | None,
    checkpoint: Path | None,
) -> Fit:
    """Choose the number of latents on validation trials; fit to the training trials."""
    arrays = spike_arrays(recording, "poisson_lds")
    train = np.flatnonzero(arrays.train)
    few = some_trials(arrays, params.selection_bins, seed, "poisson_lds")
    views = leave_units_out(arrays.held_in, params.folds, seed, "poisson_lds")
    schedule = EmSchedule(params.iterations, params.check_every, params.tolerance, params.penalty)
    key = fit_key(arrays, params.model_dump_json(), seed) if checkpoint else ""
    candidates = numbers_of_latents(arrays, params.latents)
    tried: dict[int, LdsRun] = {}
    with Progress(schedule.looks * (len(candidates) + 1), progress) as bar:

        def run(start: PoissonLds, trials: np.ndarray, name: str) -> LdsRun:
            path = checkpoint / f"{name}.npz" if checkpoint else None
            return run_em(start, arrays, trials, views, schedule, bar, checkpoint=path, key=key)

        for count in candidates:
            start = first_guess(arrays.counts[few], count)
            tried[count] = run(start, few, f"latents_{count}")
            if tried[count].cost > min(other.cost for other in tried.values()):
                break
        best = min(tried.values(), key=lambda found: found.cost)
        whole = best if few.size == train.size else run(best.best, train, "whole")
    counts = arrays.counts[arrays.train]
    return Fit(
        model=in_standard_coordinates(whole.best, counts),
        held_in=arrays.held_in,
        seen_bins=arrays.seen_bins,
        bins=counts.shape[1],
        lowest=np.full(counts.shape[2], np.log(0.5 / counts[..., 0].size)),
        highest=np.log(counts.max((0, 1)) + 1.0),
        epoch=np.minimum(
            params.check_every * np.arange(1, len(whole.train_loss) + 1), params.iterations
        ),
        train_loss=np.array(whole.train_loss),
        valid_loss=np.array(whole.valid_loss),
        candidates=np.array(list(tried)),
        costs=np.array([found.cost for found in tried.values()]),
    )
