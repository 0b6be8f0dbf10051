"""Detectors on two arrays: each array's waves by themselves, with its name."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from driftwave.waves import delay_planes, optical_flow, wave_fronts, wavenumber_frequency
from waves_cases import grid, recording_of

RATE, SECONDS = 200.0, 20.0
TRUE = {"a": 30.0, "b": 160.0}
CASES = {
    "wave_fronts": (wave_fronts, {"bootstrap": 20, "null": "none"}),
    "delay_planes": (delay_planes, {"bootstrap": 20, "surrogates": 0}),
    "optical_flow": (optical_flow, {"surrogates": 0, "bootstrap": 20}),
    "wavenumber_frequency": (wavenumber_frequency, {"surrogates": 19, "bootstrap": 20}),
}


@pytest.fixture(scope="module")
def two_arrays():
    """Waves of 7 to 13 Hz at 100 mm/s across two 6x6 arrays 20 mm apart, in white noise."""
    rng = np.random.default_rng(0)
    count = round(RATE * SECONDS)
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    parts = []
    for angle in np.deg2rad(list(TRUE.values())):
        drive = rng.normal(size=(2, len(frequency))).T @ [1, 1j] * (abs(frequency - 10) < 3)
        late = grid(6, 6) @ np.array([np.cos(angle), np.sin(angle)]) / 100.0
        wave = np.fft.irfft(drive * np.exp(-2j * np.pi * frequency * late[:, None]), n=count)
        parts.append(wave.T / wave.std() + 0.3 * rng.normal(size=(count, 36)))
    position = np.concatenate([grid(6, 6), grid(6, 6) + np.array([20.0, 0.0])])
    recording = recording_of(np.concatenate(parts, axis=1), position, RATE)
    field = recording["field"].to_dataset()
    field = field.assign_coords(group=("electrode", np.repeat(list(TRUE), 36)))
    recording["field"].dataset = field
    return recording


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_each_array_has_its_own_direction(two_arrays, name):
    module, options = CASES[name]
    with dask.config.set(scheduler="synchronous"):
        found = module.analyse(two_arrays, None, module.Params(**options), seed=0)
    assert set(found["array"].values.astype(str)) == set(TRUE)
    planar = found["class"].values == "planar"
    for array, true in TRUE.items():
        own = planar & (found["array"].values == array)
        assert own.any()
        mean = np.exp(1j * np.deg2rad(found["direction"].values[own])).mean()
        assert abs(np.angle(mean / np.exp(1j * np.deg2rad(true)), deg=True)) < 6
