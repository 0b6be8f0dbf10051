"""Where the oscillators' EM starts: spectral peaks above the 1/f background, and their maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

from driftwave.inference.oscillator_model import Bounds, Oscillators

SEGMENT_SECONDS = 2.0
START_BANDWIDTH = 2.0
SLOWEST, FASTEST = 0.3, 3.0


@dataclass(frozen=True)
class Spectrum:
    """Segment-wise Fourier coefficients of a field.

    Attributes
    ----------
    frequency : ndarray (frequency,)
        Hz.
    coefficients : ndarray, complex (segment, frequency, channel)
        Scaled so that the mean of |.|^2 over segments is the one-sided power density (per Hz).
    """

    frequency: np.ndarray
    coefficients: np.ndarray

    @property
    def power(self) -> np.ndarray:
        """Welch's power density (frequency, channel)."""
        return np.mean(np.abs(self.coefficients) ** 2, axis=0)

    def cross_spectrum(self, low: float, high: float) -> np.ndarray:
        """Cross-spectral density (channel, channel), averaged from ``low`` to ``high`` (Hz)."""
        inside = (self.frequency >= low) & (self.frequency <= high)
        if not inside.any():
            inside[np.argmin(np.abs(self.frequency - (low + high) / 2))] = True
        flat = self.coefficients[:, inside].reshape(-1, self.coefficients.shape[-1])
        return flat.T @ flat.conj() / len(flat)


