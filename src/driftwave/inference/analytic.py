"""Analytic signals of adjoining frequency bands, and complex principal components of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.signal import oaconvolve

HALF_SECONDS = 0.5
COLUMNS = 16


def band_edges(peaks: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Edges (Hz) that cut a band halfway between neighbouring peaks (Hz)."""
    peaks = np.sort(peaks)
    return np.concatenate([[band[0]], (peaks[1:] + peaks[:-1]) / 2, [band[1]]])


def analytic_taps(low: float, high: float, rate: float) -> np.ndarray:
    """Complex, symmetric FIR filter that keeps the positive frequencies of a band.

    Hamming-windowed; its real part is the band-pass filter of zero phase, and those of adjoining
    bands add up to that of the whole.

    Parameters
    ----------
    low, high, rate : float
        Hz.
    """
    half = round(HALF_SECONDS * rate)
    lag = np.arange(-half, half + 1)
    width = (high - low) / rate
    smooth = width * np.sinc(width * lag) * np.hamming(len(lag))
    return 2 * smooth * np.exp(1j * np.pi * (low + high) / rate * lag)


def analytic(data: np.ndarray, taps: np.ndarray, *, causal: bool = False) -> np.ndarray:
    """Analytic signal (time, electrode), complex64, of data (time, electrode).

    Beyond its ends the data are taken to be 0.

    Parameters
    ----------
    data : ndarray (time, electrode)
        Standardised, finite.
    taps : ndarray (tap,)
        From :func:`analytic_taps`.
    causal : bool
        Each sample as if the data ended there.
    """
    half = len(taps) // 2
    kept = taps[half:] if causal else taps
    first = 0 if causal else half
    found = np.empty(data.shape, dtype=np.complex64)
    for start in range(0, data.shape[1], COLUMNS):
        columns = data[:, start : start + COLUMNS]
        whole = oaconvolve(columns, kept.astype(np.complex64)[:, None], mode="full", axes=0)
        found[:, start : start + COLUMNS] = whole[first : first + len(data)]
    return found


@dataclass(frozen=True)
class Components:
    """Complex principal components of a band's analytic signal, as a probabilistic model.

    ``a = U z + e``, z_k of variance ``power_k - noise``, e white of variance ``noise`` (Tipping &
    Bishop 1999, J R Stat Soc B 61:611, for complex data).

    Attributes
    ----------
    taps : ndarray (tap,)
    pattern : ndarray (electrode, component)
        U, orthonormal columns.
    power : ndarray (component,)
    noise : float
    gain : ndarray (component, 2)
        Complex; of a causal component and of its conjugate, see :func:`rotation`.
    weight : float
        Of the band in forecasts of the whole field.
    pole : ndarray (component,)
        Complex; argument: mean frequency (radian per sample), modulus: decay.
    """

    taps: np.ndarray
    pattern: np.ndarray
    power: np.ndarray
    noise: float
    gain: np.ndarray
    pole: np.ndarray
    weight: float = 1.0

    def course(self, data: np.ndarray) -> np.ndarray:
        """Components (time, component), each sample as if the data ended there."""
        return analytic(data, self.taps, causal=True) @ self.pattern.conj()

    def ahead(self, course: np.ndarray, step: int) -> np.ndarray:
        """Field (time, electrode) of the band expected ``step`` samples after causal components."""
        turn = self.pole**step
        later = course * (self.gain[:, 0] * turn) + course.conj() * (self.gain[:, 1] * turn)
        return self.weight * (later @ self.pattern.T).real

    def reader(self, seen: np.ndarray) -> np.ndarray:
        """Matrix (component, seen electrode) from the electrodes seen to the components.

        Least squares, with the variance of components and noise as prior.
        """
        return least_squares(self.pattern, self.power, self.noise, seen)


