"""The zero-lag cross-spectrum of arrays too large for a matrix of electrode x electrode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

from driftwave.nulls.cross_spectrum import NEGLIGIBLE


@dataclass(frozen=True)
class SketchedSpectrum:
    """A cross-spectrum as the product of a thin matrix with itself.

    With segment spectra X (electrode x segment), Re S = (Re X Re X^T + Im X Im X^T) / segments:
    [Re X, Im X] is itself a factor of the real part, without Cholesky. Segments beyond ``width``
    are added to earlier ones with random signs, which leaves S right on average (count sketch,
    Charikar et al. 2002) and memory bounded.

    Attributes
    ----------
    columns : ndarray, complex64 (frequency, electrode, width)
    segments : int
    """

    columns: np.ndarray
    segments: int

    @classmethod
    def of(
        cls, analytic: np.ndarray, length: int, *, width: int, rng: np.random.Generator
    ) -> SketchedSpectrum:
        """Sketch of (electrode, frame) from half-overlapping Hann segments of ``length`` frames."""
        starts = range(0, analytic.shape[1] - length + 1, max(1, length // 2))
        columns = np.zeros((length, len(analytic), width), np.complex64)
        taper = signal.windows.hann(length, sym=False).astype(np.float32)
        order = rng.permutation(width)
        for number, start in enumerate(starts):
            if number and number % width == 0:
                order = rng.permutation(width)
            spectrum = fft.fft(analytic[:, start : start + length] * taper, axis=-1).T
            columns[..., order[number % width]] += rng.choice((-1, 1)) * spectrum
        return cls(columns, len(starts))

    def __add__(self, other: SketchedSpectrum) -> SketchedSpectrum:
        return SketchedSpectrum(self.columns + other.columns, self.segments + other.segments)

    def factors(self) -> np.ndarray:
        """Factors (frequency, electrode, 2 width) of the real part of the mean cross-spectrum.

        Frequencies without power (outside the band) get zeros.
        """
        parts = np.concatenate([self.columns.real, self.columns.imag], axis=-1)
        power = np.einsum("fnc,fnc->f", parts, parts)
        parts[power <= NEGLIGIBLE * power.max()] = 0
        parts /= np.float32(np.sqrt(max(self.segments, 1)))
        return parts
