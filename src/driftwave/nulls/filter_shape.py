"""What a segment's window did to the edges of the band, undone.

Welch's segments blur the spectrum by about their inverse length, and so widen the band. Surrogates
drawn from it forget faster than the field, average more moments, and seem less directed: 8 to 15 %
of white noise was rejected instead of 5 %. The filter's response is known exactly, so its edges
are put back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import fft, signal

from driftwave.phase.filters import design

OVERSAMPLING = 16
LARGEST = 2.0


@dataclass(frozen=True)
class FilterShape:
    """Amplitude by which a surrogate's frequencies are multiplied.

    Attributes
    ----------
    band : (low, high)
        Pass band, Hz.
    sampling_rate : float
        At which the filter ran, Hz.
    rate : float
        Frames per second of the analytic signal, at least the band's upper edge.
    bins : int
        Frames of a Hann segment of the cross-spectrum.
    """

    band: tuple[float, float]
    sampling_rate: float
    rate: float
    bins: int

    def __call__(self, length: int) -> np.ndarray:
        """Factor (frequency,) float32 of the frequencies of ``length`` frames.

        |H(f)|^2 by the square root of |H|^4 as the window blurred it about the nearest bin.
        """
        return _factor(self, length)

    def power(self, frequency: np.ndarray) -> np.ndarray:
        """Power gain of the filter, run forwards and backwards, at frequencies in Hz."""
        rate = self.sampling_rate
        _, gain = signal.freqz_sos(
            design(self.band, rate), np.minimum(frequency, rate / 2), fs=rate
        )
        return np.abs(gain) ** 4


@cache
def _factor(shape: FilterShape, length: int) -> np.ndarray:
    count = OVERSAMPLING * shape.bins
    window = np.zeros(count)
    window[: shape.bins] = signal.windows.hann(shape.bins, sym=False)
    kernel = np.abs(fft.fft(window)) ** 2
    sharp = shape.power(np.arange(count) * shape.rate / count)
    blurred = fft.ifft(fft.fft(sharp) * fft.fft(kernel / kernel.sum())).real[::OVERSAMPLING]
    fine = np.arange(length)
    nearest = np.round(fine * shape.bins / length).astype(int) % shape.bins
    floor = np.finfo(np.float32).tiny
    ratio = shape.power(fine * shape.rate / length) / np.maximum(blurred[nearest], floor)
    return np.minimum(np.sqrt(ratio), LARGEST).astype(np.float32)
