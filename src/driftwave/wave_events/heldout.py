"""Electrodes left out: what noise tells of them from the others, and how well phases are met."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import i0e, i1e

from driftwave.wave_events.fitting import Weights

FOLDS = 6
LARGEST = 180.0
TINY = np.finfo(float).tiny


def folds_of(position: np.ndarray) -> np.ndarray:
    """Fold (electrode,) of each electrode: blocks of neighbours, three by two.

    Of electrodes scattered among those kept, noise that neighbours share leaves next to nothing to
    predict: blocks find waves at half the amplitude.
    """
    count = len(position)
    if count < 2 * FOLDS:
        return np.arange(count) % FOLDS
    spread = np.linalg.svd(position - position.mean(axis=0), full_matrices=False)
    turned = (position - position.mean(axis=0)) @ spread[2].T
    if spread[1][-1] < 1e-3 * spread[1][0]:
        return _ranks(turned[:, 0]) * FOLDS // count
    longer = int(np.ptp(position[:, 1]) > np.ptp(position[:, 0]))
    third = _ranks(position[:, longer]) * 3 // count
    fold = np.zeros(count, int)
    for number in range(3):
        inside = third == number
        half = _ranks(position[inside, 1 - longer]) * 2 // inside.sum()
        fold[inside] = 2 * number + half
    return fold


def _ranks(values: np.ndarray) -> np.ndarray:
    # Rounding keeps electrodes of one row in the order they come in.
    return np.argsort(np.argsort(values.round(6), kind="stable"), kind="stable")


@dataclass(frozen=True)
class Whitening:
    """The noise's part in fits to all electrodes and to those of each fold.

    Attributes
    ----------
    scale : ndarray (electrode,)
        Standard deviation of the noise, by which coefficients are divided.
    weights : Weights
        Of all electrodes, then of those kept in each fold.
    innovation : ndarray (electrode, electrode)
        Takes from each fold's electrodes what the kept ones tell of their noise, and makes the
        rest of it independent: rows of L^-1 [1, -C_hk C_kk^-1] with L L' = C_h|k.
    fold : ndarray of int (electrode,)
    """

    scale: np.ndarray
    weights: Weights
    innovation: np.ndarray
    fold: np.ndarray

    @classmethod
    def of(cls, noise: np.ndarray | None, position: np.ndarray) -> Whitening:
        """From a noise covariance (electrode, electrode); None for independent, equal noise."""
        fold, electrodes = folds_of(position), len(position)
        kept = np.stack([np.ones(electrodes, bool), *(fold != f for f in range(fold.max() + 1))])
        if noise is None:
            eye = np.eye(electrodes)
            return cls(np.ones(electrodes), Weights(kept.astype(float)), eye, fold)
        scale = np.sqrt(np.diag(noise))
        correlation = noise / np.outer(scale, scale)
        inverse = np.zeros((len(kept), electrodes, electrodes))
        innovation = np.zeros((electrodes, electrodes))
        for number, use in enumerate(kept):
            known = np.linalg.inv(correlation[np.ix_(use, use)])
            inverse[number][np.ix_(use, use)] = known
            if number:
                across = correlation[np.ix_(~use, use)] @ known
                left = correlation[np.ix_(~use, ~use)] - across @ correlation[np.ix_(use, ~use)]
                root = np.linalg.inv(np.linalg.cholesky(left))
                innovation[np.ix_(~use, ~use)] = root
                innovation[np.ix_(~use, use)] = -root @ across
        return cls(scale, Weights(inverse), innovation, fold)


@dataclass(frozen=True)
class Held:
    """How held-out phases are met by each family, (family,).

    Attributes
    ----------
    prediction : ndarray
        Amplitude-weighted mean cosine between what is seen and what is predicted, less what noise
        tells of both, in [-1, 1].
    deviations : ndarray
        The sum behind it in standard deviations of its value for uniform phases.
    likelihood : ndarray
        Log-likelihood of the phases against uniform ones, nats over all electrodes.
    error : ndarray
        Circular standard deviation of the electrodes' phases about their prediction, degree.
    """

    prediction: np.ndarray
    deviations: np.ndarray
    likelihood: np.ndarray
    error: np.ndarray


def hold_out(
    pattern: np.ndarray, amplitude: np.ndarray, values: np.ndarray, whitening: Whitening
) -> Held:
    """Compare electrodes with their prediction from fits to the others.

    Parameters
    ----------
    pattern : ndarray, complex (fold, family, electrode)
        Of the fits that left a fold out.
    amplitude : ndarray, complex (fold, family, snapshot)
    values : ndarray, complex (electrode, snapshot)
    whitening : Whitening
    """
    fold = whitening.fold
    seen = np.arange(len(fold))
    course = amplitude[fold].swapaxes(0, 1)  # (family, electrode, snapshot)
    raw = _mean_cosine(*_products(pattern[fold, :, seen], course, values))
    turn = whitening.innovation.T
    moved = pattern.real @ turn + 1j * (pattern.imag @ turn)
    match, size = _products(moved[fold, :, seen], course, whitening.innovation @ values)
    spread = np.sqrt(np.maximum((size**2).sum(axis=1) / 2, TINY))
    return Held(
        _mean_cosine(match, size),
        match.sum(axis=1) / spread,
        von_mises_gain(match, size),
        np.minimum(np.degrees(circular_deviation(raw)), LARGEST),
    )


def _products(
    pattern: np.ndarray, course: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """|z||v| cos(difference of phase) and |z||v|, (family, electrode x snapshot)."""
    expected = pattern.T[..., None] * course
    match = np.real(values * expected.conj())
    size = np.abs(values) * np.abs(expected)
    return match.reshape(len(match), -1), size.reshape(len(match), -1)


def _mean_cosine(match: np.ndarray, size: np.ndarray) -> np.ndarray:
    return match.sum(axis=1) / np.maximum(size.sum(axis=1), TINY)


def von_mises_gain(match: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Log-likelihood of phases against uniform ones, nats (family,), at its largest over beta >= 0.

    The phase of a coefficient z = v + noise of variance s^2, given |z|, has a von Mises
    distribution about that of v with concentration beta |z||v|, beta = 2 / s^2, so that

        sum beta |z||v| cos(d) - ln I0(beta |z||v|).

    Parameters
    ----------
    match, size : ndarray (family, coefficient)
        |z||v| cos(d) and |z||v|.
    """
    scale = np.maximum(size.mean(axis=1, keepdims=True), TINY)
    match, size = match / scale, size / scale
    total = match.sum(axis=1, keepdims=True)
    # The derivative total - sum size A(beta size) falls with beta: Newton's steps in ln beta, from
    # the limits of small and of large concentrations, kept within the bracket known so far.
    shallow = 2 * total / np.maximum((size**2).sum(axis=1, keepdims=True), TINY)
    missing = np.maximum((size - match).sum(axis=1, keepdims=True), 1e-9)
    steep = np.where(2 * missing < total, size.shape[1] / (2 * missing), 0)
    beta = np.maximum(np.maximum(shallow, steep), 1e-9)
    low, high = beta * 1e-6, beta * 1e6
    for _ in range(12):
        ratio = i1e(beta * size) / i0e(beta * size)
        rising = total - (size * ratio).sum(axis=1, keepdims=True)
        curve = (size**2 * _slope_of_ratio(beta * size, ratio)).sum(axis=1, keepdims=True)
        low, high = np.where(rising > 0, beta, low), np.where(rising > 0, high, beta)
        ahead = beta * np.exp(np.clip(rising / np.maximum(beta * curve, 1e-12), -2, 2))
        beta = np.where((ahead > low) & (ahead < high), ahead, np.sqrt(low * high))
    beta = np.where(total > 0, beta, 0)
    level = np.log(i0e(beta * size)) + beta * size
    return np.maximum((beta * match - level).sum(axis=1), 0)


def _slope_of_ratio(kappa: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Derivative of I1 / I0 at kappa."""
    return np.where(kappa > 1e-6, 1 - ratio**2 - ratio / np.maximum(kappa, 1e-6), 0.5)


def circular_deviation(mean_cosine: np.ndarray) -> np.ndarray:
    """Circular standard deviation sqrt(-2 ln R), rad; for von Mises errors R = I1 / I0."""
    return np.sqrt(-2 * np.log(np.clip(mean_cosine, 1e-12, 1)))
