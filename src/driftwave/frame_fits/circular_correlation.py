"""Correlations of phase with distance and with angle, for many frames at once.

Their customary p values assume independent electrodes, which neighbouring electrodes are not, so
that none is given here: surrogates processed in the same way give them.
"""

from __future__ import annotations

import numpy as np


def _centred(value: np.ndarray) -> np.ndarray:
    return value - value.mean(axis=-1, keepdims=True)


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return (a * b).sum(-1) / np.maximum(size, np.finfo(float).tiny)


def circular_linear(phase: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Circular-linear correlation (Mardia 1976) of phase with a linear variable, in [0, 1].

    rho^2 = (r_c^2 + r_s^2 - 2 r_c r_s r_cs) / (1 - r_cs^2) with the Pearson correlations of
    cos phi and of sin phi with the variable, and of the two with each other.

    Parameters
    ----------
    phase : ndarray (..., electrode)
        rad.
    value : ndarray (..., electrode)

    Returns
    -------
    ndarray (...,)
    """
    cos, sin, value = _centred(np.cos(phase)), _centred(np.sin(phase)), _centred(value)
    c, s, cs = _pearson(cos, value), _pearson(sin, value), _pearson(cos, sin)
    square = (c**2 + s**2 - 2 * c * s * cs) / np.maximum(1 - cs**2, 1e-12)
    return np.sqrt(np.clip(square, 0, 1))


def circular_circular(phase: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Circular-circular correlation (Jammalamadaka and SenGupta 2001, section 8.2), in [-1, 1].

    rho = sum sin(phi - mu) sin(theta - nu) / sqrt(sum sin^2(phi - mu) sum sin^2(theta - nu)), with
    mu and nu from mu - nu = arg sum e^{i (phi - theta)} and mu + nu = arg sum e^{i (phi + theta)},
    which holds for uniformly spread angles too, whose own mean directions are arbitrary (the phases
    of a rotating wave are such).

    Parameters
    ----------
    phase, angle : ndarray (..., electrode)
        rad.

    Returns
    -------
    ndarray (...,)
    """
    apart = np.exp(1j * (phase - angle)).sum(axis=-1)
    together = np.exp(1j * (phase + angle)).sum(axis=-1)
    difference, total = np.angle(apart), np.angle(together)
    a = np.sin(phase - ((total + difference) / 2)[..., None])
    b = np.sin(angle - ((total - difference) / 2)[..., None])
    return _pearson(a, b)


def adjusted(rho: np.ndarray, electrodes: int, parameters: int) -> np.ndarray:
    """Correlation corrected for fitted parameters, 0 where nothing is left (Zhang et al. 2018).

    rho_adj^2 = 1 - (1 - rho^2) (N - 1) / (N - p - 1).
    """
    free = max(electrodes - parameters - 1, 1)
    return np.sqrt(np.clip(1 - (1 - rho**2) * (electrodes - 1) / free, 0, 1))


def radial_fit(
    unit: np.ndarray, distance: np.ndarray, *, largest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Slope and resultant of phi = phi_0 - kappa d over 0 < |kappa| <= ``largest`` (rad/mm).

    Parameters
    ----------
    unit : ndarray, complex (frame, electrode)
        e^{i phi}.
    distance : ndarray (frame, electrode)
        mm.

    Returns
    -------
    kappa : ndarray (frame,)
        rad/mm; positive where the phase falls with distance (expanding).
    resultant : ndarray (frame,)
    """
    step = np.pi / (2 * float(distance.max()))
    turn = np.exp(1j * step * distance).astype(np.complex64)
    out, back = unit.astype(np.complex64), unit.astype(np.complex64)
    kappa, best = np.zeros(len(unit)), np.full(len(unit), -1.0)
    for ring in range(1, max(1, int(largest / step)) + 1):
        out, back = out * turn, back * turn.conj()
        for sign, rotated in ((1, out), (-1, back)):
            found = np.abs(rotated.mean(axis=-1))
            kappa = np.where(found > best, sign * ring * step, kappa)
            best = np.maximum(best, found)
    return _refined(unit, distance, kappa, best, step / 2)


def _refined(
    unit: np.ndarray, distance: np.ndarray, kappa: np.ndarray, best: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Newton ascent of |sum u e^{i kappa d}|^2 within ``reach`` of the start."""
    there = kappa.copy()
    for _ in range(4):
        turned = unit * np.exp(1j * there[:, None] * distance)
        total = turned.sum(-1)
        first, second = (turned * distance).sum(-1), (turned * distance**2).sum(-1)
        resultant = np.abs(total) / unit.shape[-1]
        better = resultant > best
        kappa, best = np.where(better, there, kappa), np.where(better, resultant, best)
        slope = 2 * np.real(total.conj() * 1j * first)
        curve = 2 * (np.abs(first) ** 2 - np.real(total.conj() * second))
        step = slope / np.maximum(np.abs(curve), 1e-12)
        there = there + np.clip(step, -reach, reach)
    return kappa, best
