"""The reference cases of travelling waves, through the plug-ins, each with its tolerance."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from driftwave.waves import optical_flow, phase_gradient, plane_fit, rotation, singularities
from driftwave.waves import source_points as source
from waves_cases import PITCH, grid, noise, phase_of, recording_of

RATE = 250.0
ARRAY = grid(corners=False)
CENTRES = [(1.35, 1.95), (2.3, 1.1), (1.55, 2.65)]
GRADIENT = phase_gradient.Params(surrogates=19, bootstrap=40, delay_band=None, fields=())


def turned(one, other):
    """Angle (degree) between directions."""
    return np.abs((np.asarray(one) - other + 180) % 360 - 180)


def slots(
    waves: list[np.ndarray],
    *,
    position: np.ndarray = ARRAY,
    seconds: float = 1.0,
    pause: float = 1.0,
    level: float = 1e-3,
    amplitude: float = 1.0,
    length: float = 1.0,
    seed: int = 0,
    frequency: float = 12.0,
) -> tuple[xr.DataTree, np.ndarray]:
    """Waves of the given phases (electrode,), one after the other; the middle of each, s.

    In correlated 1/f noise, 90 % shared, of RMS ``level`` within 5 to 40 Hz; amplitude is an RMS.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round((len(waves) * (seconds + pause) + pause) * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=length, shared=0.9, power=2.0)
    spectrum = np.fft.rfft(field, axis=1)
    inside = np.fft.rfftfreq(len(time), 1 / RATE)
    spectrum[:, (inside < 5) | (inside > 40)] = 0
    field *= level / np.fft.irfft(spectrum, n=len(time), axis=1).std()
    begin = pause + np.arange(len(waves)) * (seconds + pause)
    for start, phase in zip(begin, waves, strict=True):
        here = (time >= start) & (time < start + seconds)
        turn = 2 * np.pi * frequency * time[here] + rng.uniform(0, 2 * np.pi)
        field[:, here] += np.sqrt(2) * amplitude * np.cos(turn + phase[:, None])
    return recording_of(100 * field.T, position, RATE), begin + seconds / 2


def planes(directions: Iterable[float], speeds: Iterable[float], position=ARRAY):
    return [
        phase_of("planar", position, frequency=12, speed=speed, direction=direction)
        for direction, speed in zip(directions, speeds, strict=True)
    ]


def events_at(found: xr.Dataset, middle: np.ndarray) -> np.ndarray:
    """Number of the longest event that covers each time; -1 where none does."""
    start, stop = found["start"].values, found["stop"].values
    covers = (start < middle[:, None]) & (middle[:, None] < stop)
    length = np.where(covers, stop - start, -np.inf)
    return np.where(covers.any(axis=1), length.argmax(axis=1), -1) if len(start) else -1 + 0 * middle


def every_plane() -> tuple[np.ndarray, np.ndarray]:
    """Directions and speeds of case P1."""
    direction, speed = np.meshgrid(np.arange(-180.0, 180.0, 45.0), [100.0, 200.0, 400.0, 800.0])
    return direction.ravel(), speed.ravel()


P1 = {"whole": grid(), "without 4 corners and 10": grid(corners=False, missing=10, seed=3)}


@pytest.mark.parametrize("layout", P1)
def test_p1_events_of_planes_without_noise(layout):
    direction, speed = every_plane()
    position = P1[layout]
    recording, middle = slots(planes(direction, speed, position), position=position)
    found = phase_gradient.analyse(recording, None, GRADIENT, seed=0)
    at = events_at(found, middle)
    assert sorted(at) == list(range(32))
    row = found.isel(event=at)
    assert (row["class"].values == "planar").all()
    assert turned(row["direction"], direction).max() < 0.5
    np.testing.assert_allclose(row["speed"], speed, rtol=0.01)
    assert not row["aliased"].values.any()
