"""Centres of radial and rotating patterns between electrodes, by ascent of the resultant."""

from __future__ import annotations

from typing import Literal

import numpy as np

STEPS = 12
DAMPING = 1e-3

Kind = Literal["radial", "rotating"]


def pattern_phase(
    kind: Kind, parameters: np.ndarray, position: np.ndarray, closest: float
) -> tuple[np.ndarray, np.ndarray]:
    """theta = -kappa |r - c|, or -q angle(r - c), and its derivatives.

    Parameters
    ----------
    kind : {"radial", "rotating"}
    parameters : ndarray (window, 3)
        Centre x, y (mm), and kappa (rad/mm) or the charge q, which is held.
    position : ndarray (electrode, 2)
        mm.
    closest : float
        Distance (mm) below which derivatives no longer grow.

    Returns
    -------
    theta : ndarray (window, electrode)
    slope : ndarray (window, electrode, 3 or 2)
        By x, y and, for radial patterns, kappa.
    """
    away = position[None] - parameters[:, None, :2]
    distance = np.maximum(np.hypot(away[..., 0], away[..., 1]), closest)
    last = parameters[:, 2, None]
    if kind == "radial":
        slope = np.stack(
            [last * away[..., 0] / distance, last * away[..., 1] / distance, -distance], axis=-1
        )
        return -last * distance, slope
    turn = np.stack([-away[..., 1], away[..., 0]], axis=-1) / distance[..., None] ** 2
    return -last * np.arctan2(away[..., 1], away[..., 0]), last[..., None] * turn


def ascend_centres(
    kind: Kind,
    unit: np.ndarray,
    start: np.ndarray,
    position: np.ndarray,
    *,
    pitch: float,
    bounds: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Maximise |mean e^{i (phi - theta)}| by Gauss-Newton on what the pattern leaves of the phase.

    Parameters
    ----------
    kind : {"radial", "rotating"}
    unit : ndarray, complex (window, electrode)
        e^{i phi}.
    start : ndarray (window, 3)
        As in :func:`pattern_phase`.
    position : ndarray (electrode, 2)
        mm.
    pitch : float
        Longest move of a centre per step, mm.
    bounds : (low, high), each (2,)
        Where centres may lie, mm.

    Returns
    -------
    parameters : ndarray (window, 3)
    resultant : ndarray (window,)
        Never below that at ``start``.
    """
    free = 3 if kind == "radial" else 2
    best, there = np.array(start, float), np.array(start, float)
    resultant, scale = np.full(len(start), -1.0), np.ones((len(start), 1))
    step = np.zeros((len(start), free))
    for _ in range(STEPS):
        theta, slope = pattern_phase(kind, there, position, pitch / 4)
        left = unit * np.exp(-1j * theta)
        mean = left.mean(axis=1)
        inside = ((there[:, :2] >= bounds[0]) & (there[:, :2] <= bounds[1])).all(axis=1)
        better = (np.abs(mean) > resultant) & inside
        best = np.where(better[:, None], there, best)
        resultant = np.where(better, np.abs(mean), resultant)
        fresh = _gauss_newton(left, mean, slope, pitch)
        step = np.where(better[:, None], fresh, step)
        scale = np.where(better[:, None], 1.0, scale / 3)
        there = best.copy()
        there[:, :free] += scale * step
    return best, resultant


def _gauss_newton(
    left: np.ndarray, mean: np.ndarray, slope: np.ndarray, longest: float
) -> np.ndarray:
    """Step (window, parameter) from sin of the residual phases, centres moved at most so far."""
    turned = left * (mean / np.maximum(np.abs(mean), 1e-12)).conj()[:, None]
    residual, weight = turned.imag, np.maximum(turned.real, 0)[..., None]
    centred = slope - (weight * slope).sum(1, keepdims=True) / np.maximum(
        weight.sum(1, keepdims=True), 1e-12
    )
    size = np.maximum(np.linalg.norm(centred, axis=1), 1e-12)[:, None]
    scaled = centred / size
    normal = scaled.swapaxes(1, 2) @ (weight * scaled) + DAMPING * np.eye(slope.shape[-1])
    pull = (scaled * residual[..., None]).sum(axis=1)
    step = np.linalg.solve(normal, pull[..., None])[..., 0] / size[:, 0]
    length = np.hypot(step[:, 0], step[:, 1])
    return step * np.minimum(1, longest / np.maximum(length, 1e-12))[:, None]