def spectrum(data: np.ndarray, rate: float, highest: float, most: int = 200) -> Spectrum:
    """Hann-tapered half-overlapping segments of 2 s (shorter for a short recording).

    Segments with missing values are left out; if that leaves fewer than four, missing values are
    taken as the channel's mean over the segment.

    Parameters
    ----------
    data : ndarray (time, channel)
    rate, highest : float
        Sampling rate, and the highest frequency kept, Hz.
    most : int
        At most so many segments, spread over the recording.
    """
    length = max(8, min(int(SEGMENT_SECONDS * rate), len(data) // 4))
    starts = np.arange(0, len(data) - length + 1, length // 2)
    missing = np.isnan(data).any(1)
    if missing.any():
        total = np.concatenate([[0], np.cumsum(missing)])
        whole = starts[total[starts + length] == total[starts]]
        starts = whole if len(whole) >= 4 else starts
    if len(starts) > most:
        starts = starts[np.linspace(0, len(starts) - 1, most).astype(int)]
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    frequency = np.fft.rfftfreq(length, 1 / rate)
    kept = frequency <= highest
    scale = np.sqrt(2 / (rate * np.square(window).sum()))
    parts = []
    for start in starts:
        segment = data[start : start + length]
        if missing[start : start + length].any():
            counts = np.maximum(np.isfinite(segment).sum(0), 1)
            segment = np.nan_to_num(segment - np.nansum(segment, axis=0) / counts)
        segment = (segment - segment.mean(0)) * window[:, None]
        parts.append(np.fft.rfft(segment, axis=0)[kept].astype(np.complex64) * np.float32(scale))
    return Spectrum(frequency[kept], np.array(parts))


def flatten(frequency: np.ndarray, logarithm: np.ndarray) -> np.ndarray:
    """Log-power above a smooth background, natural log units.

    The background is a parabola in log-log coordinates (1/f with a bend towards a noise floor),
    fitted by least squares in which points above it count little, so that peaks do not lift it.
    """
    position = np.log(frequency / np.sqrt(frequency[0] * frequency[-1]))
    design = np.stack([np.ones_like(position), position, position**2], axis=1)
    # Evenly spaced frequencies crowd at the high end of a logarithmic axis.
    density = 1 / frequency
    weight = density
    for _ in range(50):
        root = np.sqrt(weight)
        fit = np.linalg.lstsq(design * root[:, None], logarithm * root, rcond=None)[0]
        above = logarithm - design @ fit
        weight = density * np.where(above > 0, 0.05, 1.0)
    return above


def spectral_peaks(found: Spectrum, band: tuple[float, float], prominence: float) -> np.ndarray:
    """Frequencies (Hz) of peaks of the mean log-spectrum inside the band, strongest first.

    Parameters
    ----------
    found : Spectrum
    band : tuple of float
        Hz.
    prominence : float
        dB by which a peak must stand out from the flattened spectrum on both sides.
    """
    frequency, above = _flat_spectrum(found, band)
    decibel = 10 / np.log(10) * above
    peaks, facts = find_peaks(decibel, prominence=prominence)
    inside = (frequency[peaks] >= band[0]) & (frequency[peaks] <= band[1])
    order = np.argsort(-facts["prominences"][inside], kind="stable")
    return _refined(frequency, above, peaks[inside][order])


def _wide(found: Spectrum, band: tuple[float, float]) -> np.ndarray:
    """Frequencies the background is fitted to: the band and something beyond both ends."""
    return (found.frequency >= max(0.25 * band[0], 0.5)) & (found.frequency <= 1.5 * band[1])


def background(found: Spectrum, band: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (Hz) and the log-power (natural, averaged over channels) of the background."""
    wide = _wide(found, band)
    logarithm = np.log(found.power[wide]).mean(1)
    return found.frequency[wide], logarithm - flatten(found.frequency[wide], logarithm)


def _flat_spectrum(found: Spectrum, band: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    wide = _wide(found, band)
    frequency = found.frequency[wide]
    above = flatten(frequency, np.log(found.power[wide]).mean(1))
    padded = np.pad(above, 1, mode="edge")
    return frequency, (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def _refined(frequency: np.ndarray, above: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Frequency at the vertex of the parabola through each peak and its neighbours."""
    left, centre, right = above[peaks - 1], above[peaks], above[peaks + 1]
    shift = 0.5 * (left - right) / (left - 2 * centre + right)
    return frequency[peaks] + shift * (frequency[1] - frequency[0])


def further_frequencies(
    found: Spectrum, band: tuple[float, float], known: np.ndarray, count: int
) -> np.ndarray:
    """``count`` more starting frequencies (Hz), where the flattened spectrum is highest."""
    frequency, above = _flat_spectrum(found, band)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    frequency, above = frequency[inside], above[inside]
    chosen = list(known)
    apart = min(2.0, (band[1] - band[0]) / (2 * (len(known) + count)))
    for _ in range(count):
        free = np.ones(len(frequency), bool)
        for taken in chosen:
            free &= np.abs(frequency - taken) >= apart
        candidates = np.where(free, above, -np.inf)
        chosen.append(float(frequency[np.argmax(candidates)]))
    return np.array(chosen[len(known) :])


def _noise_covariance(found: Spectrum, frequencies: np.ndarray, rate: float) -> np.ndarray:
    """Zero-lag covariance of white noise with the cross-spectrum found away from the peaks."""
    away = found.frequency >= 1
    for f in frequencies:
        away &= np.abs(found.frequency - f) > 3
    if away.sum() < 4:
        away = found.frequency >= 1
    flat = found.coefficients[:, away].reshape(-1, found.coefficients.shape[-1])
    density = (flat.T @ flat.conj() / len(flat)).real.astype(np.float64)
    channels = len(density)
    return rate / 2 * (density + 1e-3 * np.trace(density) / channels * np.eye(channels))


def _patterns(cross: np.ndarray, noise: np.ndarray | None, count: int) -> np.ndarray:
    """The ``count`` strongest complex patterns (count, channel) of a cross-spectrum.

    With the noise's own cross-spectrum given, strength is the ratio to it, and what the noise
    contributes is taken off.
    """
    root = np.eye(len(cross)) if noise is None else np.linalg.cholesky(noise)
    whitened = np.linalg.solve(root, np.linalg.solve(root, cross).conj().T)
    values, vectors = np.linalg.eigh(whitened)
    floor = 0.0 if noise is None else 1.0
    strength = np.sqrt(np.maximum(values[::-1][:count] - floor, 1e-2 * values[-1]))
    return (root @ vectors[:, ::-1][:, :count] * strength).T


def oscillator_columns(
    found: Spectrum, frequency: float, noise: np.ndarray | None, count: int
) -> list[np.ndarray]:
    """Loadings (Re c, -Im c in turn) of the strongest patterns at a frequency (Hz).

    ``noise`` is the noise's own cross-spectral density (channel, channel), if it is to be taken
    into account.
    """
    cross = found.cross_spectrum(frequency - 0.6, frequency + 0.6).astype(np.complex128)
    columns: list[np.ndarray] = []
    for c in _patterns(cross, noise, count):
        turned = c * np.sqrt(np.pi * START_BANDWIDTH / 2)
        columns += [turned.real, -turned.imag]
    return columns


def first_guess(
    found: Spectrum,
    frequencies: np.ndarray,
    *,
    slow: int,
    full: bool,
    rate: float,
    bounds: Bounds,
) -> Oscillators:
    """Loadings from the strongest patterns of the cross-spectra at the frequencies given.

    At an oscillator's frequency the cross-spectrum is c c* times a Lorentzian of the start
    bandwidth (full width at half maximum), whose height is 2 / (pi width) times the variance. A
    frequency given n times starts n oscillators, with the n strongest patterns there.

    Parameters
    ----------
    found : Spectrum
        Of channels with unit variance.
    frequencies : ndarray (oscillator,)
        Hz, ascending.
    slow : int
        Number of slow factors.
    full : bool
        Whether noise gets a full covariance; the field's background should then be white.
    rate : float
        Hz.
    bounds : Bounds
    """
    noise = _noise_covariance(found, frequencies, rate) if full else None
    columns: list[np.ndarray] = []
    density = None if noise is None else noise * 2 / rate
    for f, count in zip(*np.unique(frequencies, return_counts=True), strict=True):
        columns += oscillator_columns(found, f, density, count)
    columns += _slow_columns(found, slow)
    loading = np.stack(columns, axis=1)
    share = np.square(loading).sum(1)
    # The guess must leave noise on every channel: loadings may take at most 80 % of its variance.
    loading *= np.sqrt(np.minimum(1, 0.8 / np.maximum(share, 1e-12)))[:, None]
    corners = np.geomspace(SLOWEST, FASTEST, slow) if slow > 1 else np.full(slow, 1.0)
    damping = max(np.exp(-np.pi * START_BANDWIDTH / rate), bounds.least_damping)
    return Oscillators(
        angle=np.clip(2 * np.pi * frequencies / rate, *bounds.angle),
        damping=np.full(len(frequencies), damping),
        slow_damping=np.exp(-2 * np.pi * corners / rate),
        loading=loading,
        noise=1 - np.square(loading).sum(1) if noise is None else noise,
    )


def _slow_columns(found: Spectrum, slow: int) -> list[np.ndarray]:
    """Principal patterns of the field below 3 Hz, at zero lag."""
    if not slow:
        return []
    values, vectors = np.linalg.eigh(found.cross_spectrum(found.frequency[1], FASTEST).real)
    ranks = [-1 - j % len(values) for j in range(slow)]
    return [vectors[:, r] * np.sqrt(max(float(values[r]), 0.0) * FASTEST) for r in ranks]
