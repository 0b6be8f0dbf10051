"""Test trials of a recording of spikes, as the figures of its models take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from driftwave.errors import InputError
from driftwave.figures.inputs import need_recording
from driftwave.recording import forward_bins, held_out_units, require, trial_mask

SMOOTHING = 0.04  # s


@dataclass(frozen=True, eq=False)
class SpikeTrials:
    """Test trials.

    Attributes
    ----------
    index : ndarray of int (trial,)
        Where they stand in the recording.
    trial, unit : ndarray
        Their labels.
    counts : ndarray (trial, time, unit)
        spikes/bin.
    true_rate : ndarray (trial, time, unit) or None
        Hz, of a simulation.
    condition : ndarray (trial,)
    held_out : ndarray of bool (unit,)
    seen_bins : int
    time : ndarray (time,)
        Centres of bins, s.
    bin_width : float
        s.
    """

    index: np.ndarray
    trial: np.ndarray
    unit: np.ndarray
    counts: np.ndarray
    true_rate: np.ndarray | None
    condition: np.ndarray
    held_out: np.ndarray
    seen_bins: int
    time: np.ndarray
    bin_width: float

    @property
    def expected(self) -> np.ndarray | None:
        """True rates in spikes/bin."""
        return None if self.true_rate is None else self.true_rate * self.bin_width

    def smoothed(self) -> np.ndarray:
        """Spikes smoothed with a Gaussian of 40 ms, Hz."""
        sd = SMOOTHING / self.bin_width
        return gaussian_filter1d(self.counts / self.bin_width, sd, axis=1, mode="nearest")

    def reference(self) -> tuple[np.ndarray, str]:
        """True rates, or smoothed spikes where they are not known (Hz), and their name."""
        if self.true_rate is not None:
            return self.true_rate, "true rate"
        return self.smoothed(), f"smoothed spikes (sd {SMOOTHING * 1000:.0f} ms)"

    def of(self, dataset: xr.Dataset, name: str) -> np.ndarray | None:
        """A model's variable (trial, time, ...) on these trials; None if it has none."""
        if name not in dataset:
            return None
        data = dataset[name].transpose("trial", "time", ...)
        return data.isel(trial=self.index).values.astype(float)

    def usual_condition(self) -> np.ndarray:
        """Trials of the most frequent condition, the first of them where several tie."""
        values, number = np.unique(self.condition, return_counts=True)
        return np.flatnonzero(self.condition == values[number.argmax()])


def spike_trials(recording: xr.DataTree | None, figure: str) -> SpikeTrials:
    """Read the test trials that a figure draws.

    Raises
    ------
    InputError
        No recording, no spikes or no test trial.
    """
    recording = need_recording(recording, figure)
    spikes = require(recording, "spikes", f"the figure `{figure}`")
    index = np.flatnonzero(trial_mask(recording, "test"))
    if not index.size:
        raise InputError(
            file=recording.attrs["session"],
            field="trials/split",
            found="no test trial",
            expected="at least 1",
            fix="Use more trials or another split in the layout",
        )
    width = float(spikes.attrs["bin_width"])
    truth = recording["truth"].to_dataset() if "truth" in recording.children else {}
    return SpikeTrials(
        index=index,
        trial=spikes["trial"].values[index],
        unit=spikes["unit"].values,
        counts=spikes["counts"].values[index].astype(float),
        true_rate=truth["rate"].values[index].astype(float) if "rate" in truth else None,
        condition=recording["trials"].to_dataset()["condition"].values[index],
        held_out=held_out_units(recording),
        seen_bins=spikes.sizes["time"] - forward_bins(recording),
        time=spikes["time"].values + width / 2,
        bin_width=width,
    )


def need_rates(trials: SpikeTrials, latents: xr.Dataset, figure: str) -> np.ndarray:
    """A model's rates (trial, time, unit) on the test trials, Hz.

    Raises
    ------
    InputError
        If it has none.
    """
    rate = trials.of(latents, "rate")
    if rate is None:
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field="rate",
            found="no rates",
            expected="rate (trial, time, unit), Hz",
            fix=f"Give figure {figure} the latents of a model of spikes",
        )
    return rate
