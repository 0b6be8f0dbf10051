"""Complex patterns over the electrodes with derivatives, many families and fits at once."""

from __future__ import annotations

import numpy as np

from driftwave.wave_events.fitting import Shape
from driftwave.wave_events.patterns import spiral_phase
from driftwave.wave_events.plane import plane_phase
from driftwave.wave_events.resultant import Theta


def _travelling(theta: Theta, parameters: np.ndarray, position: np.ndarray) -> np.ndarray:
    """e^{i theta} and its derivatives of parameters (fit, family, parameter)."""
    fits, families, size = parameters.shape
    phase, slope = theta(parameters.reshape(-1, size), position)
    wave = np.exp(1j * phase)[:, None]
    rows = np.concatenate([wave, 1j * wave * slope], axis=1)
    return rows.reshape(fits, families, *rows.shape[1:])


def planes(position: np.ndarray) -> Shape:
    """e^{-i k.r} of k."""
    return lambda parameters: _travelling(plane_phase, parameters, position)


def centred(position: np.ndarray, charge: np.ndarray, closest: float) -> Shape:
    """Patterns about a centre (x, y, kappa), one family for each charge (family,).

    Radial for a charge of 0, rotating for kappa = 0, else a spiral.
    """

    def shape(parameters: np.ndarray) -> np.ndarray:
        charges = np.tile(charge, len(parameters))
        return _travelling(
            lambda p, r: spiral_phase(p, r, charge=charges, closest=closest), parameters, position
        )

    return shape


def standing(position: np.ndarray) -> Shape:
    """cos(k.r + psi) of (k_x, k_y, psi): two opposite planes of equal amplitude."""

    def shape(parameters: np.ndarray) -> np.ndarray:
        angle = parameters[..., :2] @ position.T + parameters[..., 2:]
        wave, steep = np.cos(angle)[..., None, :], -np.sin(angle)[..., None, :]
        rows = np.concatenate([wave, steep * position.T, steep], axis=-2)
        return rows.astype(complex)

    return shape
