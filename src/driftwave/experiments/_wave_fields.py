"""Recordings with a planted event of every class of wave in shared noise, for the accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.experiments._recordings import field_recording
from driftwave.ingest.simulate._noise import (
    noise_blocks,
    power_law_filter,
    root,
    spatial_covariance,
)
from driftwave.wave_events.patterns import CLASSES

RATE = 250.0  # Hz
PITCH = 0.4  # mm
SIDE = 10
BAND = (5.0, 40.0)  # Hz, within which SNR is measured
LEVEL = 50.0  # microvolt, noise within the band
SLOT = 3.0  # s, one event in each
FREQUENCY = (8.0, 20.0)  # Hz
WAVELENGTH = (2.5, 6.0)  # mm
DURATION = (1.0, 2.0)  # s
LENGTH = (0.6, 2.0)  # mm, over which noise is shared
SHARED = 0.9
INSET = 0.2  # share of the array at each side without centres


@dataclass(frozen=True)
class Planted:
    """What was planted in one slot; NaN where a class has none of it.

    Attributes
    ----------
    name : str
        One of the classes.
    start, stop : int
        Frames.
    frequency : float
        Hz.
    direction : float
        Degree.
    speed : float
        mm/s.
    centre : ndarray (2,)
        mm.
    charge : int
    """

    name: str
    start: int
    stop: int
    frequency: float
    direction: float
    speed: float
    centre: np.ndarray
    charge: int


def array() -> np.ndarray:
    """Positions (electrode, 2), mm, of a square array without its corners."""
    place = np.array([(i, j) for j in range(SIDE) for i in range(SIDE)], float) * PITCH
    corner = [0, SIDE - 1, SIDE * (SIDE - 1), SIDE * SIDE - 1]
    return np.delete(place, corner, axis=0)


def wave(
    name: str, position: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, float | np.ndarray]]:
    """A pattern (electrode,) of a class, mean square 1, and its truth; zero for none."""
    k = 2 * np.pi / rng.uniform(*WAVELENGTH)
    angle = rng.uniform(-np.pi, np.pi)
    along = k * position @ np.array([np.cos(angle), np.sin(angle)])
    low, high = position.min(axis=0), position.max(axis=0)
    centre = low + (high - low) * rng.uniform(INSET, 1 - INSET, 2)
    away = position - centre
    turn, distance = np.arctan2(away[:, 1], away[:, 0]), np.hypot(*away.T)
    charge = {"rotating_ccw": 1, "rotating_cw": -1}.get(name, int(rng.choice([1, -1])))
    sign = -1 if name.endswith("_in") else 1
    truth: dict[str, float | np.ndarray] = {"charge": charge}
    kind = name.split("_")[0]
    if kind == "planar":
        return np.exp(-1j * along), truth | {"direction": float(np.degrees(angle)), "k": k}
    if kind in ("radial", "spiral", "rotating"):
        theta = np.zeros(len(position))
        if kind != "rotating":
            theta -= sign * k * distance
            truth["k"] = k
        if kind != "radial":
            theta -= charge * turn
        return np.exp(1j * theta), truth | {"centre": centre}
    if kind == "standing":
        # With a node well inside the array, or it would not differ from synchrony.
        node = k * centre @ np.array([np.cos(angle), np.sin(angle)])
        shape = np.sin(along - node)
        return shape / np.sqrt((shape**2).mean()) + 0j, truth
    return np.full(len(position), complex(kind == "synchronous")), truth


def planted(snr: float, each: int, rng: np.random.Generator) -> tuple[xr.DataTree, list[Planted]]:
    """A recording with ``each`` events of every class, in random order, and what they are."""
    position, names = array(), list(CLASSES) * each
    rng.shuffle(names)
    slot = round(SLOT * RATE)
    samples = slot * len(names)
    covariance = spatial_covariance(position, rng.uniform(*LENGTH), SHARED, "gaussian")
    filtered = noise_blocks(
        power_law_filter(1.0, RATE), root(covariance), samples, samples, RATE, rng
    )
    field = np.concatenate(list(filtered))
    field /= in_band(field)
    events = []
    for number, name in enumerate(names):
        pattern, truth = wave(name, position, rng)
        frequency, count = rng.uniform(*FREQUENCY), round(rng.uniform(*DURATION) * RATE)
        start = number * slot + (slot - count) // 2
        turn = 2 * np.pi * (frequency * np.arange(count) / RATE + rng.random())
        field[start : start + count] += (
            snr * np.sqrt(2) * np.real(np.exp(1j * turn)[:, None] * pattern)
        )
        k = float(truth.get("k", np.nan))
        events.append(
            Planted(
                name,
                start,
                start + count,
                frequency,
                float(truth.get("direction", np.nan)),
                2 * np.pi * frequency / k,
                np.asarray(truth.get("centre", [np.nan, np.nan])),
                int(truth["charge"]),
            )
        )
    return field_recording(LEVEL * field, position, RATE, "wave accuracy"), events


def in_band(signal: np.ndarray) -> float:
    """RMS of a signal (time, electrode) within ``BAND``."""
    spectrum = np.fft.rfft(signal, axis=0)
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    spectrum[(frequency < BAND[0]) | (frequency > BAND[1])] = 0
    return float(np.fft.irfft(spectrum, n=len(signal), axis=0).std())
