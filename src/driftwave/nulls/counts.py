"""Zero-lag surrogates of counts: as sparse as the spikes are, without lags.

Gaussian surrogates of sparse counts seem less directed than they: a moment of the field is the
response to a few spikes, whose order in time looks like travel. Here a Gaussian field without lags,
drawn from the real part of the counts' cross-spectrum, only says where the spikes of each site go:
its samples are replaced by the site's own counts in the order of their ranks (amplitude adjusted
surrogates, Theiler et al. 1992, for many signals), which are then filtered as the recording is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

from driftwave.nulls.cross_spectrum import zero_lag_factors
from driftwave.phase.filters import analytic_response
from driftwave.phase.passes import Frames, segment

TOGETHER = 16


@dataclass(frozen=True)
class Counts:
    """Counts of sites, and how they are filtered.

    Attributes
    ----------
    value : ndarray (site, bin)
        Of observed bins; 0 elsewhere.
    seen : ndarray of bool (bin,)
        Bins that were observed.
    band : (low, high)
        Hz.
    rate : float
        Bins per second.
    every : int
        Bins per detection frame.
    """

    value: np.ndarray
    seen: np.ndarray
    band: tuple[float, float]
    rate: float
    every: int

    @classmethod
    def of(cls, frames: Frames) -> Counts:
        """Of the sites that detection sees."""
        reader, whole = frames.reader, frames.whole
        electrodes = whole.electrodes if whole.reference is None else whole.reference.source
        block = whole.lfp[:].values[:, electrodes.index].T.astype(np.float32)
        seen = np.isfinite(block).all(axis=0)
        block[:, ~seen] = 0
        if whole.reference is not None:
            block = whole.reference(block)
        every = reader.every * reader.stride
        return cls(frames.sites.mean(block), seen, reader.band, reader.sampling_rate, every)

    def analytic(self, counts: np.ndarray) -> np.ndarray:
        """Detection frames, complex64 (site, frame), of the analytic signal of counts."""
        size = fft.next_fast_len(counts.shape[1], real=False)
        response = analytic_response(self.band, self.rate, size)[: size // 2 + 1]
        found = np.empty((len(counts), -(-counts.shape[1] // self.every)), np.complex64)
        for one in range(0, len(counts), TOGETHER):
            few = slice(one, one + TOGETHER)
            spectrum = fft.rfft(counts[few] - counts[few].mean(axis=1, keepdims=True), size)
            whole = np.zeros((len(spectrum), size), complex)
            whole[:, : size // 2 + 1] = spectrum * response
            found[few] = fft.ifft(whole)[:, : counts.shape[1] : self.every]
        return found

    def spectrum(self, length: int) -> np.ndarray:
        """Real part of the cross-spectrum (frequency, site, site) from Hann segments (bins)."""
        window = signal.windows.hann(length, sym=False).astype(np.float32)
        sites = len(self.value)
        total = np.zeros((length // 2 + 1, sites, sites))
        centred = self.value - self.value[:, self.seen].mean(axis=1, keepdims=True)
        for start in range(0, centred.shape[1] - length + 1, max(1, length // 2)):
            if self.seen[start : start + length].all():
                part = fft.rfft(centred[:, start : start + length] * window).T
                for half in (part.real, part.imag):
                    total += half[:, :, None] * half[:, None, :]
        # The slowest frequency is that of the means, which were taken out.
        total[0] = total[1]
        return total


@dataclass(frozen=True)
class Ranked:
    """Surrogates of counts.

    Attributes
    ----------
    counts : Counts
    factors : ndarray (frequency, site, site)
        Of the real part of the counts' cross-spectrum.
    gain : ndarray (frame,)
        Of detection frames.
    stretch : int
        Detection frames of a piece; counts stay within it.
    """

    counts: Counts
    factors: np.ndarray
    gain: np.ndarray
    stretch: int
    kind: str = "zero_lag_ranked"

    def pieces(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """One surrogate (site, frame), piece by piece."""
        start = 0
        while start < len(self.gain):
            left = len(self.gain) - start
            count = self.stretch if left > 1.5 * self.stretch else left
            counts = self.moved(start * self.counts.every, (start + count) * self.counts.every, rng)
            yield self.counts.analytic(counts) * self.gain[start : start + count]
            start += count

    def moved(self, first: int, last: int, rng: np.random.Generator) -> np.ndarray:
        """The counts (site, bin) of a stretch of bins, each site's in another order."""
        value = self.counts.value[:, first:last].copy()
        seen = np.flatnonzero(self.counts.seen[first:last])
        if not len(seen):
            return value
        order = np.argsort(gaussian(self.factors, len(seen), rng), axis=1)
        ranked = np.empty((len(value), len(seen)), value.dtype)
        np.put_along_axis(ranked, order, np.sort(value[:, seen], axis=1), axis=1)
        value[:] = ranked.mean(axis=1, keepdims=True)
        value[:, seen] = ranked
        return value


def gaussian(factors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """A real Gaussian field without lags, float32 (site, sample)."""
    bins, sites, columns = factors.shape
    length = fft.next_fast_len(count, real=True)
    fine = np.round(np.arange(length // 2 + 1) * (bins - 1) / max(1, length // 2)).astype(int)
    spectrum = np.zeros((sites, length // 2 + 1), np.complex64)
    for which in np.flatnonzero(factors.any(axis=(1, 2))):
        at = np.flatnonzero(fine == which)
        noise = rng.standard_normal((columns, 2 * len(at)), dtype=np.float32)
        spectrum[:, at] = (factors[which] @ noise).view(np.complex64)
    return fft.irfft(spectrum, n=length, axis=-1)[:, :count]


def ranked_source(frames: Frames, gain: np.ndarray, stretch: int) -> Ranked:
    """Surrogates of a recording's counts."""
    counts = Counts.of(frames)
    length = max(4, round(segment(frames.reader) * counts.rate))
    return Ranked(counts, zero_lag_factors(counts.spectrum(length)), gain, stretch)
