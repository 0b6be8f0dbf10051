"""Where a fit of coupled oscillators starts: the frequencies at which a population oscillates."""

from __future__ import annotations

import numpy as np
from scipy.signal import find_peaks

# Periods that a trial must hold for its frequency to be looked for.
PERIODS = 1.5
# The finest step of the frequencies tried is this share of the resolution of one trial.
FINENESS = 8
# Share of the Nyquist frequency up to which oscillations are looked for.
HIGHEST = 0.5


def coherent_power(values: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Power that channels share at each frequency, whatever their phases.

    The sum over pairs of different channels of the squared cross-spectrum, which noise of each
    channel's own does not raise, and which waves do not cancel as they do in a population's sum.

    Parameters
    ----------
    values : ndarray (trial, bin, channel)
        NaN counts as the channel's mean.
    width : float
        Of a bin, s.

    Returns
    -------
    frequency : ndarray (frequency,)
        Hz, from ``PERIODS`` per trial to ``HIGHEST`` of the Nyquist frequency.
    power : ndarray (frequency,)
        Square root of the sum, of channels of unit variance.
    """
    trials, bins, _ = values.shape
    centred = values - np.nanmean(values, (0, 1))
    centred = np.nan_to_num(centred / np.maximum(np.nanstd(values, (0, 1)), 1e-9))
    # The mean course of all trials is locked to the task, and may be faster than any oscillation.
    tapered = (centred - centred.mean(1, keepdims=True)) * np.hanning(bins + 2)[1:-1, None]
    length = FINENESS * bins
    frequency = np.fft.rfftfreq(length, width)
    low, high = PERIODS / (bins * width), HIGHEST / (2 * width)
    chosen = np.flatnonzero((frequency >= low) & (frequency <= high))
    turn = np.exp(-2j * np.pi * np.outer(chosen, np.arange(bins)) / length)
    power = np.empty(len(chosen))
    for row, carrier in enumerate(turn):
        found = carrier @ tapered
        cross = found.T @ found.conj() / trials
        own = np.square(np.abs(np.diagonal(cross))).sum()
        power[row] = np.sqrt(max(float(np.square(np.abs(cross)).sum() - own), 0.0))
    return frequency[chosen], power


def start_frequencies(values: np.ndarray, width: float, bands: int) -> tuple[float, ...]:
    """Frequencies (Hz, ascending) of the ``bands`` highest peaks of :func:`coherent_power`.

    Where there are fewer peaks, the rest are spread evenly on a logarithmic axis.
    """
    frequency, power = coherent_power(values, width)
    if len(frequency) < 3:
        return tuple(np.geomspace(0.05 / width, 0.2 / width, bands).tolist())
    padded = np.concatenate([[0.0], power, [0.0]])
    peaks = find_peaks(padded)[0] - 1
    order = peaks[np.argsort(-power[peaks], kind="stable")][:bands]
    found = [_vertex(frequency, power, peak) for peak in order]
    spare = np.geomspace(frequency[0], frequency[-1], bands + 2)[1:-1]
    return tuple(sorted([*found, *spare[: bands - len(found)].tolist()]))


def _vertex(frequency: np.ndarray, power: np.ndarray, peak: int) -> float:
    """Frequency of the parabola's vertex through a peak and its neighbours."""
    if peak in (0, len(power) - 1):
        return float(frequency[peak])
    left, centre, right = power[peak - 1 : peak + 2]
    bend = left - 2 * centre + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(frequency[peak] + shift * (frequency[1] - frequency[0]))
