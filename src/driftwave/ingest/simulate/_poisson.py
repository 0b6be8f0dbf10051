"""Inhomogeneous Poisson spike trains in continuous time."""

from __future__ import annotations

import numpy as np
from scipy.special import i0e


def spike_times(
    rate: np.ndarray, step: float, rng: np.random.Generator, *, repeats: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw spikes exactly for rates that are constant within each step.

    The number of spikes is Poisson of the integrated rate, and each spike's place is the inverse
    of the integrated rate at a uniform number (time rescaling).

    Parameters
    ----------
    rate : ndarray (step, unit)
        Hz.
    step : float
        Length of a step, s.
    rng : Generator
    repeats : int
        Independent draws of the same rates.

    Returns
    -------
    time : ndarray (spike,)
        s from the first step's start; ascending within a unit and repeat.
    unit, repeat : ndarray of int (spike,)
        Sorted by unit, then repeat.
    """
    steps, units = rate.shape
    integral = np.vstack([np.zeros(units), np.cumsum(rate * step, axis=0)])
    edges = np.arange(steps + 1) * step
    counts = rng.poisson(integral[-1][:, None], size=(units, repeats))
    repeat = np.concatenate([np.repeat(np.arange(repeats), row) for row in counts])
    unit = np.repeat(np.arange(units), counts.sum(1))
    place = rng.random(len(unit))
    time = np.empty(len(unit))
    for one, rows in enumerate(np.split(np.arange(len(unit)), np.cumsum(counts.sum(1))[:-1])):
        time[rows] = np.interp(place[rows] * integral[-1, one], integral[:, one], edges)
    order = np.lexsort((time, repeat, unit))
    return time[order], unit[order], repeat[order]


def locked_rates(
    rate: np.ndarray, phase: np.ndarray, coupling: float, wave: np.ndarray
) -> np.ndarray:
    r"""Rates (time, unit), Hz, log-linear in a wave.

    .. math:: \lambda(t) = \lambda_0 \, e^{\kappa \, \mathrm{Re}(z(t) e^{-i \theta})}
              / I_0(\kappa |z(t)|)

    so that a unit's mean over a cycle stays :math:`\lambda_0` and, at constant amplitude, the
    phases of its spikes are von Mises distributed about :math:`\theta` with concentration
    :math:`\kappa |z|`.

    Parameters
    ----------
    rate, phase : ndarray (unit,)
        Mean rate :math:`\lambda_0`, Hz, and preferred phase :math:`\theta`, rad.
    coupling : float
        :math:`\kappa`.
    wave : ndarray of complex (time, unit)
        :math:`z` at each unit's electrode.
    """
    drive = coupling * (wave * np.exp(-1j * phase)).real
    size = coupling * np.abs(wave)
    return rate * np.exp(drive - size) / i0e(size)
