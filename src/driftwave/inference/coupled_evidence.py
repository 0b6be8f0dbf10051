r"""What the validation trials say for a decoded field, and for the lags in it.

Of each validation trial the model sees held-in units with a share of the spikes hidden (entries of
the field likewise). Three predictions of what is hidden, in seen bins, are scored:

``full``
    :math:`b_n + \mathrm{Re} \sum_j w_{nj} z_j(t)`, z the posterior mean;
``one mode``
    of each band and trial only :math:`a(t)\, m_j`, the leading singular course and complex map of
    :math:`z_j(t)` in seen bins: every site follows one course, each with its own lag;
``one mode, zero lag``
    :math:`a(t)\, m_j` with the real map that fits :math:`z_j(t)` best, which is the leading
    eigenvector of :math:`\mathrm{Re}\, Z^\dagger Z`: sites are in phase or in antiphase.

Both reduced predictions have one course and one number per site, and every unit's mean expected
count is that of ``full`` (a field's electrodes are not rescaled). So the gain of ``one mode`` over
``one mode, zero lag`` is that of the lags alone: positive where hidden spikes fall when the lags
say, negative where the lags are noise. It says nothing of which way a wave goes, nor that the ways
of trials agree.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from driftwave.inference.coupled_network import CoupledNetwork
from driftwave.inference.lattice_readout import SpatialReadout
from driftwave.inference.sequential_task import View


class Evidence(NamedTuple):
    """Gains on what is hidden of the validation trials: bits per spike, or shares of variance.

    Attributes
    ----------
    prediction : float
        Of the model over constant rates (the electrodes' means).
    wave : ndarray (band,)
        Of each band's lags: one mode over one mode without lags. NaN where channels have phases
        of their own, so that lags between sites mean nothing.
    """

    prediction: float
    wave: np.ndarray


def lagged_mode(field: Tensor) -> tuple[Tensor, Tensor]:
    """Best single mode of a field, with and without lags.

    Parameters
    ----------
    field : Tensor, complex (trial, time, site)

    Returns
    -------
    lagged, still : Tensor, complex (trial, time, site)
        Course times complex map, and course times real map.
    """
    cross = field.mH @ field
    lead = torch.linalg.eigh(cross).eigenvectors[..., -1:]
    flat = torch.linalg.eigh(cross.real).eigenvectors[..., -1:].to(field.dtype)
    return field @ lead @ lead.mH, field @ flat @ flat.mH


def validation_evidence(network: CoupledNetwork, view: View, *, samples: int, seed: int) -> Tensor:
    """:class:`Evidence` as one tensor (1 + band,), of the hidden part of validation trials.

    Parameters
    ----------
    view : View
        What is visible and what is hidden of the validation trials.
    samples : int
        Posterior samples over which the state is averaged.
    seed : int
    """
    network.eval()
    with torch.no_grad():
        state = _mean_state(network, view.visible, samples, seed)
        full = _channels(network, state)
        units = network.sizes.units_out
        means = full[..., :units].exp().mean((0, 1))
        score = _score(network, full, means, view)
        gains: list[Tensor] = []
        readout = network.readout
        one_phase = isinstance(readout, SpatialReadout) and readout.phase is None
        for band in range(network.dynamics.bands):
            kept = [_channels(network, part) for part in _reduced(state, network, band)]
            one, still = (_score(network, part, means, view) for part in kept)
            gains.append(one - still if one_phase else score * math.nan)
        return torch.stack([score, *gains]).float().cpu()


def _mean_state(network: CoupledNetwork, visible: Tensor, samples: int, seed: int) -> Tensor:
    """Posterior mean of the state (trial, seen bin, width)."""
    drawn = torch.Generator(device=visible.device).manual_seed(seed)
    encoded, total = network.encode(visible), torch.zeros(())
    for _ in range(samples):
        out = network.decode(encoded, network.noise(len(visible), drawn))
        total = total + network.parts(out.latent).state[:, : visible.shape[1]]
    return total / samples


def _reduced(state: Tensor, network: CoupledNetwork, band: int) -> tuple[Tensor, Tensor]:
    """States in which one band is a single mode, with lags and without."""
    parts = state.unflatten(-1, (network.dynamics.bands, -1, 2))
    field = torch.view_as_complex(parts[:, :, band].double().contiguous())
    found = []
    for mode in lagged_mode(field):
        changed = parts.clone()
        changed[:, :, band] = torch.view_as_real(mode).to(parts.dtype)
        found.append(changed.flatten(-3))
    return found[0], found[1]


def _channels(network: CoupledNetwork, state: Tensor) -> Tensor:
    return network.readout(state) + network.offset


def _score(network: CoupledNetwork, channels: Tensor, means: Tensor, view: View) -> Tensor:
    """Gain over constant predictions: bits per hidden spike, or share of variance without spikes.

    Of units the mean expected counts are made ``means`` (unit,).
    """
    seen, units = channels.shape[1], network.sizes.units_out
    if not units:
        field, weight = view.field[:, :seen], view.weight[:, :seen]
        error = (weight * (field - channels) ** 2).sum()
        return 1 - error / (weight * field**2).sum()
    log_rate = channels[..., :units].double()
    log_rate = log_rate + means.log() - log_rate.exp().mean((0, 1)).log()
    counts, exposure = (x[:, :seen].double() for x in (view.counts, view.exposure))
    flat = (counts.sum((0, 1)) / exposure.sum((0, 1)).clamp_min(1e-9)).clamp_min(1e-9)
    gained = (counts * (log_rate - flat.log()) - exposure * (log_rate.exp() - flat)).sum()
    return gained / (counts.sum().clamp_min(1e-9) * np.log(2))
