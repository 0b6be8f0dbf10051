"""Analytic signal in a band, with zero phase shift, from a stretch of a recording."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft, signal

ORDER = 4


def design(band: tuple[float, float], rate: float) -> np.ndarray:
    """Second-order sections of the Butterworth band-pass; ``band`` and ``rate`` in Hz."""
    return signal.butter(ORDER, band, btype="bandpass", fs=rate, output="sos")


def settling(band: tuple[float, float], rate: float, tolerance: float = 1e-8) -> int:
    """Samples after which the filter's response to an impulse stays below ``tolerance``."""
    _, poles, _ = signal.sos2zpk(design(band, rate))
    return int(np.ceil(np.log(tolerance) / np.log(np.abs(poles).max())))


@lru_cache(maxsize=8)
def analytic_response(band: tuple[float, float], rate: float, count: int) -> np.ndarray:
    """Response of the zero-phase filter followed by the analytic signal, per FFT bin (count,).

    Forward and backward filtering multiplies the spectrum by |H(f)|^2; the analytic signal doubles
    positive and drops negative frequencies. Their product decays in time as fast as the filter, so
    that a stretch with a margin of :func:`settling` samples equals the whole recording there.
    """
    frequency = fft.fftfreq(count, 1 / rate)
    response = np.zeros(count)
    positive = frequency > 0
    _, gain = signal.freqz_sos(design(band, rate), frequency[positive], fs=rate)
    response[positive] = 2 * np.abs(gain) ** 2
    response.setflags(write=False)
    return response


def extend(samples: np.ndarray, before: int, after: int) -> np.ndarray:
    """Continue a signal (..., time) beyond its ends by odd reflection.

    Where it is shorter than ``before`` or ``after``, the last reflected value is held.
    """
    ends = [min(n, samples.shape[-1] - 1) for n in (before, after)]
    head = 2 * samples[..., :1] - samples[..., ends[0] : 0 : -1]
    tail = 2 * samples[..., -1:] - samples[..., -2 : -2 - ends[1] : -1]
    reflected = np.concatenate([head, samples, tail], axis=-1)
    held = [(0, 0)] * (samples.ndim - 1) + [(before - ends[0], after - ends[1])]
    return np.pad(reflected, held, mode="edge")


def analytic(
    samples: np.ndarray,
    *,
    rate: float,
    band: tuple[float, float],
    before: int,
    after: int,
    every: int = 1,
) -> np.ndarray:
    """Band-passed analytic signal of the middle of a stretch.

    Parameters
    ----------
    samples : ndarray (electrode, time)
    rate : float
        Sampling rate, Hz.
    band : (low, high)
        Hz.
    before, after : int
        Samples at either end that serve as a margin and are left out of the result.
    every : int
        Keep one sample in ``every``, counted from the first one after the margin.

    Returns
    -------
    ndarray, complex (electrode, ceil((time - before - after) / every))
    """
    count = samples.shape[-1]
    size = every * fft.next_fast_len(-(-count // every), real=False)
    spectrum = fft.rfft(samples, n=size, axis=-1)
    response = analytic_response(band, rate, size)[: spectrum.shape[-1]]
    spectrum *= response
    # A delay makes the first sample kept fall on a multiple of `every`.
    shift = before % every
    if shift:
        frequency = np.arange(spectrum.shape[-1]) / size
        spectrum *= np.exp(2j * np.pi * frequency * shift)
    # Folding the spectrum is the same as taking every n-th sample, at a fraction of the cost.
    length = size // every
    folds = -(-spectrum.shape[-1] // length)
    folded = np.zeros((*spectrum.shape[:-1], length), complex)
    for fold in range(folds):
        part = spectrum[..., fold * length : (fold + 1) * length]
        folded[..., : part.shape[-1]] += part
    signal_at = fft.ifft(folded, axis=-1, overwrite_x=True) / every
    start = before // every
    kept = -(-(count - before - after) // every)
    return signal_at[..., start : start + kept]
