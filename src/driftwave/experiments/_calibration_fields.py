"""Fields of a 96-electrode array with and without travelling waves, for the calibration of p."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from driftwave.experiments._recordings import field_recording
from driftwave.ingest.simulate._noise import root, spatial_covariance

RATE = 250.0  # Hz
PITCH = 0.4  # mm
BAND = (8.0, 16.0)  # Hz, within which SNR is measured
LEVEL = 50.0  # microvolt, noise within the band
FLAT = 1.0  # Hz, below which 1/f noise is flat
FREQUENCY, SPEED = 12.0, 200.0  # Hz, mm/s
WANDER = 0.05  # rad per sample: the carrier is a band, not a line
PERIOD, BURST = 4.0, 1.0  # s: one burst of 1 s in every 4
MODULATION = 1.0  # Hz, up to which gain changes
STEEPER = 1.5  # by how much the spectrum's exponent changes, over seconds
MIXING = 0.25  # Hz

Wave = Literal["none", "steady", "bursts", "turning"]
Change = Literal["none", "gain", "fast gain", "exponent"]


@dataclass(frozen=True)
class Condition:
    """A kind of field.

    Attributes
    ----------
    label : str
    exponent : float
        Of the noise's 1/f spectrum.
    length, shared : float
        Correlation length (mm) and the share of the noise's variance that electrodes share.
    change : str
        What is not stationary: ``gain`` of log-normal size (SD 1) below 1 Hz; ``fast gain``, of
        the same size with a 1/f^2 spectrum and no upper limit; the spectrum's ``exponent``.
    reference : bool
        Whether the electrodes' mean is subtracted.
    wave : str
        ``steady``; ``bursts`` of 1 s every 4 s, all in one direction; ``turning``: each its own.
    snr : float
        RMS of the wave, while there is one, by that of the noise, 8 to 16 Hz.
    """

    label: str
    exponent: float = 1.0
    length: float = 0.0
    shared: float = 0.0
    change: Change = "none"
    reference: bool = False
    wave: Wave = "none"
    snr: float = 0.0


NOISE = (
    Condition("white", exponent=0.0),
    Condition("1/f"),
    Condition("0.6 mm, 50 % shared", length=0.6, shared=0.5),
    Condition("2 mm, 90 % shared", length=2.0, shared=0.9),
    Condition("common reference", length=2.0, shared=0.9, reference=True),
    Condition("changing gain", length=2.0, shared=0.9, change="gain"),
    Condition("changing exponent", length=2.0, shared=0.9, change="exponent"),
    Condition("gain faster than the band", length=2.0, shared=0.9, change="fast gain"),
)
WAVES = (
    Condition("bursts, SNR 0.5", length=2.0, shared=0.9, wave="bursts", snr=0.5),
    Condition("bursts, SNR 1", length=2.0, shared=0.9, wave="bursts", snr=1.0),
    Condition("bursts, SNR 2", length=2.0, shared=0.9, wave="bursts", snr=2.0),
    Condition("steady, SNR 0.5", length=2.0, shared=0.9, wave="steady", snr=0.5),
    Condition("steady, SNR 1", length=2.0, shared=0.9, wave="steady", snr=1.0),
    Condition("steady, SNR 2", length=2.0, shared=0.9, wave="steady", snr=2.0),
    Condition("turning bursts, SNR 1", length=2.0, shared=0.9, wave="turning", snr=1.0),
)
CONDITIONS = {one.label: one for one in (*NOISE, *WAVES)}


def array() -> np.ndarray:
    """Positions (96, 2) of a 10 x 10 grid without its corners, mm."""
    place = np.array([(i, j) for j in range(10) for i in range(10)], float)
    corner = np.isin(place, (0, 9)).all(axis=1)
    return PITCH * place[~corner]


def field(condition: Condition, duration: float, rng: np.random.Generator) -> xr.DataTree:
    """A recording of one kind, ``duration`` seconds long."""
    position = array()
    time = np.arange(round(duration * RATE)) / RATE
    samples = _noise(condition, position, len(time), rng)
    if condition.wave != "none":
        samples += condition.snr * np.sqrt(2) * _wave(condition.wave, position, time, rng)
    if condition.reference:
        samples -= samples.mean(axis=0)
    return field_recording((LEVEL * samples).T, position, RATE, "wave calibration")


def _noise(
    condition: Condition, position: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Noise (electrode, time) without lags; RMS 1 within the band, before any change of gain."""
    mixing = np.eye(len(position))
    if condition.shared:
        mixing = root(spatial_covariance(position, condition.length, condition.shared, "gaussian"))

    def stationary(exponent: float) -> np.ndarray:
        white = mixing @ rng.normal(size=(len(position), count))
        return _unit(_coloured(white, exponent))

    found = stationary(condition.exponent)
    if condition.change == "gain":
        return found * np.exp(_slow(count, MODULATION, rng))
    if condition.change == "fast gain":
        course = _coloured(rng.normal(size=(1, count)), 2.0)[0]
        return found * np.exp(course / course.std())
    if condition.change == "exponent":
        share = 1 / (1 + np.exp(-2 * _slow(count, MIXING, rng)))
        return share * found + (1 - share) * stationary(condition.exponent + STEEPER)
    return found


def _coloured(white: np.ndarray, exponent: float) -> np.ndarray:
    """White noise (..., time) with a spectrum that falls as 1/f^exponent above 1 Hz."""
    count = white.shape[-1]
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    gain = np.maximum(frequency, FLAT) ** (-exponent / 2)
    gain[0] = 0
    return np.fft.irfft(np.fft.rfft(white, axis=-1) * gain, n=count, axis=-1)


def _unit(signal: np.ndarray) -> np.ndarray:
    """Scaled to an RMS of 1 within the band over all electrodes."""
    return signal / in_band(signal)


def in_band(signal: np.ndarray) -> float:
    """RMS of a signal (..., time) within the band."""
    spectrum = np.fft.rfft(signal, axis=-1)
    frequency = np.fft.rfftfreq(signal.shape[-1], 1 / RATE)
    spectrum[..., (frequency < BAND[0]) | (frequency > BAND[1])] = 0
    return float(np.fft.irfft(spectrum, n=signal.shape[-1], axis=-1).std())


def _slow(count: int, highest: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (time,) of unit variance up to a frequency, Hz."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    spectrum[(frequency > highest) | (frequency == 0)] = 0
    course = np.fft.irfft(spectrum, n=count)
    return course / course.std()


def _wave(
    wave: Wave, position: np.ndarray, time: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Plane waves (electrode, time) of amplitude 1 while there are any."""
    turns = 2 * np.pi * FREQUENCY * time + np.cumsum(rng.normal(0, WANDER, len(time)))
    number = (time // PERIOD).astype(int)
    angle = rng.uniform(-np.pi, np.pi, number[-1] + 1)
    angle = (angle if wave == "turning" else np.full_like(angle, angle[0]))[number]
    k = 2 * np.pi * FREQUENCY / SPEED
    along = np.outer(position[:, 0], np.cos(angle)) + np.outer(position[:, 1], np.sin(angle))
    inside = np.ones(len(time)) if wave == "steady" else time % PERIOD < BURST
    return inside * np.cos(turns - k * along)
