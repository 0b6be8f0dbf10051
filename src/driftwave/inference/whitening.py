"""Flattening a field's 1/f background without moving phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import dct, idct
from scipy.signal import firwin2, oaconvolve

COLUMNS = 16
NEGLIGIBLE = 1e-3


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

    @property
    def reach(self) -> int:
        """Samples to each side beyond which the taps hold a thousandth of their energy."""
        half = len(self.taps) // 2
        energy = np.cumsum(self.taps[half:][::-1] ** 2)[::-1]
        beyond = 2 * np.append(energy[1:], 0.0) / np.sum(self.taps**2)
        return int(np.argmax(beyond <= NEGLIGIBLE))

    def apply_to_gaps(self, data: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Filter data with NaN; what lies within :attr:`reach` of a NaN is missing after it.

        Gaps are bridged by straight lines before filtering, so that the slow part of the field,
        which the filter's far taps pick up, is about right.

        Parameters
        ----------
        data : ndarray (time, channel)
            Overwritten.

        Returns
        -------
        data : ndarray (time, channel)
            Zero where missing.
        seen : ndarray of bool (time, channel) or None
            None where nothing is missing.
        """
        missing = np.isnan(data)
        if not missing.any():
            return self.apply(data), None
        for column in np.flatnonzero(missing.any(0)):
            data[:, column] = bridged(data[:, column])
        seen = ~widened(missing, self.reach, self.reach)
        data = self.apply(data)
        data[~seen] = 0
        return data, seen

    def undo(self, data: np.ndarray) -> np.ndarray:
        """The data (time, channel) of which :meth:`apply` makes these, exactly.

        Filtering with reflection at the ends is a product in the cosine transform of type I.
        """
        if self.identity or len(data) < 2:
            return data / self.taps[len(self.taps) // 2]
        frequency = np.linspace(0, self.rate / 2, len(data))
        transformed = dct(data, type=1, axis=0) / self.gain(frequency)[:, None]
        return idct(transformed, type=1, axis=0)

    def causal(self, length: int = 8192) -> tuple[np.ndarray, np.ndarray]:
        """Minimum-phase filter of the same gain, and its inverse.

        A stationary Gaussian process filtered by either has the same law, for their ratio is an
        all-pass filter; only this one needs no future. By folding the cepstrum (Oppenheim & Schafer
        1989, Discrete-Time Signal Processing, section 12.7).

        Returns
        -------
        taps, inverse : ndarray (length // 2,)
        """
        if self.identity:
            return self.taps.copy(), 1 / self.taps
        frequency = np.linspace(0, self.rate / 2, length // 2 + 1)
        cepstrum = np.fft.irfft(np.log(np.abs(self.gain(frequency)) + 1e-12))
        cepstrum[1 : length // 2] *= 2
        cepstrum[length // 2 + 1 :] = 0
        folded = np.fft.rfft(cepstrum)
        taps, inverse = (np.fft.irfft(np.exp(sign * folded)) for sign in (1, -1))
        return taps[: length // 2], inverse[: length // 2]


def bridged(signal: np.ndarray) -> np.ndarray:
    """A signal (time,) with straight lines across its NaN; zero if there is nothing else."""
    missing = np.isnan(signal)
    if missing.all():
        return np.zeros_like(signal)
    time = np.arange(len(signal))
    filled = np.interp(time, time[~missing], signal[~missing])
    return filled.astype(signal.dtype)


def widened(missing: np.ndarray, before: int, after: int) -> np.ndarray:
    """A mask (time, channel) reaching ``before`` samples further back and ``after`` further on."""
    total = np.cumsum(missing, axis=0, dtype=np.int32)
    samples = len(missing)
    place = np.arange(samples)
    upper = total[np.minimum(place + before, samples - 1)]
    low = place - after - 1
    lower = np.where((low >= 0)[:, None], total[np.maximum(low, 0)], 0)
    return upper > lower