def weighted(bands: list[Components], data: np.ndarray, steps: list[int]) -> list[Components]:
    """Bands with the weights that make their forecasts add up to the field best.

    A filter whose data end is a poor one and lets the neighbouring bands through, which a band's
    own gain cannot know. Least squares on data (time, electrode), all steps together.
    """
    courses = [band.course(data) for band in bands]
    gram, crossed = np.zeros((len(bands), len(bands))), np.zeros(len(bands))
    for step in steps:
        parts = [
            band.ahead(course[:-step], step).ravel()
            for band, course in zip(bands, courses, strict=True)
        ]
        gram += np.array([[float(one @ other) for other in parts] for one in parts])
        crossed += np.array([float(one @ data[step:].ravel()) for one in parts])
    gram += 1e-9 * max(np.trace(gram), np.finfo(float).tiny) * np.eye(len(bands))
    weights = np.linalg.solve(gram, crossed)
    return [
        replace(band, weight=band.weight * float(w)) for band, w in zip(bands, weights, strict=True)
    ]


def least_squares(
    pattern: np.ndarray, power: np.ndarray, noise: float, seen: np.ndarray
) -> np.ndarray:
    """(U_v^H U_v + noise / (power - noise))^-1 U_v^H over the electrodes v that are seen."""
    visible = pattern[seen]
    prior = noise / np.maximum(power - noise, 1e-6 * power)
    gram = visible.conj().T @ visible + np.diag(prior + 1e-9)
    return np.linalg.solve(gram, visible.conj().T)


def principal_components(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending, and eigenvectors (electrode, component) of E[a a^H]."""
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def covariance_of(signal: np.ndarray) -> np.ndarray:
    """E[a a^H] (electrode, electrode) of an analytic signal (time, electrode)."""
    return (signal.T @ signal.conj()).astype(complex) / len(signal)


def hidden_error(
    pattern: np.ndarray, power: np.ndarray, noise: float, covariance: np.ndarray, fold: np.ndarray
) -> float:
    """Squared error of each electrode filled from the other folds, summed, from E[a a^H]."""
    total = 0.0
    for group in np.unique(fold):
        hidden = fold == group
        seen = ~hidden
        map_ = pattern[hidden] @ least_squares(pattern, power, noise, seen)
        crossed = map_ @ covariance[np.ix_(seen, hidden)]
        own = map_ @ covariance[np.ix_(seen, seen)] @ map_.conj().T
        total += float(np.trace(covariance[np.ix_(hidden, hidden)] - 2 * crossed + own).real)
    return total


def rotation(course: np.ndarray, causal: np.ndarray, lags: int) -> tuple[np.ndarray, complex]:
    """Gain and pole with which a causal component foretells the component.

    The analytic signal of data that end at t holds negative frequencies there (the transform's end
    effect), so that the component h samples later is expected at
    ``(gain_0 x_t + gain_1 conj(x_t)) pole**h`` of the causal component x. The argument of the pole
    is the mean frequency, that of ``sum z_{t+1} conj(z_t)``; its modulus and the gain fit the
    regressions of z_{t+h} on x_t and its conjugate for h = 1 to ``lags``.

    Parameters
    ----------
    course, causal : ndarray (time,)
        Complex.
    lags : int

    Returns
    -------
    gain : ndarray (2,)
    pole : complex
    """
    angle = np.angle(np.vdot(course[:-1], course[1:]))
    both = np.stack([causal, causal.conj()]).astype(complex)
    gram = both.conj() @ both.T
    gram += 1e-9 * np.trace(gram).real * np.eye(2) + np.finfo(float).tiny * np.eye(2)
    step = np.arange(1, min(lags, len(course) - 1) + 1)
    products = [both[:, : len(causal) - h].conj() @ course[h:] for h in step]
    slope = np.linalg.solve(gram, np.array(products).T)

    def gain(decay: float) -> np.ndarray:
        shape = (decay * np.exp(1j * angle)) ** step
        return slope @ shape.conj() / np.vdot(shape, shape).real

    def misfit(decay: float) -> float:
        rest = slope - np.outer(gain(decay), (decay * np.exp(1j * angle)) ** step)
        return float(np.einsum("ah,ab,bh->", rest.conj(), gram, rest).real)

    decay = float(minimize_scalar(misfit, bounds=(0.2, 1.0), method="bounded").x)
    return gain(decay), decay * np.exp(1j * angle)
