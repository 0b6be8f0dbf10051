r"""Kuramoto phase oscillators on a ring, lattice or disc, seen by Poisson units and electrodes.

.. math:: \dot\theta_i = \omega_i + \sum_d K_d \sin(\theta_{d(i)} - \theta_i - \alpha_d)
          + \sigma \xi_i

over the directions d of nearest neighbours, with opposite lags :math:`\alpha_d` in opposite
directions, so that waves have a preferred way. Rings start in twisted states, discs in spirals,
lattices in plane waves; every trial has its own phase and perturbation. Kept beside the data, in
``processing/ground_truth``: ``firing_rates``, Hz, ``site_re`` and ``site_im``, means over each bin,
and the tables ``sites`` and ``parameters``; what the wave does, in each trial, in the trials table.
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

PAPER = "Kuramoto 1984, Sakaguchi & Kuramoto 1986, Wiley et al. 2006 (twisted states)"


class Params(FieldParams):
    """Parameters of the Kuramoto recording."""

    coupling: float = Field(8.0, description="Mean coupling per direction K, rad/s.")
    noise: float = Field(0.5, ge=0, description="Phase diffusion, rad per square root of a second.")


def integrate(
    params: Params, start: np.ndarray, frequency: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    r"""Heun's method (strong order one, as the noise is additive; order two without noise).

    Parameters
    ----------
    start : ndarray, complex (trial, site)
        Only its phase counts.
    frequency : ndarray (site,)
        Hz.

    Returns
    -------
    ndarray, complex (trial, step + 1, site)
        :math:`e^{i\theta}` every 2 ms.
    """
    sites = params.place()
    weight = params.coupling * params.strengths() * np.exp(-1j * params.lags())
    omega, step = 2 * np.pi * frequency, STEP / params.substeps

    def slope(theta: np.ndarray) -> np.ndarray:
        z = np.exp(1j * theta)
        return omega + (z.conj() * inflow(z, sites.neighbour, weight)).imag

    theta = np.angle(start)
    z = np.empty((len(start), params.steps + 1, len(frequency)), dtype=complex)
    z[:, 0] = np.exp(1j * theta)
    for now in range(1, params.steps + 1):
        for _ in range(params.substeps):
            kick = params.noise * np.sqrt(step) * rng.standard_normal(theta.shape)
            before = slope(theta)
            after = slope(theta + step * before + kick)
            theta = theta + step / 2 * (before + after) + kick
        z[:, now] = np.exp(1j * theta)
    return z


def twisted_frequency(params: Params, winding: int) -> float:
    r"""Frequency (Hz) of a ring's exact twisted state.

    .. math:: \omega + \sum_d K_d \sin(\pm 2 \pi q / N - \alpha_d)
    """
    step = 2 * np.pi * winding / params.sites * np.array([1, -1])
    pull = params.coupling * params.strengths() * np.sin(step - params.lags())
    return params.frequency + float(pull.sum()) / (2 * np.pi)


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
    frequency = natural_frequency(params, seed, "kuramoto")
    write_recording(
        path,
        "kuramoto",
        params,
        lambda start, rng: integrate(params, start, frequency, rng),
        seed,
        size=1.0,
        description=f"{params.units} Poisson units on a {params.topology} of "
        f"{len(frequency)} Kuramoto oscillators, {params.trials} trials."
        + (" The twin without lags." if params.null == "zero_lag" else ""),
        publications=["doi:10.1143/PTP.76.576", "doi:10.1063/1.2165594"],
        known={"coupling": params.coupling, "noise": params.noise},
    )
