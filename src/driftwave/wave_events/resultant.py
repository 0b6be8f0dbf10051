"""Fit a phase pattern theta(r; p) by maximising the resultant of what is left once it is taken off.

The objective is P(p) = sum_s |sum_n z_ns e^{-i theta_n(p)}|^2: snapshots s share the pattern, not
their overall phase. Many fits run at once (bootstrap resamples, folds), each with its own values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# parameters (fit, parameter), positions (electrode, 2) -> theta (fit, electrode) and its
# derivatives (fit, parameter, electrode)
Theta = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def objective(theta: np.ndarray, values: np.ndarray) -> np.ndarray:
    """P (fit,) of theta (fit, electrode) and values (fit or 1, electrode, snapshot)."""
    total = np.exp(-1j * theta)[:, None, :] @ values
    return (np.abs(total[:, 0]) ** 2).sum(axis=-1)


def normalise(power: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Resultant in [0, 1]: sqrt(P / (N sum |z|^2)); 1 if the pattern explains every electrode."""
    used = (np.abs(values) ** 2).sum(axis=-1)
    total = (used > 0).sum(axis=-1) * used.sum(axis=-1)
    return np.sqrt(power / np.maximum(total, np.finfo(float).tiny))


def best_of(dictionary: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index (fit,) of the candidate with the greatest P.

    ``dictionary`` (candidate, electrode) holds e^{-i theta}, ``values`` is (fit, electrode,
    snapshot); all products are one matrix product.
    """
    fits, electrodes, snapshots = values.shape
    flat = values.transpose(1, 0, 2).reshape(electrodes, fits * snapshots)
    product = dictionary @ flat.astype(dictionary.dtype)
    power = (product.real**2 + product.imag**2).reshape(-1, fits, snapshots).sum(axis=-1)
    return np.argmax(power, axis=0)


def ascend(
    theta: Theta,
    start: np.ndarray,
    position: np.ndarray,
    values: np.ndarray,
    *,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
    steps: int = 15,
) -> tuple[np.ndarray, np.ndarray]:
    """Newton ascent of P from ``start``; second derivatives of theta are left out of the Hessian.

    Parameters
    ----------
    theta : callable
    start : ndarray (fit, parameter)
    position : ndarray (electrode, 2)
        mm.
    values : ndarray, complex (fit or 1, electrode, snapshot)
    bounds : (low, high), each (parameter,), optional
        A step that leaves them is shortened like one that does not climb.

    Returns
    -------
    parameters : ndarray (fit, parameter)
    power : ndarray (fit,)
        P there; never below P at ``start``.
    """
    here = np.array(start, dtype=float)
    low, high = bounds if bounds is not None else (-np.inf, np.inf)

    def climb_to(there: np.ndarray) -> np.ndarray:
        inside = ((there >= low) & (there <= high)).all(axis=1)
        return np.where(inside, objective(theta(there, position)[0], values), -np.inf)

    power = objective(theta(here, position)[0], values)
    for _ in range(steps):
        gradient, hessian = _derivatives(*theta(here, position), values)
        step = _climb(gradient, hessian)
        for _ in range(8):
            there = climb_to(here + step)
            worse = ~(there >= power)
            if not worse.any():
                break
            step[worse] /= 3
        step[~(there >= power)] = 0
        here = here + step
        power = np.fmax(power, there)
        if np.abs(step).max() < 1e-9:
            break
    return here, power


def _derivatives(
    theta: np.ndarray, slope: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (fit, p) and approximate Hessian (fit, p, p) of P."""
    rotate = np.exp(-1j * theta)[:, None, :]
    total = (rotate @ values)[:, 0]
    first = -1j * ((rotate * slope) @ values)
    gradient = 2 * np.real(first * total[:, None].conj()).sum(axis=-1)
    cross = np.real(first @ first.conj().swapaxes(1, 2))
    weight = np.real(rotate[:, 0] * (values @ total[..., None].conj())[..., 0])
    curve = np.einsum("fan,fn,fbn->fab", slope, weight, slope)
    return gradient, 2 * (cross - curve)


def _climb(gradient: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Newton step with every curvature taken as negative, so that it always points uphill."""
    value, vector = np.linalg.eigh(hessian)
    floor = 1e-9 * np.abs(value).max(axis=1, keepdims=True) + np.finfo(float).tiny
    along = (vector.swapaxes(1, 2) @ gradient[..., None])[..., 0]
    return (vector @ (along / np.maximum(np.abs(value), floor))[..., None])[..., 0]
