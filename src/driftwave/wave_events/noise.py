"""The noise that electrodes share without lags, which a fit of phases has to weigh."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# Further from a wave than this (Hz) the recording's cross-spectrum holds noise only.
APART = 4.0
GRID = 2.0
SHRINK = 0.02
FLOOR = 0.01
# Patterns of the cross-spectrum with more than this share of lagged power travel: no noise.
TRAVELS = 0.5


@dataclass
class ZeroLagNoise:
    """Noise covariance between electrodes about any frequency, from a recording's cross-spectrum.

    Attributes
    ----------
    spectrum : ndarray, complex (frequency, electrode, electrode)
        Welch's cross-spectrum of the analytic signal, frequencies in the order of the FFT.
    segments : int
        Behind it; half of them count as independent.
    rate : float
        Frames per second of the signal.
    band : (low, high)
        Hz.
    """

    spectrum: np.ndarray
    segments: int
    rate: float
    band: tuple[float, float]
    known: dict[int, np.ndarray | None] = field(default_factory=dict, repr=False)

    def __call__(self, frequency: float) -> np.ndarray | None:
        """Covariance (electrode, electrode) of the noise at a wave's frequency, mean variance 1.

        The mean over the band, without ``APART`` Hz about the wave, of the real part of the
        cross-spectrum, each frequency scaled to the same trace: the spatial structure of noise
        changes little with frequency, while the wave's own cross-spectrum would make it look like
        noise. None if the band is too narrow for that.
        """
        cell = round(frequency / GRID)
        if cell not in self.known:
            self.known[cell] = self._at(cell * GRID)
        return self.known[cell]

    def _at(self, frequency: float) -> np.ndarray | None:
        bins = np.arange(len(self.spectrum)) * self.rate / len(self.spectrum)
        inside = (bins >= self.band[0]) & (bins <= self.band[1])
        trace = np.trace(self.spectrum.real, axis1=1, axis2=2)
        used = np.flatnonzero(inside & (np.abs(bins - frequency) > APART) & (trace > 0))
        electrodes = self.spectrum.shape[-1]
        # Each complex coefficient gives two real samples, each second segment is independent.
        samples = self.segments * len(used)
        if samples < electrodes:
            return None
        mean = (self.spectrum[used] * (electrodes / trace[used])[:, None, None]).mean(axis=0)
        return shrunk(without_waves(mean), samples)


def without_waves(cross_spectrum: np.ndarray) -> np.ndarray:
    """Real part of a cross-spectrum (electrode, electrode) less what travels.

    A wave's pattern is an eigenvector of i Im S, to which zero-lag noise does not contribute; the
    same power stands twice, as v and its conjugate, in Re S.
    """
    value, vector = np.linalg.eigh(1j * cross_spectrum.imag)
    power = np.real(np.einsum("ne,nm,me->e", vector.conj(), cross_spectrum.real, vector))
    travels = np.abs(value) > TRAVELS * power
    lagged = np.real((vector[:, travels] * np.abs(value[travels])) @ vector[:, travels].conj().T)
    return cross_spectrum.real - lagged


def shrunk(covariance: np.ndarray, samples: int) -> np.ndarray:
    """Covariance drawn towards its diagonal as its samples are few, positive, mean variance 1."""
    electrodes = len(covariance)
    share = max(SHRINK, electrodes / (electrodes + samples))
    mixed = (1 - share) * covariance + share * np.diag(np.diag(covariance))
    value, vector = np.linalg.eigh(mixed)
    mixed = (vector * np.maximum(value, FLOOR * value.mean())) @ vector.T
    return mixed * electrodes / np.trace(mixed)
