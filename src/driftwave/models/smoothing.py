"""Gaussian smoothing of each unit's counts, with Poisson readouts for what is hidden.

The baseline every latent model has to beat. A held-in unit's rate is its own counts smoothed; a
held-out unit's rate is a log-linear Poisson readout of all held-in units' smoothed counts in the
same bin; a forward bin's rates are read out from the smoothed counts at the last seen bin and
shortly before it. Each of the three has its own width, chosen on validation trials.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.inference.data import SpikeArrays, rates_dataset, spike_arrays
from driftwave.inference.hidden import check_same_view
from driftwave.inference.kernel import last_bins, smooth
from driftwave.inference.readout import PoissonReadout, choose_features, poisson_cost, unit_means
from driftwave.progress import Progress

OBSERVES = "spikes"
QUICK = {"widths": [0.02, 0.06], "penalties": [100.0]}


class Params(BaseModel):
    """Parameters of the smoothing baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[float, ...] = Field(
        (0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.3),
        min_length=1,
        description="Candidate standard deviations of the Gaussian kernel, s.",
    )
    penalties: tuple[float, ...] = Field(
        (10.0, 100.0, 1000.0),
        min_length=1,
        description="Candidate ridge penalties of the readouts, nats.",
    )
    thinning: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the validation spikes hidden to choose the width of held-in rates.",
    )
    draws: int = Field(4, ge=1, description="Number of random thinnings averaged.")
    forward_lag: float = Field(
        0.04,
        gt=0,
        description="Forward bins are read out from the last seen bin and this long (s) before it.",
    )
    floor: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Share of a unit's mean training rate mixed in, so that no rate is zero.",
    )


