"""Flattening a field's 1/f background without moving phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import firwin2, oaconvolve

COLUMNS = 16


@dataclass(frozen=True)
class Whitening:
    """A symmetric (zero-phase) FIR filter, the same for every channel.

    Attributes
    ----------
    taps : ndarray (tap,)
        Odd in number; a single 1 leaves a signal as it is.
    rate : float
        Hz.
    """

    taps: np.ndarray
    rate: float

    @classmethod
    def none(cls, rate: float) -> Whitening:
        """The filter that does nothing."""
        return cls(np.ones(1), rate)

    @classmethod
    def of_background(cls, frequency: np.ndarray, logarithm: np.ndarray, rate: float) -> Whitening:
        """Filter with gain exp(-background / 2), of geometric mean 1 over all frequencies.

        The variance of white noise that it makes of the background is then the variance of the
        background's innovations (Kolmogorov's formula), and likelihoods before and after it agree.

        Parameters
        ----------
        frequency : ndarray (frequency,)
            Hz, ascending; the gain is constant beyond its ends.
        logarithm : ndarray (frequency,)
            Natural logarithm of the background's power density.
        """
        grid = np.linspace(0, rate / 2, 1025)
        logarithm = -0.5 * np.interp(grid, frequency, logarithm)
        gain = np.exp(logarithm - logarithm.mean())
        taps = firwin2(2 * int(rate / 2) + 1, grid, gain, fs=rate)
        flat = cls(taps, rate)
        return cls(taps / np.exp(np.log(np.abs(flat.gain(grid)) + 1e-12).mean()), rate)

    @property
    def identity(self) -> bool:
        """Whether the filter does nothing."""
        return len(self.taps) == 1

    def gain(self, frequency: np.ndarray) -> np.ndarray:
        """Real gain at each frequency (Hz); negative would be a phase of pi."""
        lag = np.arange(len(self.taps)) - len(self.taps) // 2
        return np.cos(2 * np.pi / self.rate * np.outer(frequency, lag)) @ self.taps

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Filter data (time, channel) in place; the ends are extended by reflection."""
        if self.identity:
            return data
        half = len(self.taps) // 2
        taps = self.taps.astype(data.dtype)[:, None]
        for start in range(0, data.shape[1], COLUMNS):
            columns = data[:, start : start + COLUMNS]
            extended = np.pad(columns, ((half, half), (0, 0)), mode="reflect")
            data[:, start : start + COLUMNS] = oaconvolve(extended, taps, mode="valid", axes=0)
        return data
