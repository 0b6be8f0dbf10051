"""Zero-lag surrogates of counts: as sparse as the spikes are, without lags.

Gaussian surrogates of sparse counts seem less directed than they: a moment of the field is the
response to a few spikes, whose order in time looks like travel. Here a Gaussian field without lags,
drawn from the real part of the counts' cross-spectrum, only says where the spikes of each site go:
its samples are replaced by the site's own counts in the order of their ranks (amplitude adjusted
surrogates, Theiler et al. 1992, for many signals), which are then filtered as the recording is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, signal

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.nulls.cross_spectrum import zero_lag_factors
from driftwave.phase.filters import analytic_response
from driftwave.phase.passes import Frames, segment

TOGETHER = 16
# Counts read at once.
BLOCK = 4_000_000
STEPS, PILOTS = 2, 4
STEEPEST = 3.0
SMALLEST = 1e-3


@dataclass(frozen=True)
class Counts:
    """Counts of sites in bins as long as frames, and how they are filtered.

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
        value = np.zeros((len(frames.sites.electrodes), reader.frames), np.float32)
        seen = np.zeros(reader.frames, bool)
        step = max(1, BLOCK // (reader.every * len(electrodes)))
        for start in range(0, reader.frames, step):
            rows = whole.lfp[start * reader.every : (start + step) * reader.every].values
            rows = rows[:, electrodes.index].astype(np.float32)
            # A frame that the recording ends in was not observed as a whole.
            lacking = -len(rows) % reader.every
            rows = np.pad(rows, ((0, lacking), (0, 0)), constant_values=np.nan)
            block = rows.reshape(-1, reader.every, rows.shape[1]).sum(axis=1).T
            here = slice(start, start + block.shape[1])
            seen[here] = np.isfinite(block).all(axis=0)
            block[:, ~seen[here]] = 0
            block = block if whole.reference is None else whole.reference(block)
            value[:, here] = frames.sites.mean(block)
        return cls(value, seen, reader.band, reader.rate, reader.stride)

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
        """Real part of the cross-spectrum (frequency, site, site) from Hann segments (bins).

        Times the sum of squares of the window and the number of segments.
        """
        window = signal.windows.hann(length, sym=False).astype(np.float32)
        sites = len(self.value)
        total = np.zeros((length // 2 + 1, sites, sites))
        centred = self.value - self.value[:, self.seen].mean(axis=1, keepdims=True)
        for start in range(0, centred.shape[1] - length + 1, max(1, length // 2)):
            if self.seen[start : start + length].all():
                part = fft.rfft(centred[:, start : start + length] * window).T
                for half in (part.real, part.imag):
                    total += half[:, :, None] * half[:, None, :]
        # Frequency 0 is that of the means, which were taken out.
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

    def whole(self, rng: np.random.Generator) -> np.ndarray:
        """One surrogate's counts (site, bin)."""
        step = self.stretch * self.counts.every
        edges = range(0, self.counts.value.shape[1], step)
        return np.concatenate([self.moved(one, one + step, rng) for one in edges], axis=1)

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


def ranked_source(frames: Frames, gain: np.ndarray, stretch: int, seed: int) -> Ranked:
    """Surrogates of a recording's counts.

    Ranks of sparse counts follow the Gaussian field only loosely, so that its coherence and the
    contrast of its spectrum are raised until the surrogates' are the recording's.

    Raises
    ------
    InputError
        Gaps leave no whole segment for the cross-spectrum.
    """
    counts = Counts.of(frames)
    length = max(4, round(segment(frames.reader) * counts.rate))
    target = counts.spectrum(length)
    if not target.any():
        raise InputError(
            file=frames.reader.session,
            field="spikes",
            found=f"no stretch of {length / counts.rate:.4g} s observed without a gap",
            expected="one, for the cross-spectrum behind surrogates",
            fix="Raise the lower edge of `band`, or leave waves out for this session",
        )
    wanted = target
    source = Ranked(counts, zero_lag_factors(target), gain, stretch)
    for step in range(STEPS):
        found = np.zeros_like(target)
        for number in range(PILOTS):
            rng = generator(seed, "ranked pilot", str(step), str(number))
            found += replace(counts, value=source.whole(rng)).spectrum(length) / PILOTS
        wanted = corrected(wanted, found, target)
        source = replace(source, factors=zero_lag_factors(wanted))
    return source


def corrected(given: np.ndarray, found: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What to give to the Gaussian field so that what is found is nearer to the target.

    Each real part of a cross-spectrum (frequency, site, site). Power is corrected by the ratio of
    traces per frequency, coherence by one factor per frequency, the slope of the regression of the
    target's coherences on those found.
    """
    power = np.trace(target, axis1=1, axis2=2) / np.trace(found, axis1=1, axis2=2)
    one, other = coherence(found), coherence(target)
    slope = (one * other).sum(axis=(1, 2)) / np.maximum((one**2).sum(axis=(1, 2)), 1e-12)
    slope = np.clip(slope, 1 / STEEPEST, STEEPEST)
    level = np.sqrt(np.einsum("fnn->fn", given) * np.clip(power, 1 / STEEPEST, STEEPEST)[:, None])
    raised = coherence(given) * slope[:, None, None] + np.eye(given.shape[-1])
    value, vector = np.linalg.eigh(raised)
    raised = (vector * np.maximum(value, SMALLEST)[:, None]) @ vector.swapaxes(1, 2)
    # Back to ones on the diagonal, from which raising negative eigenvalues led away.
    size = np.sqrt(np.einsum("fnn->fn", raised))
    raised /= size[:, :, None] * size[:, None, :]
    return raised * level[:, :, None] * level[:, None, :]


def coherence(cross_spectrum: np.ndarray) -> np.ndarray:
    """Coherences (frequency, site, site) without the ones on the diagonal."""
    level = np.sqrt(np.maximum(np.einsum("fnn->fn", cross_spectrum), np.finfo(float).tiny))
    found = cross_spectrum / (level[:, :, None] * level[:, None, :])
    return found * (1 - np.eye(found.shape[-1]))
