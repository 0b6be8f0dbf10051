"""Fit patterns to Fourier coefficients in noise that electrodes share: generalised least squares.

The model is z_ns = v_n(p) c_s + e_ns with noise of covariance C between electrodes n; c_s, the
wave's amplitude and phase in snapshot s, is solved for, which leaves

    P(p) = sum_s |v^H C^-1 z_s|^2 / (v^H C^-1 v)

to be maximised over the pattern's parameters p. With C = I and |v| = 1 this is the resultant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEPS = 10
SETTLED = 1e-5
TINY = np.finfo(float).tiny

# parameters (fit, family, parameter) -> pattern and its derivatives, complex
# (fit, family, 1 + parameter, electrode)
Shape = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Weights:
    """Inverse noise covariances, one for each fit or one for all, zero for electrodes left out.

    Attributes
    ----------
    inverse : ndarray (fit or 1, electrode, electrode), or (fit or 1, electrode) if diagonal
    """

    inverse: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Rows (fit, ..., electrode) times the inverse covariance of their fit."""
        shape = rows.shape
        fits = len(self.inverse)
        if self.inverse.ndim == 2:
            return rows * self.inverse.reshape(fits, *[1] * (len(shape) - 2), shape[-1])
        flat = rows.reshape(fits, -1, shape[-1])
        return (flat.real @ self.inverse + 1j * (flat.imag @ self.inverse)).reshape(shape)


@dataclass(frozen=True)
class Point:
    """Where a fit stands: P, the amplitudes, and the slope and curvature of P / 2."""

    power: np.ndarray
    amplitude: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray

    @classmethod
    def at(cls, rows: np.ndarray, weights: Weights, weighted: np.ndarray) -> Point:
        """``weighted`` is C^-1 z, (fit, electrode, snapshot)."""
        gram = rows.conj() @ weights(rows).swapaxes(-1, -2)
        match = (rows.reshape(len(rows), -1, rows.shape[-1]).conj() @ weighted).reshape(
            *rows.shape[:-1], -1
        )
        size = np.maximum(gram[..., 0, 0].real, TINY)
        amplitude = match[..., 0, :] / size[..., None]
        energy = (np.abs(amplitude) ** 2).sum(axis=-1)
        along = gram[..., 1:, 0]
        left = match[..., 1:, :] - along[..., None] * amplitude[..., None, :]
        slope = np.real(left * amplitude[..., None, :].conj()).sum(axis=-1)
        inner = (
            gram[..., 1:, 1:]
            - along[..., None] * along[..., None, :].conj() / (size[..., None, None])
        )
        return cls(energy * size, amplitude, slope, inner.real * energy[..., None, None])


def fit(
    shape: Shape,
    start: np.ndarray,
    weights: Weights,
    weighted: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    *,
    steps: int = STEPS,
) -> tuple[np.ndarray, Point]:
    """Levenberg and Marquardt's ascent of P from ``start``.

    Parameters
    ----------
    shape : callable
    start : ndarray (fit, family, parameter)
    weights : Weights
    weighted : ndarray, complex (fit, electrode, snapshot)
        C^-1 z.
    bounds : (low, high), each (family, parameter)
        Steps end there; a parameter whose bounds are equal is held.

    Returns
    -------
    parameters : ndarray (fit, family, parameter)
    point : Point
        There; P is never below that at ``start``.
    """
    low, high = bounds
    held = low == high
    here = np.clip(start, low, high).astype(float)
    point = Point.at(shape(here), weights, weighted)
    damping = np.full(here.shape[:2], 1e-3)
    for _ in range(steps):
        step = _step(point, damping, held)
        there = np.clip(here + step, low, high)
        ahead = Point.at(shape(there), weights, weighted)
        better = ahead.power >= point.power
        gain = np.where(better, ahead.power - point.power, 0)
        damping = np.where(better, damping / 10, damping * 10)
        here = np.where(better[..., None], there, here)
        point = Point(
            *(
                np.where(better.reshape(better.shape + (1,) * (old.ndim - 2)), new, old)
                for new, old in zip(_parts(ahead), _parts(point), strict=True)
            )
        )
        if better.all() and (gain <= SETTLED * point.power).all():
            break
    return here, point


def _parts(point: Point) -> tuple[np.ndarray, ...]:
    return point.power, point.amplitude, point.slope, point.curvature


def _step(point: Point, damping: np.ndarray, held: np.ndarray) -> np.ndarray:
    size = point.curvature.shape[-1]
    diagonal = np.einsum("...aa->...a", point.curvature)
    ridge = damping[..., None] * diagonal + 1e-9 * diagonal.max(axis=-1, keepdims=True) + TINY
    curvature = point.curvature + ridge[..., None] * np.eye(size)
    free = ~held
    curvature = np.where(free[..., None] & free[..., None, :], curvature, np.eye(size))
    return np.linalg.solve(curvature, (point.slope * free)[..., None])[..., 0]
