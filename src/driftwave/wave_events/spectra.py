"""Fourier coefficients of an event at the frequencies at which most power travels."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.signal.windows import tukey

from driftwave.phase.directionality import Directionality
from driftwave.phase.timescale import stretch_of

WINDOW_CYCLES = 8
MANY_WINDOWS = 24
RESOLUTION = 0.1
# Share of a window within which its taper rises and falls: a Hann window would give away a third
# of the event, none at all lets 1/f noise leak in.
TAPER = 0.2
# Peaks of travelling power closer than this (Hz) or below this share of the largest are one wave.
APART = 3.0
SHARE = 0.1
MOST = 3


def peak_frequencies(
    signal: np.ndarray, rate: float, band: tuple[float, float], measure: Directionality
) -> list[float]:
    """Frequencies (Hz) at which power travels: peaks of the largest template flux, largest first.

    The plain power spectrum would follow 1/f noise to the band's lower edge; zero-lag noise has no
    flux on average.
    """
    # On a clock on which slow bands run at 5 Hz, where the windows' second is five cycles.
    faster = stretch_of(band)
    rate, band = rate * faster, (band[0] * faster, band[1] * faster)
    count = signal.shape[1]
    window = min(count, round(rate))
    starts = np.arange(0, count - window + 1, max(1, window // 2))
    size = fft.next_fast_len(max(window, round(rate / RESOLUTION)))
    frequency = np.arange(size) * rate / size
    inside = np.flatnonzero((frequency >= band[0]) & (frequency <= min(band[1], rate / 2)))
    taper = np.hanning(window + 2)[1:-1]
    total = np.zeros((len(measure.templates), len(inside)))
    for start in starts:
        spectrum = fft.fft(signal[:, start : start + window] * taper, n=size, axis=1)[:, inside]
        total += measure(spectrum).flux
    return [one / faster for one in _peaks(np.abs(total).max(axis=0), frequency[inside])]


def _peaks(power: np.ndarray, frequency: np.ndarray) -> list[float]:
    edged = np.concatenate([[-np.inf], power, [-np.inf]])
    local = np.flatnonzero((power >= edged[:-2]) & (power >= edged[2:]))
    found: list[float] = []
    for at in local[np.argsort(-power[local])]:
        here = _vertex(edged[at : at + 3], frequency, at)
        if power[at] < SHARE * power.max() or len(found) == MOST:
            break
        if all(abs(here - other) >= APART for other in found):
            found.append(here)
    return found


def _vertex(three: np.ndarray, frequency: np.ndarray, at: int) -> float:
    """Frequency of the parabola's top through a peak and its neighbours."""
    bend = three[0] - 2 * three[1] + three[2]
    if not np.isfinite(bend) or bend >= 0:
        return float(frequency[at])
    step = frequency[1] - frequency[0]
    return float(frequency[at] + step * (three[0] - three[2]) / (2 * bend))


def snapshots(
    signal: np.ndarray,
    rate: float,
    frequency: float,
    cycles: int = WINDOW_CYCLES,
    others: tuple[float, ...] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Fourier coefficients at one frequency in consecutive windows of some cycles.

    Long windows matter: the resultant is biased towards synchrony by zero-lag noise within the
    windows' bandwidth. Waves at ``others`` (Hz) are fitted beside it, so that they do not leak in.

    Returns
    -------
    values : ndarray, complex (electrode, window)
    parts : ndarray, complex (part, electrode, window)
        What each cycle (of a long event, each window's step) adds to ``values``.
    """
    electrodes, count = signal.shape
    number = max(1, round(count / max(4, cycles * rate / frequency)))
    window = min(count, -(-count // number))
    starts = np.linspace(0, count - window, number).round().astype(int)
    cycle = (np.arange(count) * frequency / rate).astype(int)
    if number > MANY_WINDOWS // 2:
        cycle = np.searchsorted(starts, np.arange(count), side="right")
    edges = np.flatnonzero(np.diff(cycle, prepend=-1))
    parts = np.zeros((len(edges), electrodes, number), complex)
    kernel = _kernel(window, rate, (frequency, *others))
    weight = np.zeros(count, complex)
    for column, start in enumerate(starts):
        weight[:] = 0
        turn = np.exp(-2j * np.pi * frequency / rate * start)
        weight[start : start + window] = turn * kernel
        parts[:, :, column] = np.add.reduceat(signal * weight, edges, axis=1).T
    return parts.sum(axis=0), parts


def _kernel(window: int, rate: float, frequencies: tuple[float, ...]) -> np.ndarray:
    """Weights (window,) that give the amplitude at the first frequency beside the others."""
    taper = tukey(window + 2, TAPER)[1:-1]
    waves = np.exp(2j * np.pi * np.outer(np.arange(window), frequencies) / rate)
    weighted = waves.conj().T * taper
    return np.linalg.solve(weighted @ waves, weighted)[0]