@dataclass(frozen=True)
class Fit:
    """Chosen widths and fitted readouts.

    Attributes
    ----------
    widths : ndarray (3,)
        Chosen kernel width of held-in rates, of the readout of held-out units and of the forward
        readout, bins.
    mean : ndarray (held-in unit,)
        Mean training count, spikes/bin.
    floor, lag : float, int
        Share of the mean mixed in; lag of the forward features, bins.
    held_in : ndarray of bool (unit,)
    seen_bins, bins : int
    readout, forward : PoissonReadout or None
        To the held-out units; to (forward bin x unit). None where there is nothing to predict.
    candidates : ndarray (candidate,)
        Candidate widths, s.
    costs : ndarray (3, candidate)
        Validation cost, nats per entry, for each of ``widths``; NaN where not needed.
    """

    widths: np.ndarray
    mean: np.ndarray
    floor: float
    lag: int
    held_in: np.ndarray
    seen_bins: int
    bins: int
    readout: PoissonReadout | None
    forward: PoissonReadout | None
    candidates: np.ndarray
    costs: np.ndarray

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) of all units and bins from the visible counts; latents are log rates."""
        arrays = spike_arrays(recording, "smoothing")
        check_same_view(recording, arrays, self.held_in, self.seen_bins, self.bins)
        rate = np.empty(arrays.counts.shape)
        seen = rate[:, : self.seen_bins]
        seen[..., self.held_in] = self._held_in_rate(arrays.visible)
        roots = np.sqrt(arrays.visible)
        if self.readout is not None:
            seen[..., ~self.held_in] = self.readout.rate(smooth(roots, self.widths[1]))
        if self.forward is not None:
            features = last_bins(smooth(roots, self.widths[2]), self.lag)
            rate[:, self.seen_bins :] = self.forward.rate(features).reshape(
                len(rate), self.bins - self.seen_bins, -1
            )
        dataset = rates_dataset(
            recording, rate / arrays.bin_width, np.log(rate[..., self.held_in] / arrays.bin_width)
        )
        return dataset.assign(self._curves()).assign_coords(
            candidate_width=("candidate", self.candidates, {"units": "s"})
        )

    def _held_in_rate(self, visible: np.ndarray) -> np.ndarray:
        smoothed = smooth(visible.astype(float), self.widths[0])
        return (1 - self.floor) * smoothed + self.floor * self.mean

    def _curves(self) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
        names = ("valid_cost_rate", "valid_cost_readout", "valid_cost_forward")
        units = {"units": "nats/entry"}
        return {name: ("candidate", self.costs[i], units) for i, name in enumerate(names)}

    def save(self, folder: Path) -> None:
        """Write ``fit.npz``."""
        arrays: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, PoissonReadout):
                arrays |= value.arrays(field.name)
            elif value is not None:
                arrays[field.name] = np.asarray(value)
        np.savez(Path(folder) / "fit.npz", **arrays)

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        with np.load(Path(folder) / "fit.npz", allow_pickle=False) as file:
            arrays = dict(file)
        return cls(
            widths=arrays["widths"],
            mean=arrays["mean"],
            floor=float(arrays["floor"]),
            lag=int(arrays["lag"]),
            held_in=arrays["held_in"],
            seen_bins=int(arrays["seen_bins"]),
            bins=int(arrays["bins"]),
            candidates=arrays["candidates"],
            costs=arrays["costs"],
            readout=PoissonReadout.from_arrays_or_none(arrays, "readout"),
            forward=PoissonReadout.from_arrays_or_none(arrays, "forward"),
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
    """Choose the widths on validation trials and fit the readouts on training trials."""
    arrays = spike_arrays(recording, "smoothing")
    widths = np.asarray(params.widths) / arrays.bin_width
    roots = np.sqrt(arrays.visible)
    mean = unit_means(arrays.visible[arrays.train])
    lag = max(1, round(params.forward_lag / arrays.bin_width))
    costs = np.full((3, widths.size), np.nan)
    chosen = np.zeros(3, dtype=int)
    readout = forward = None
    with Progress(3, progress) as bar:
        costs[0] = _thinned_costs(arrays, params, widths, mean, seed)
        chosen[0] = np.argmin(costs[0])
        bar.step(valid=costs[0].min())
        if not arrays.held_in.all():
            choice = choose_features(
                lambda i: smooth(roots, widths[i]),
                widths.size,
                arrays.counts[:, : arrays.seen_bins, ~arrays.held_in],
                arrays.train,
                arrays.valid,
                params.penalties,
            )
            chosen[1], costs[1], readout = choice.index, choice.costs, choice.readout
        bar.step()
        forward_bins = arrays.counts.shape[1] - arrays.seen_bins
        if forward_bins:
            choice = choose_features(
                lambda i: last_bins(smooth(roots, widths[i]), lag),
                widths.size,
                arrays.counts[:, arrays.seen_bins :].reshape(len(roots), -1),
                arrays.train,
                arrays.valid,
                params.penalties,
                base=np.tile(
                    unit_means(arrays.counts[arrays.train, arrays.seen_bins :]), forward_bins
                ),
            )
            chosen[2], costs[2], forward = choice.index, choice.costs, choice.readout
        bar.step()
    return Fit(
        widths=np.where(np.isfinite(costs).any(1), widths[chosen], np.nan),
        mean=mean,
        floor=params.floor,
        lag=lag,
        held_in=arrays.held_in,
        seen_bins=arrays.seen_bins,
        bins=arrays.counts.shape[1],
        readout=readout,
        forward=forward,
        candidates=np.asarray(params.widths),
        costs=costs,
    )


def _thinned_costs(
    arrays: SpikeArrays, params: Params, widths: np.ndarray, mean: np.ndarray, seed: int
) -> np.ndarray:
    """Validation cost of each width on spikes hidden from the smoother.

    Given the rate, the two parts of a randomly split Poisson count are independent, so the hidden
    part scores the smoothed visible part without the bin's own spikes having been seen.
    """
    rng = generator(seed, "smoothing")
    counts = arrays.visible[arrays.valid].astype(np.int64)
    share = params.thinning
    costs = np.zeros(widths.size)
    for _ in range(params.draws):
        hidden = rng.binomial(counts, share)
        for index, width in enumerate(widths):
            rate = smooth((counts - hidden).astype(float), width) / (1 - share)
            rate = (1 - params.floor) * rate + params.floor * mean
            costs[index] += poisson_cost(np.log(share * rate), hidden) / params.draws
    return costs
