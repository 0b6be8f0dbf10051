"""What a simulated field does in each trial: winding number, frequency, direction, speed."""

from __future__ import annotations

import numpy as np

from driftwave.ingest.simulate._sites import Sites, advance, charges, ring_winding

FACTS = {
    "winding": "Winding number of the ring, or sum of the plaquettes' charges, at the trial's end; "
    "positive is counter-clockwise; 0 in the twin.",
    "frequency": "Mean frequency of the field in the trial, Hz.",
    "direction": "Direction of propagation in the trial's second half, degrees counter-clockwise "
    "from +x; NaN where phase gradients disagree, on a ring, and in the twin.",
    "speed": "Phase speed along the ring or the direction, mm/s; NaN where nothing travels.",
}
AGREEMENT = 0.5  # of phase gradients over a lattice, below which there is no direction


def facts_of(z: np.ndarray, sites: Sites, step: float, *, lagged: bool) -> dict[str, np.ndarray]:
    """:data:`FACTS` of each trial, (trial,).

    Parameters
    ----------
    z : ndarray, complex (trial, step, site)
    sites : Sites
    step : float
        s.
    lagged : bool
        False for the twin, in which nothing winds or travels.
    """
    turn = np.angle((z[:, 1:] * z[:, :-1].conj()).sum(-1))
    frequency = turn.mean(1) / (2 * np.pi * step)
    blank = np.full(len(z), np.nan)
    if not lagged:
        return {
            "winding": np.zeros(len(z), dtype=int),
            "frequency": frequency,
            "direction": blank,
            "speed": blank,
        }
    if sites.is_ring:
        winding = ring_winding(z[:, -1], sites)
        with np.errstate(divide="ignore"):
            speed = np.abs(frequency) * 2 * np.pi * sites.radius / np.abs(winding)
        direction = blank
        speed = np.where(winding == 0, np.nan, speed)
    else:
        winding = charges(z[:, -1], sites).sum(-1)
        direction, speed = _planar(z[:, z.shape[1] // 2 :], sites, frequency)
    return {"winding": winding, "frequency": frequency, "direction": direction, "speed": speed}


def _planar(z: np.ndarray, sites: Sites, frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction (deg) and speed (mm/s) of each trial's mean wavevector, (trial,)."""
    mean, size = [], []
    for axis in (0, 1):
        lead = advance(z, sites, axis)
        mean.append(lead.mean((1, 2)))
        size.append(np.square(lead).mean((1, 2)))
    # At a negative frequency the wave runs against its wavevector.
    kx, ky = np.sign(frequency) * np.array(mean) / sites.pitch
    length = np.hypot(kx, ky)
    spread = np.sqrt(size[0] + size[1]) / sites.pitch
    travels = length > AGREEMENT * np.maximum(spread, np.finfo(float).tiny)
    direction = np.where(travels, np.rad2deg(np.arctan2(ky, kx)), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = np.where(travels, 2 * np.pi * np.abs(frequency) / length, np.nan)
    return direction, speed
