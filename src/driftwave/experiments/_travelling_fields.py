"""Fields of a square array with and without a travelling wave, for the calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from scipy.signal import lfilter

from driftwave.experiments._recordings import field_recording
from driftwave.ingest.simulate._noise import (
    noise_blocks,
    power_law_filter,
    root,
    spatial_covariance,
)

RATE = 250.0  # Hz
PITCH = 0.4  # mm
BAND = (8.0, 16.0)  # Hz, within which SNR is measured
LEVEL = 50.0  # microvolt, noise within the band
MAP_LENGTH = 1.5  # mm; correlation length of a standing map


@dataclass(frozen=True)
class Condition:
    """A kind of field and the background it is fitted with.

    Attributes
    ----------
    kind : str
        ``noise``: 1/f noise alone; ``band``: with band noise that electrodes share without lags;
        ``bursts``: with bursts, each a standing map; ``standing``: with one or two standing
        oscillations; ``wave``: with a plane wave.
    snr : float
        RMS of the signal by that of the noise, 8 to 16 Hz; 0 without a signal.
    noise : str
        Whether electrodes share the 1/f noise.
    background : str
        Of the fit.
    """

    kind: str
    snr: float
    noise: Literal["shared", "independent"]
    background: Literal["whitened", "factors"]

    @property
    def label(self) -> str:
        """What a reader calls it."""
        if self.kind == "wave":
            return f"wave, SNR {self.snr:g}"
        names = {"noise": "1/f noise", "band": "band noise", "standing": "standing waves"}
        return names.get(self.kind, self.kind)


def conditions() -> list[Condition]:
    """All there are.

    ``factors`` takes noise for independent; given shared 1/f noise it loses its oscillator to the
    lower edge of the band, so waves are asked of it in independent noise only.
    """
    still = ("band", "bursts", "standing")
    waves = (0.5, 1.0, 2.0)
    found = [Condition("noise", 0.0, "shared", "whitened")]
    found += [Condition(kind, 1.0, "shared", "whitened") for kind in still]
    found += [Condition("wave", snr, "shared", "whitened") for snr in waves]
    found += [Condition(kind, 1.0, "independent", "factors") for kind in still]
    found += [Condition("wave", snr, "independent", "factors") for snr in waves]
    found += [Condition("noise", 0.0, "shared", "factors")]
    return found + [Condition(kind, 1.0, "shared", "factors") for kind in still]


def grid(side: int) -> np.ndarray:
    """Positions (electrode, 2) of a square array, mm."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    return PITCH * np.stack([x.ravel(), y.ravel()], -1)


def planted(
    condition: Condition, side: int, duration: float, rng: np.random.Generator
) -> tuple[xr.DataTree, float]:
    """A recording, and the direction of its wave (degrees; NaN where nothing travels)."""
    position, samples = grid(side), round(RATE * duration)
    length, shared = rng.uniform(1, 2), rng.uniform(0.5, 0.9)
    covariance = spatial_covariance(
        position, length, shared if condition.noise == "shared" else 0.0, "gaussian"
    )
    filtered = noise_blocks(
        power_law_filter(1.0, RATE), root(covariance), samples, samples, RATE, rng
    )
    field = np.concatenate(list(filtered))
    field /= in_band(field)
    direction = rng.uniform(-180, 180)
    if condition.kind != "noise":
        signal = _signal(condition, position, samples, direction, length, shared, rng)
        field += condition.snr * signal / in_band(signal)
    recording = field_recording(LEVEL * field, position, RATE, "travelling calibration")
    return recording, direction if condition.kind == "wave" else np.nan


def in_band(signal: np.ndarray) -> float:
    """RMS of a signal (time, ...) from 8 to 16 Hz."""
    spectrum = np.fft.rfft(signal, axis=0)
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    spectrum[(frequency < BAND[0]) | (frequency > BAND[1])] = 0
    return float(np.fft.irfft(spectrum, n=len(signal), axis=0).std())


def _signal(
    condition: Condition,
    position: np.ndarray,
    samples: int,
    direction: float,
    length: float,
    shared: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """What is added to the noise (time, electrode), on any scale."""
    electrodes = len(position)
    frequency, width = rng.uniform(9, 15), rng.uniform(0.7, 2.5)
    if condition.kind == "wave":
        angle = np.deg2rad(direction)
        along = position @ [np.cos(angle), np.sin(angle)]
        loading = np.exp(-2j * np.pi * frequency / rng.uniform(100, 400) * along)
        return (_oscillation(frequency, width, samples, 1, rng) * loading).real
    if condition.kind == "band":
        mixing = root(spatial_covariance(position, length, shared, "gaussian"))
        return _oscillation(frequency, width, samples, electrodes, rng).real @ mixing
    maps = root(spatial_covariance(position, MAP_LENGTH, 1.0, "gaussian"))
    if condition.kind == "bursts":
        return _bursts(frequency, samples, maps, rng)
    many = int(rng.integers(1, 3))
    return (
        _oscillation(frequency, width, samples, many, rng).real
        @ (maps @ rng.normal(size=(electrodes, many))).T
    )


def _oscillation(
    frequency: float, width: float, samples: int, many: int, rng: np.random.Generator
) -> np.ndarray:
    """Complex oscillations (time, many) with a peak of the full width given, Hz."""
    pole = np.exp((-np.pi * width + 2j * np.pi * frequency) / RATE)
    kick = rng.normal(size=(2, samples, many))
    return lfilter([1], [1, -pole], kick[0] + 1j * kick[1], axis=0)


def _bursts(
    frequency: float, samples: int, maps: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Bursts of half a second to two (time, electrode), a second apart on average."""
    field, start = np.zeros((samples, len(maps))), 0
    while start < samples:
        stop = min(start + round(rng.uniform(0.5, 2) * RATE), samples)
        turn = 2 * np.pi * (frequency * np.arange(stop - start) / RATE + rng.random())
        course = np.cos(turn) * np.hanning(stop - start + 2)[1:-1]
        field[start:stop] = np.outer(course, maps @ rng.normal(size=len(maps)))
        start = stop + round(rng.exponential(1) * RATE)
    return field
