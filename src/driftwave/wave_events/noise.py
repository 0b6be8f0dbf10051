"""The noise that electrodes share without lags, which a fit of phases has to weigh."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from driftwave.nulls.cross_spectrum import CrossSpectrum
from driftwave.phase.frames import FieldReader
from driftwave.phase.timescale import stretch_of

# Further from a wave than this (Hz) the recording's cross-spectrum holds noise only.
APART = 4.0
GRID = 2.0
SHRINK = 0.02
FLOOR = 0.01
# Patterns of the cross-spectrum with more than this share of lagged power travel: no noise.
TRAVELS = 0.5
# Between events: segments (s), distance from events (s), most pieces and most of each (s), and how
# many samples each electrode needs.
SEGMENT = 0.5
EDGE = 0.25
PIECES = 40
LONGEST = 3.0
ENOUGH = 8.0
# Power of the whole recording over that between events above which it is mostly waves.
LOUDER = 30.0


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
        grid = GRID / stretch_of(self.band)
        cell = round(frequency / grid)
        if cell not in self.known:
            self.known[cell] = self._at(cell * grid)
        return self.known[cell]

    def _at(self, frequency: float) -> np.ndarray | None:
        bins = np.arange(len(self.spectrum)) * self.rate / len(self.spectrum)
        inside = (bins >= self.band[0]) & (bins <= self.band[1])
        trace = np.trace(self.spectrum.real, axis1=1, axis2=2)
        apart = APART / stretch_of(self.band)
        used = np.flatnonzero(inside & (np.abs(bins - frequency) > apart) & (trace > 0))
        electrodes = self.spectrum.shape[-1]
        # Each complex coefficient gives two real samples, each second segment is independent.
        samples = self.segments * len(used)
        if samples < electrodes:
            return None
        mean = (self.spectrum[used] * (electrodes / trace[used])[:, None, None]).mean(axis=0)
        return shrunk(without_waves(mean), samples)


def noise_of(
    reader: FieldReader, events: list[tuple[int, int]], whole: CrossSpectrum, rate: float
) -> ZeroLagNoise | None:
    """Noise of a recording: of what lies between its events, else of all of it.

    Of strong waves the whole recording's cross-spectrum holds more than of noise, at frequencies
    far from their own too, as they begin and end. None if it does and the rest is too short, and
    where events leave nothing between them.

    Parameters
    ----------
    reader : FieldReader
    events : list of (first frame, last frame)
    whole : CrossSpectrum
        Of the whole recording at ``rate`` frames per second.
    """
    longer = stretch_of(reader.band)
    length = max(2, round(SEGMENT * longer * reader.rate))
    edge = round(EDGE * longer * reader.rate)
    busy = reader.gaps.copy()
    for start, stop in events:
        busy[max(0, start - edge) : stop + edge] = True
    ends = np.flatnonzero(np.diff(np.concatenate([[True], busy, [True]]).astype(np.int8)))
    pieces = sorted(ends.reshape(-1, 2).tolist(), key=lambda ends: ends[0] - ends[1])
    quiet = CrossSpectrum.of(np.zeros((len(reader.electrodes), 0), np.complex64), length)
    longest = round(LONGEST * longer * reader.rate)
    power = []
    for start, stop in pieces[:PIECES]:
        signal = reader.signal(start, min(stop, start + longest))
        power.append(float((np.abs(signal) ** 2).sum(axis=0).mean()))
        quiet += CrossSpectrum.of(signal, length)
    bins = ((reader.band[1] - reader.band[0]) * longer - 2 * APART) * SEGMENT
    if quiet.segments * bins >= ENOUGH * len(reader.electrodes):
        return ZeroLagNoise(quiet.mean, quiet.segments, reader.rate, reader.band)
    if not power or _power(whole) > LOUDER * np.median(power):
        return None
    return ZeroLagNoise(whole.mean, whole.segments, rate, reader.band)


def _power(spectrum: CrossSpectrum) -> float:
    """Sum of the electrodes' mean squares, by Parseval; Hann's window has a mean square of 3/8."""
    return (
        float(np.trace(spectrum.mean.real, axis1=1, axis2=2).sum())
        / 0.375
        / len(spectrum.total) ** 2
    )


def without_waves(cross_spectrum: np.ndarray) -> np.ndarray:
    """Real part of a cross-spectrum (electrode, electrode) less what travels.

    Zero-lag noise does not contribute to Im S, so that an eigenvector v of i Im S tells the plane
    of v and its conjugate in which a wave's pattern lies, but not the pattern: where the array does
    not hold whole wavelengths, the wave's cosine is stronger than its sine. Within that plane, a
    wave of power p over noise n I has the eigenvalues p + n and n in S: the first is lowered to the
    second.
    """
    value, vector = np.linalg.eigh(1j * cross_spectrum.imag)
    power = np.real(np.einsum("ne,nm,me->e", vector.conj(), cross_spectrum.real, vector))
    cleared = cross_spectrum.astype(complex)
    for number in np.flatnonzero(value > TRAVELS * power):
        plane = np.stack([vector[:, number], vector[:, number].conj()], axis=1)
        level, axes = np.linalg.eigh(plane.conj().T @ cross_spectrum @ plane)
        wave = plane @ axes[:, 1]
        cleared -= (level[1] - level[0]) * np.outer(wave, wave.conj())
    return cleared.real


def shrunk(covariance: np.ndarray, samples: int) -> np.ndarray:
    """Covariance drawn towards its diagonal as its samples are few, positive, mean variance 1."""
    electrodes = len(covariance)
    share = max(SHRINK, electrodes / (electrodes + samples))
    mixed = (1 - share) * covariance + share * np.diag(np.diag(covariance))
    value, vector = np.linalg.eigh(mixed)
    mixed = (vector * np.maximum(value, FLOOR * value.mean())) @ vector.T
    return mixed * electrodes / np.trace(mixed)
