"""Recordings of planted linear oscillators seen through spike counts and a field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from conftest import make_recording


@dataclass(frozen=True)
class Planted:
    """A recording and the parameters it was made with."""

    recording: xr.DataTree
    frequency: np.ndarray
    damping: np.ndarray
    unit_loading: np.ndarray
    field_loading: np.ndarray
    log_rate: np.ndarray
    bin_width: float


def planted(
    *,
    frequency: tuple[float, ...] = (6.0, 11.0),
    damping: tuple[float, ...] = (0.97, 0.98),
    amplitude: float = 0.5,
    units: int = 40,
    held_out: int = 8,
    electrodes: int = 6,
    field_noise: float = 1.0,
    trials: int = 120,
    bins: int = 100,
    width: float = 0.01,
    forward: int = 0,
    seed: int = 0,
) -> Planted:
    """Units at 5-20 Hz; electrodes in microvolt, with noise of ``field_noise`` times the signal."""
    rng = np.random.default_rng(seed)
    recording = make_recording(
        trials=trials, bins=bins, units=units, held_out=held_out, forward=forward, seed=seed
    )
    f, a = np.array(frequency), np.array(damping)
    turn = a * np.exp(2j * np.pi * f * width)
    z = np.empty((trials, bins, len(f)), complex)

    def noise() -> np.ndarray:
        return rng.normal(size=(trials, len(f), 2)) @ [1, 1j]

    z[:, 0] = noise()
    for t in range(1, bins):
        z[:, t] = turn * z[:, t - 1] + np.sqrt(1 - a**2) * noise()
    size = amplitude * rng.uniform(0.4, 1.4, (len(f), units))
    unit_loading = size * np.exp(1j * rng.uniform(-np.pi, np.pi, (len(f), units)))
    log_rate = np.log(rng.uniform(5, 20, units) * width) + (z @ unit_loading).real
    log_rate -= (np.abs(unit_loading) ** 2).sum(0) / 2
    spikes = recording["spikes"].to_dataset()
    spikes["counts"][:] = rng.poisson(np.exp(log_rate)).astype(np.uint16)
    spikes = spikes.assign_coords(time=np.arange(bins) * width)
    start = np.arange(trials) * (bins * width + 0.5)
    spikes["trial_start"][:] = start
    spikes.attrs["bin_width"] = width
    recording["spikes"] = xr.DataTree(spikes)
    recording["truth"] = xr.DataTree(
        xr.Dataset({"rate": (("trial", "time", "unit"), np.exp(log_rate) / width)})
    )
    phase = np.linspace(0, np.pi, electrodes) * np.arange(1, len(f) + 1)[:, None]
    field_loading = 20.0 * np.exp(1j * phase)
    signal = (z @ field_loading).real
    signal += field_noise * signal.std() * rng.normal(size=signal.shape)
    # One sample at the centre of each bin, and a clock that runs through the pauses.
    pause = round(0.5 / width)
    samples = np.zeros((trials, bins + pause, electrodes))
    samples[:, :bins] = signal
    samples = samples.reshape(-1, electrodes).astype(np.float32)
    electrode = np.arange(electrodes)
    recording["field"] = xr.DataTree(
        xr.Dataset(
            {"lfp": (("time", "electrode"), samples, {"units": "microvolt"})},
            coords={
                "time": ("time", (np.arange(len(samples)) + 0.5) * width, {"units": "s"}),
                "electrode": electrode,
                "x": ("electrode", 0.4 * electrode, {"units": "mm"}),
                "y": ("electrode", np.zeros(electrodes), {"units": "mm"}),
                "good": ("electrode", np.ones(electrodes, bool)),
            },
            attrs={"sampling_rate": 1 / width},
        )
    )
    return Planted(recording, f, a, unit_loading, field_loading, log_rate, width)
