"""The zero-lag null: fields with every electrode's spectrum and all zero-lag coherence, no lags.

From Welch's cross-spectrum S(f) only the real part is kept, S0 = Re S(f) + 1e-6 tr(S) / N I; with
its Cholesky factor L(f) and complex normal numbers e, the spectrum L(f) e makes a surrogate. Shared
references, volume conduction and smooth maps stay; what is destroyed are phase lags, so that the
null answers "is there a travelling wave?".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

from driftwave.waves.directionality import Directionality, Fluxes, join

REGULARISER = 1e-6
NEGLIGIBLE = 1e-7


@dataclass
class CrossSpectrum:
    """Welch's cross-spectrum of an analytic signal, gathered stretch by stretch.

    Attributes
    ----------
    total : ndarray, complex (frequency, electrode, electrode)
        Sum over segments; frequencies k / segment length, in the order of the FFT.
    segments : int
    """

    total: np.ndarray
    segments: int

    @classmethod
    def of(cls, analytic: np.ndarray, length: int, bins: np.ndarray | None = None) -> CrossSpectrum:
        """Cross-spectrum of (electrode, frame) from half-overlapping Hann segments.

        ``bins`` restricts it to some frequencies (k / ``length`` frames); default all.
        """
        electrodes, count = analytic.shape
        window = signal.windows.hann(length, sym=False).astype(np.float32)
        starts = range(0, count - length + 1, max(1, length // 2))
        bins = np.arange(length) if bins is None else bins
        total = np.zeros((len(bins), electrodes, electrodes), complex)
        if len(starts):
            pieces = np.stack([analytic[:, s : s + length] for s in starts])
            spectrum = fft.fft(pieces * window, axis=-1)[..., bins].transpose(2, 1, 0)
            # Double precision: the regulariser is below single precision's rounding of the trace.
            spectrum = spectrum.astype(complex)
            total = spectrum @ spectrum.conj().swapaxes(1, 2)
        return cls(total, len(starts))

    def __add__(self, other: CrossSpectrum) -> CrossSpectrum:
        return CrossSpectrum(self.total + other.total, self.segments + other.segments)

    @property
    def mean(self) -> np.ndarray:
        """Cross-spectrum (frequency, electrode, electrode), arbitrary scale common to all."""
        return self.total / max(self.segments, 1)


def zero_lag_factors(cross_spectrum: np.ndarray) -> np.ndarray:
    """Cholesky factors of the real part, (frequency, electrode, electrode) float32.

    Frequencies without power (outside the band) get zeros.
    """
    real = np.array(cross_spectrum.real, dtype=float)
    count = real.shape[-1]
    trace = np.trace(real, axis1=1, axis2=2)
    used = trace > NEGLIGIBLE * trace.max()
    factors = np.zeros(real.shape, np.float32)
    # With fewer segments than electrodes S is singular.
    regulariser = (REGULARISER * trace[used] / count)[:, None, None] * np.eye(count)
    factors[used] = np.linalg.cholesky(real[used] + regulariser)
    return factors


def surrogate(factors: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """One surrogate analytic signal, complex64 (electrode, frame)."""
    bins, electrodes, _ = factors.shape
    fine = np.round(np.arange(frames) * bins / frames).astype(int) % bins
    spectrum = np.zeros((electrodes, frames), np.complex64)
    for which in np.flatnonzero(np.abs(factors).max(axis=(1, 2)) > 0):
        at = np.flatnonzero(fine == which)
        noise = rng.standard_normal((electrodes, 2 * len(at)), dtype=np.float32)
        spectrum[:, at] = (factors[which] @ noise).view(np.complex64)
    return fft.ifft(spectrum, axis=-1, overwrite_x=True)


@dataclass(frozen=True)
class Reduced:
    """What is kept of one surrogate (or of the data).

    Attributes
    ----------
    mean : ndarray (family,)
        Power-weighted time average of the unsmoothed statistic.
    largest : ndarray (scale x family,)
        Largest smoothed statistic over time.
    sample : ndarray (scale x family, sample)
        Smoothed statistic once per shortest smoothing window.
    """

    mean: np.ndarray
    largest: np.ndarray
    sample: np.ndarray


def multiscale(fluxes: Fluxes, smoothing: tuple[int, ...]) -> np.ndarray:
    """Statistic smoothed over several windows (frames), (scale x family, frame)."""
    return np.concatenate([fluxes.smooth(frames).statistic() for frames in smoothing])


def reduce(fluxes: Fluxes, smoothing: tuple[int, ...]) -> Reduced:
    """Statistics of one field; ``smoothing`` in frames."""
    smooth = multiscale(fluxes, smoothing)
    every = min(smoothing)
    return Reduced(fluxes.mean_statistic(), smooth.max(axis=1), smooth[:, every // 2 :: every])


def surrogate_statistics(
    factors: np.ndarray,
    measure: Directionality,
    *,
    frames: int,
    stretch: int,
    smoothing: tuple[int, ...],
    rng: np.random.Generator,
) -> Reduced:
    """Draw one surrogate as long as the recording, in stretches of ``stretch`` frames, reduced."""
    parts, left = [], frames
    while left > 0:
        count = stretch if left > 1.5 * stretch else left
        parts.append(measure(surrogate(factors, count, rng)))
        left -= count
    return reduce(join(parts), smoothing)


@dataclass(frozen=True)
class Null:
    """The zero-lag null of a recording.

    Attributes
    ----------
    mean : ndarray (surrogate, family)
    largest : ndarray (surrogate,)
        Largest standardised smoothed statistic over time, families and smoothing windows.
    centre, spread : ndarray (scale x family,)
        Mean and standard deviation over time and surrogates, which standardise the statistic.
    threshold : ndarray (scale x family,)
        Quantile of the smoothed statistic over time and surrogates.
    """

    mean: np.ndarray
    largest: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    threshold: np.ndarray

    def score(self, smooth: np.ndarray) -> np.ndarray:
        """Largest standardised statistic (frame,) of smoothed ones (scale x family, frame)."""
        return ((smooth - self.centre[:, None]) / self.spread[:, None]).max(axis=0)

    def p_recording(self, observed: np.ndarray) -> np.ndarray:
        """p per family of the time-averaged statistic (family,)."""
        exceed = (self.mean >= observed[None]).sum(axis=0)
        return (1 + exceed) / (len(self.mean) + 1)

    def p_event(self, peak: np.ndarray) -> np.ndarray:
        """Family-wise p of the largest score of each event (event,)."""
        exceed = (self.largest[None] >= np.asarray(peak)[:, None]).sum(axis=1)
        return (1 + exceed) / (len(self.largest) + 1)


def gather(drawn: list[Reduced], quantile: float) -> Null:
    """Make a null of reduced surrogates."""
    sample = np.concatenate([one.sample for one in drawn], axis=1)
    centre, spread = sample.mean(axis=1), sample.std(axis=1)
    largest = np.stack([one.largest for one in drawn])
    return Null(
        mean=np.stack([one.mean for one in drawn]),
        largest=((largest - centre) / spread).max(axis=1),
        centre=centre,
        spread=spread,
        threshold=np.quantile(sample, quantile, axis=1),
    )


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """False discovery rate at which each hypothesis would be rejected (Benjamini 1995)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1) if len(p) else ranked
    return q
