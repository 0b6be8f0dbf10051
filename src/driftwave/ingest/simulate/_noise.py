"""Noise with a 1/f spectrum in time and correlations that fall off with distance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.signal import freqz_sos, sosfilt, zpk2sos

LOWEST = 0.5  # Hz; the spectrum is flat below, so that the signal does not drift
WARM_UP = 10.0  # s of noise filtered and thrown away, to start in the stationary state


def power_law_filter(exponent: float, sampling_rate: float) -> np.ndarray:
    """Second-order sections whose squared gain falls as 1/f^exponent above 0.5 Hz.

    One pole-zero pair per octave (Keshner 1982): a real pole at f and a zero at f 2^(exponent/2)
    fall by the right amount per octave on average, with a ripple below 1 dB for exponents to 2.

    Returns
    -------
    ndarray (section, 6)
        For :func:`scipy.signal.sosfilt`; not normalised.
    """
    octaves = int(np.ceil(np.log2(sampling_rate / 2 / LOWEST)))
    poles = LOWEST * 2.0 ** np.arange(octaves)
    zeros = poles * 2 ** (exponent / 2)
    return zpk2sos(
        np.exp(-2 * np.pi * zeros / sampling_rate), np.exp(-2 * np.pi * poles / sampling_rate), 1.0
    )


def band_rms(sections: np.ndarray, sampling_rate: float, band: tuple[float, float]) -> float:
    """RMS within a band (Hz) of unit white noise passed through a filter."""
    frequency = np.linspace(*band, 2001)
    _, gain = freqz_sos(sections, frequency, fs=sampling_rate)
    return float(np.sqrt(np.trapezoid(2 * np.abs(gain) ** 2 / sampling_rate, frequency)))


def spatial_covariance(
    position: np.ndarray,
    length: float,
    shared: float,
    kernel: Literal["exponential", "gaussian"] = "exponential",
) -> np.ndarray:
    """Covariance (electrode, electrode) with unit variances.

    ``shared`` of the variance is correlated as exp(-d / length) or exp(-d^2 / (2 length^2)), d
    being the distance; the rest belongs to each electrode alone.

    Parameters
    ----------
    position : ndarray (electrode, 2)
        mm.
    length : float
        mm.
    """
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    if kernel == "exponential":
        correlation = np.exp(-distance / length)
    else:
        correlation = np.exp(-(distance**2) / (2 * length**2))
    return shared * correlation + (1 - shared) * np.eye(len(position))


def root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root; unlike a Cholesky factor it allows a singular covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def noise_blocks(
    sections: np.ndarray,
    mixing: np.ndarray,
    samples: int,
    block: int,
    sampling_rate: float,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Yield filtered, mixed white noise block after block; the filter's state is carried over.

    Parameters
    ----------
    sections : ndarray (section, 6)
    mixing : ndarray (electrode, electrode)
        Symmetric square root of the spatial covariance.
    samples, block : int
        Length of the whole and of a block, in samples.

    Yields
    ------
    ndarray (block, electrode)
    """
    channels = len(mixing)
    state = np.zeros((len(sections), 2, channels))
    ahead = round(WARM_UP * sampling_rate)
    for start in range(-ahead, samples, block):
        white = rng.standard_normal((min(block, samples - start), channels))
        coloured, state = sosfilt(sections, white @ mixing, axis=0, zi=state)
        if start + len(white) > 0:
            yield coloured[max(0, -start) :]
