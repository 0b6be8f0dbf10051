"""Cross-spectra of analytic signals, and the factors from which zero-lag surrogates are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

REGULARISER = 1e-6
NEGLIGIBLE = 1e-5


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
        window = signal.windows.hann(length, sym=False).astype(np.float32)
        starts = range(0, analytic.shape[1] - length + 1, max(1, length // 2))
        bins = np.arange(length) if bins is None else bins
        total = np.zeros((len(bins), len(analytic), len(analytic)), complex)
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
