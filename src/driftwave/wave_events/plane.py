"""Plane waves: the wavevector that maximises the resultant over electrodes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from driftwave.wave_events.resultant import ascend, best_of, normalise

DIRECTIONS = 24


def plane_phase(k: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """theta = -k.r (fit, electrode) and its derivatives; k (fit, 2) in rad/mm."""
    slope = -position.T[None]
    return -(k @ position.T), np.broadcast_to(slope, (len(k), *slope.shape[1:]))


@lru_cache(maxsize=8)
def polar_grid(largest: float, step: float) -> np.ndarray:
    """Wavevectors (candidate, 2) in rad/mm: zero, and rings ``step`` apart up to ``largest``."""
    rings = np.arange(1, max(1, int(largest / step)) + 1) * step
    angle = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    ring, turn = np.meshgrid(rings, angle, indexing="ij")
    grid = np.stack([ring * np.cos(turn), ring * np.sin(turn)], axis=-1).reshape(-1, 2)
    return np.concatenate([np.zeros((1, 2)), grid])


def plane_candidates(position: np.ndarray, largest: float) -> np.ndarray:
    """Wavevectors close enough together for Newton's method to find the global maximum."""
    extent = float(np.ptp(position, axis=0).max())
    return polar_grid(largest, min(np.pi / (2.5 * extent), largest))


def fit_plane(
    position: np.ndarray, values: np.ndarray, *, largest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wavevector k of the plane wave phi = omega t - k.r that maximises the resultant.

    R(k)^2 = sum_s |sum_n z_ns e^{i k.r_n}|^2 / (N sum_ns |z_ns|^2), maximised on a polar grid and
    refined by Newton's method; the grid alone leaves an error of its spacing.

    Parameters
    ----------
    position : ndarray (electrode, 2)
        mm.
    values : ndarray, complex (electrode, snapshot) or (fit, electrode, snapshot)
        Fourier coefficients, or unit phasors of single frames. Snapshots share k, not phase.
    largest : float
        Largest |k| searched, rad/mm; the spatial Nyquist wavenumber is pi / pitch.

    Returns
    -------
    k : ndarray (fit, 2)
        rad/mm; the wave moves towards +k at omega / |k|.
    resultant : ndarray (fit,)
        Between 0 and 1.
    """
    values = values if values.ndim == 3 else values[None]
    centred = position - position.mean(axis=0)
    grid = plane_candidates(centred, largest)
    dictionary = np.exp(1j * (grid @ centred.T))
    k, power = ascend(plane_phase, grid[best_of(dictionary, values)], centred, values)
    return k, normalise(power, values)
