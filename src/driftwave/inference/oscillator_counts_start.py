"""Where EM of oscillators seen through spikes starts: peaks of what units have in common.

Single units' spectra are all but white: Poisson noise hides an oscillation that many units share.
The leading eigenvalue of their cross-spectrum, each unit relative to its own floor, shows it, and
its eigenvector holds the units' loadings (Brillinger 1981, Time Series, section 9.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from driftwave.inference.oscillator_counts_em import Observed
from driftwave.inference.oscillator_counts_model import CountsModel
from driftwave.inference.oscillator_model import Bounds
from driftwave.inference.oscillator_start import Spectrum, further_frequencies, spectral_peaks
from driftwave.inference.poisson_em import silent_offset

MOST_SEGMENTS = 400
PERIODS = 6  # of the band's lower edge in one segment
LARGEST_VARIANCE = 0.5  # of the log rate, or of a standardised electrode, in the first guess
# `spectral_peaks` fits its background above 0.5 Hz; slower bands are moved here and back.
LOWEST_EDGE = 3.0


@dataclass(frozen=True)
class SharedSpectrum:
    """Cross-spectra of counts and field, each channel relative to its noise floor.

    Attributes
    ----------
    found : Spectrum
        Of all channels, units first.
    floor : ndarray (channel,)
        Power density (per Hz) that each channel was divided by.
    gain : ndarray (channel,)
        Change of a channel with its log rate (units), or 1 (electrodes).
    units : int
        Number of units.
    resolution : float
        Hz.
    """

    found: Spectrum
    floor: np.ndarray
    gain: np.ndarray
    units: int
    resolution: float

    def cross(self, frequency: float, channels: slice = slice(None)) -> np.ndarray:
        """Relative cross-spectrum around a frequency (Hz)."""
        half = max(0.6 * self.resolution, 1e-9)
        part = Spectrum(self.found.frequency, self.found.coefficients[..., channels])
        return part.cross_spectrum(frequency - half, frequency + half)

    def leading(self) -> Spectrum:
        """Largest eigenvalue at each frequency: of the units, and of the electrodes if any."""
        groups = [slice(0, self.units)]
        if len(self.floor) > self.units:
            groups.append(slice(self.units, len(self.floor)))
        value = np.array(
            [
                [np.linalg.eigvalsh(self.cross(f, group))[-1] for group in groups]
                for f in self.found.frequency
            ]
        )
        return Spectrum(self.found.frequency, np.sqrt(np.maximum(value, 1e-12))[None])

    def patterns(self, frequency: float, count: int) -> np.ndarray:
        """Complex patterns (count, channel), strongest first, scaled to a density per Hz."""
        return self._scaled(*np.linalg.eigh(self.cross(frequency)), count)

    def slow_patterns(self, highest: float, count: int) -> np.ndarray:
        """Real patterns (count, channel) of what is shared at zero lag below ``highest`` Hz."""
        low, high = self.found.frequency[1], max(highest, self.found.frequency[1])
        values, vectors = np.linalg.eigh(self.found.cross_spectrum(low, high).real)
        return self._scaled(values, vectors, count)

    def _scaled(self, values: np.ndarray, vectors: np.ndarray, count: int) -> np.ndarray:
        ranks = [-1 - j % len(values) for j in range(count)]
        # Of each eigenvalue about 1 is noise; a weak pattern must not start at nothing.
        strength = np.sqrt(np.maximum(values[ranks] - 1, 0.05 * values[-1]))
        return (vectors[:, ranks] * strength).T * np.sqrt(self.floor) / self.gain


def shared_spectrum(
    observed: Observed,
    bin_width: float,
    band: tuple[float, float],
    field_gain: Callable[[np.ndarray], np.ndarray] | None = None,
) -> SharedSpectrum:
    """Hann-tapered half-overlapping segments of square-root counts and field, within trials.

    Parameters
    ----------
    observed : Observed
        Bins with a missing field count as zero (the mean).
    bin_width : float
        s.
    band : tuple of float
        Frequencies of interest, Hz; segments hold a few periods of the lower edge.
    field_gain : callable, optional
        Gain of the field's low-pass at frequencies (Hz), to be undone: its edge would pass for a
        peak. Frequencies that it halves are left out.
    """
    counts = np.asarray(observed.counts, dtype=np.float32)
    signals = [np.sqrt(counts)]
    if observed.field is not None:
        signals.append(np.nan_to_num(observed.field, nan=0.0))
    data = np.concatenate(signals, axis=-1)
    trials, bins, channels = data.shape
    length = max(8, min(bins, round(max(PERIODS / band[0], 16 / (band[1] - band[0])) / bin_width)))
    length = min(length, bins)
    starts = np.arange(0, bins - length + 1, max(1, length // 2))
    places = [(r, s) for r in range(trials) for s in starts]
    if len(places) > MOST_SEGMENTS:
        chosen = np.linspace(0, len(places) - 1, MOST_SEGMENTS).astype(int)
        places = [places[i] for i in chosen]
    window = np.hanning(length + 2)[1:-1].astype(np.float32)
    padded = 2 * length
    frequency = np.fft.rfftfreq(padded, bin_width)
    kept = frequency <= 1.5 * band[1]
    passed = np.ones(len(frequency)) if field_gain is None else field_gain(frequency)
    kept &= passed >= 0.5
    scale = np.sqrt(2 * bin_width / np.square(window).sum())
    segments = np.stack([data[r, s : s + length] for r, s in places])
    # Evoked means differ between channels but not in what fluctuates: each segment loses its own.
    segments = (segments - segments.mean(1, keepdims=True)) * window[:, None]
    coefficients = np.fft.rfft(segments, n=padded, axis=1)[:, kept] * scale
    coefficients[..., counts.shape[-1] :] /= passed[kept, None]
    power = np.mean(np.abs(coefficients) ** 2, axis=0)
    floor = np.maximum(np.median(power[1:], axis=0), 1e-12)
    gain = np.concatenate([_root_gain(counts), np.ones(channels - counts.shape[-1])])
    found = Spectrum(frequency[kept], (coefficients / np.sqrt(floor)).astype(np.complex64))
    return SharedSpectrum(found, floor, gain, counts.shape[-1], 2 / (length * bin_width))


def _root_gain(counts: np.ndarray) -> np.ndarray:
    """Change of the mean square-root count with the log rate, (unit,).

    For Poisson counts y of rate l, d E g(y) / d log l = Cov(g(y), y); the count's excess variance
    is divided out.
    """
    flat = counts.reshape(-1, counts.shape[-1]).astype(float)
    mean, variance = flat.mean(0), flat.var(0)
    covariance = (np.sqrt(flat) * flat).mean(0) - np.sqrt(flat).mean(0) * mean
    active = variance > 0
    gain = np.ones(len(mean))
    gain[active] = (mean * covariance)[active] / variance[active]
    return gain


def starting_frequencies(
    shared: SharedSpectrum, band: tuple[float, float], prominence: float, count: int | None
) -> tuple[np.ndarray, int]:
    """Frequencies (Hz), and how many of them, the first ones, are peaks.

    Parameters
    ----------
    shared : SharedSpectrum
    band : tuple of float
        Hz.
    prominence : float
        dB by which a peak stands out on both sides.
    count : int or None
        That many: the strongest peaks, then wherever the flattened spectrum is highest. None for
        all peaks.
    """
    leading = shared.leading()
    factor = LOWEST_EDGE / band[0]
    scaled = Spectrum(leading.frequency * factor, leading.coefficients)
    edges = (LOWEST_EDGE, band[1] * factor)
    peaks = spectral_peaks(scaled, edges, prominence)
    number = len(peaks)
    if count is not None:
        peaks, missing = peaks[:count], count - number
        if missing > 0:
            more = further_frequencies(scaled, edges, peaks, missing)
            peaks = np.concatenate([peaks, more])
    return np.clip(peaks / factor, *band), min(number, len(peaks))


def frequencies_resolved(shared: SharedSpectrum, band: tuple[float, float]) -> int:
    """Number of frequencies of the spectrum inside the band."""
    return int(((shared.found.frequency >= band[0]) & (shared.found.frequency <= band[1])).sum())


def first_guess(
    observed: Observed,
    shared: SharedSpectrum,
    frequencies: np.ndarray,
    *,
    slow: int,
    band: tuple[float, float],
    bin_width: float,
    bounds: Bounds,
) -> CountsModel:
    """Loadings from the leading patterns at the frequencies given (Hz), each oscillator its own."""
    frequencies = np.sort(frequencies)
    columns: list[np.ndarray] = []
    width = np.clip(0.2 * frequencies, 0.1 * shared.resolution, 2.0)
    least = -np.log(bounds.least_damping) / (np.pi * bin_width)
    width = np.minimum(width, least)
    for k, f in enumerate(frequencies):
        # Oscillators within one resolution of each other share a cross-spectrum: one pattern each.
        rank = int((np.abs(frequencies[:k] - f) < shared.resolution / 2).sum())
        pattern = shared.patterns(f, rank + 1)[rank] * np.sqrt(np.pi * width[k] / 2)
        columns += [pattern.real, -pattern.imag]
    if slow:
        columns += list(shared.slow_patterns(band[0], slow) * np.sqrt(band[0] / 2))
    loading = np.stack(columns, axis=1)
    offset = silent_offset(observed.counts)
    loading[: shared.units][~observed.counts.any((0, 1))] = 0
    share = np.square(loading).sum(1)
    loading *= np.sqrt(np.minimum(1, LARGEST_VARIANCE / np.maximum(share, 1e-12)))[:, None]
    share = np.square(loading).sum(1)
    corners = band[0] * (np.geomspace(0.1, 1, slow) if slow > 1 else np.full(slow, 0.3))
    return CountsModel(
        angle=np.clip(2 * np.pi * frequencies * bin_width, *bounds.angle),
        damping=np.maximum(np.exp(-np.pi * width * bin_width), bounds.least_damping),
        slow_damping=np.exp(-2 * np.pi * corners * bin_width),
        weights=loading[: shared.units],
        offset=offset - 0.5 * share[: shared.units],
        field_weights=loading[shared.units :],
        field_noise=1 - share[shared.units :],
    )
