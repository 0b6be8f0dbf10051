r"""Stuart-Landau oscillators on a ring, lattice or disc, seen by Poisson units and electrodes.

.. math:: \dot z_j = (\mu + i \omega_j - |z_j|^2) z_j + \sum_d \kappa_d (z_{d(j)} - z_j)
          + \sigma \xi_j, \qquad \kappa_d = K_d e^{-i \alpha_d}

over the directions d of nearest neighbours (none across an open border), with opposite lags
:math:`\alpha_d` in opposite directions. Of small fields the wave whose phase falls by the lag per
site grows fastest; full-grown waves of other steps, the uniform field among them, are stable too.
Starts, units, electrodes and truth are those of
:mod:`driftwave.ingest.simulate.kuramoto`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from driftwave.ingest.simulate._oscillator_field import (
    FieldParams,
    natural_frequency,
    write_recording,
)
from driftwave.ingest.simulate._sites import inflow
from driftwave.ingest.simulate._trials import STEP

PAPER = "Kuramoto 1984; Aranson & Kramer 2002 (complex Ginzburg-Landau equation)"


class Params(FieldParams):
    """Parameters of the Stuart-Landau recording."""

    mu: float = Field(
        20.0, description="Growth rate, 1/s; uncoupled oscillators reach amplitude sqrt(mu)."
    )
    coupling: float = Field(10.0, description="Mean coupling per direction K, 1/s.")
    start_amplitude: float = Field(
        1.0,
        gt=0,
        description="Amplitude at the start, in units of sqrt(mu); from a small random field grows "
        "the wave of the coupling's lag.",
    )
    noise: float = Field(
        1.0,
        ge=0,
        description="Noise on either part of z, per square root of a second.",
    )


def start_size(params: Params) -> float:
    """Amplitude at the start; in units of one where uncoupled oscillators have none."""
    return params.start_amplitude * (float(np.sqrt(params.mu)) if params.mu > 0 else 1.0)


def integrate(
    params: Params, start: np.ndarray, frequency: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Heun's method (strong order one, as the noise is additive; order two without noise).

    Parameters
    ----------
    start : ndarray, complex (trial, site)
    frequency : ndarray (site,)
        Hz.

    Returns
    -------
    ndarray, complex (trial, step + 1, site)
        z every 2 ms.
    """
    sites = params.place()
    kappa = params.coupling * params.strengths() * np.exp(-1j * params.lags())
    leak = kappa @ (sites.neighbour >= 0)
    # Seen from a frame that turns at the mean frequency the field is slow, and Heun exact enough;
    # coupling and noise look the same from there.
    common = float(frequency.mean())
    linear = params.mu + 2j * np.pi * (frequency - common) - leak
    step = STEP / params.substeps

    def slope(z: np.ndarray) -> np.ndarray:
        return (linear - (z.real**2 + z.imag**2)) * z + inflow(z, sites.neighbour, kappa)

    now = start.astype(complex)
    z = np.empty((len(start), params.steps + 1, len(frequency)), dtype=complex)
    z[:, 0] = now
    for index in range(1, params.steps + 1):
        for _ in range(params.substeps):
            draw = rng.standard_normal((2, *now.shape))
            kick = params.noise * np.sqrt(step) * (draw[0] + 1j * draw[1])
            before = slope(now)
            after = slope(now + step * before + kick)
            now = now + step / 2 * (before + after) + kick
        z[:, index] = now
    return z * np.exp(2j * np.pi * common * STEP * np.arange(params.steps + 1))[:, None]


def wave_amplitude(params: Params, step: float) -> float:
    r"""Amplitude of the plane wave whose phase falls by ``step`` (rad) per site of a ring.

    .. math:: |z|^2 = \mu + \sum_d K_d [\cos(\pm\delta - \alpha_d) - \cos \alpha_d]

    Zero where that is negative and the wave cannot exist.
    """
    steps = step * np.array([1, -1])
    lags = params.lags()[:2]
    gain = params.coupling * params.strengths()[:2] * (np.cos(steps - lags) - np.cos(lags))
    return float(np.sqrt(max(0.0, params.mu + gain.sum())))


def simulate(path: str | Path, params: Params, *, seed: int) -> None:
    """Write the recording to ``path`` as an NWB file.

    Parameters
    ----------
    path : path
    params : Params
    seed : int
        The same seed and parameters give the same arrays; natural frequencies, units, starts,
        noise, spikes, LFP noise and split are separate streams of it.
    """
    frequency = natural_frequency(params, seed, "stuart_landau")
    write_recording(
        path,
        "stuart_landau",
        params,
        lambda start, rng: integrate(params, start, frequency, rng),
        seed,
        size=start_size(params),
        description=f"{params.units} Poisson units on a {params.topology} of "
        f"{len(frequency)} Stuart-Landau oscillators, {params.trials} trials."
        + (" The twin without lags." if params.null == "zero_lag" else ""),
        publications=["doi:10.1103/RevModPhys.74.99"],
        known={"coupling": params.coupling, "noise": params.noise, "mu": params.mu},
    )
