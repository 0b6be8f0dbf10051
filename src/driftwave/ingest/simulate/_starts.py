r"""Fields that simulated oscillators start from.

Phases are :math:`\theta_j = \phi_0 - \psi_j`, so that at a positive frequency a wave travels
towards growing :math:`\psi`: counter-clockwise for a positive winding number, +x for a positive
step.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from driftwave.ingest.simulate._sites import Sites

Start = Literal["twisted", "plane", "spiral", "standing", "synchronous", "random"]


def start_field(
    kind: Start,
    sites: Sites,
    *,
    winding: np.ndarray,
    step: tuple[float, float],
    perturbation: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Complex field (trial, site) of mean amplitude about one, at a random phase in each trial.

    Parameters
    ----------
    winding : ndarray of int (trial,)
        Winding number (twisted) or charge (spiral).
    step : (float, float)
        Phase by which a plane wave lags from one site to the next along the ring or x, and y, rad;
        the wavenumber of a standing one.
    perturbation : float
        Standard deviation of each site's own phase, rad.
    """
    trials, count = len(winding), len(sites.position)
    phase = rng.uniform(0, 2 * np.pi, (trials, 1))
    noise = perturbation * rng.standard_normal((trials, count))
    scattered = rng.uniform(0, 2 * np.pi, (trials, count))
    size = np.ones((trials, count))
    if kind == "random":
        return np.exp(1j * scattered)
    if kind in ("twisted", "spiral"):
        phase = phase - winding[:, None] * sites.angle()
    elif kind == "plane":
        phase = phase - _along(sites, step)
    elif kind == "standing":
        size = np.sqrt(2) * np.cos(_along(sites, step) + rng.uniform(0, 2 * np.pi, (trials, 1)))
    return size * np.exp(1j * (phase + noise))


def _along(sites: Sites, step: tuple[float, float]) -> np.ndarray:
    if sites.is_ring:
        return step[0] * np.arange(len(sites.position), dtype=float)
    return sites.position @ np.array(step) / sites.pitch
