r"""What the validation trials say for a decoded field, and for the lags in it.

Scored are channels that the encoder does not see, in seen bins of the validation trials: the
held-out units; without any, every fourth unit (of a field alone, electrode), which then reads as
its mean. Spikes hidden from units that are seen would not do: a unit's own shown spikes tell its
own phase, whether or not its neighbours share a field with it. Three predictions are compared:

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
``one mode, zero lag`` is that of the lags alone: positive where unseen units fire when the lags
say, negative or within its error of zero where the lags are noise. It says nothing of which way a
wave goes, nor that the ways of trials agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from driftwave.inference.coupled_network import CoupledNetwork
from driftwave.inference.lattice_readout import SpatialReadout
from driftwave.inference.sequential_data import Observed

# Without held-out units one channel in so many is withheld.
FOLDS = 4


@dataclass(frozen=True)
class Unseen:
    """Validation trials with channels that the encoder does not see.

    Attributes
    ----------
    visible : Tensor (trial, seen bin, held-in unit + 2 electrode)
    target : Tensor (trial, seen bin, channel)
        Counts; of a field alone standardised values, NaN where missing.
    scored : Tensor of bool (channel,)
    """

    visible: Tensor
    target: Tensor
    scored: Tensor


def unseen(network: CoupledNetwork, observed: Observed) -> Unseen:
    """The validation trials of what is observed, on the network's device."""
    valid, seen = observed.valid, observed.seen_bins
    visible = observed.visible[valid].copy()
    values = observed.field if observed.counts is None else observed.counts
    assert values is not None
    if observed.counts is None:
        scored = np.arange(observed.electrodes) % FOLDS == 0
        visible[..., np.tile(scored, 2)] = 0
    elif observed.held_in.all():
        scored = np.arange(len(observed.held_in)) % FOLDS == 0
        mean = network.input_law[0].cpu().numpy()
        visible[..., np.flatnonzero(scored)] = mean[scored]
    else:
        scored = ~observed.held_in
    device = network.evidence.device
    parts = visible, values[valid][:, :seen], scored
    return Unseen(*(torch.from_numpy(part).to(device) for part in parts))


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


def validation_evidence(
    network: CoupledNetwork, observed: Observed, *, samples: int, seed: int
) -> Tensor:
    """Gains of the model over constant rates, then of each band's lags (1 + band, 2).

    In bits per spike, or shares of variance of a field alone, each with its standard error over
    trials. Those of lags are NaN where channels have phases of their own, so that lags between
    sites mean nothing.

    Parameters
    ----------
    samples : int
        Posterior samples over which the state is averaged.
    seed : int
    """
    network.eval()
    view, readout = unseen(network, observed), network.readout
    one_phase = isinstance(readout, SpatialReadout) and readout.phase is None
    with torch.no_grad():
        state = _mean_state(network, view.visible, samples, seed)
        full = _channels(network, state)
        means = full.exp().mean((0, 1))
        gains = [_score(network, full, means, view)]
        for band in range(network.dynamics.bands):
            kept = [_channels(network, part) for part in _reduced(state, network, band)]
            one, still = (_score(network, part, means, view) for part in kept)
            gains.append(one - still if one_phase else one * math.nan)
        by_trial = torch.stack(gains)
        trials = by_trial.shape[1]
        # One trial tells nothing of its error.
        spread = by_trial.std(1) * math.sqrt(trials) if trials > 1 else by_trial[:, 0] * math.nan
        return torch.stack([by_trial.sum(1), spread], 1).float().cpu()


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


def _score(network: CoupledNetwork, channels: Tensor, means: Tensor, view: Unseen) -> Tensor:
    """What each trial (trial,) adds to the gain over the scored channels' own means.

    Of units the mean expected counts are made ``means`` (channel,).
    """
    found, target = (x[..., : view.target.shape[-1]] for x in (channels, view.target))
    found, target = found[..., view.scored].double(), target[..., view.scored].double()
    if not network.sizes.units_out:
        there = torch.isfinite(target)
        target = torch.where(there, target, 0.0)
        error = torch.where(there, target - found, 0.0)
        return (target.square() - error.square()).sum((1, 2)) / target.square().sum()
    found = found + means[: len(view.scored)][view.scored].log() - found.exp().mean((0, 1)).log()
    flat = target.mean((0, 1)).clamp_min(1e-9)
    gained = (target * (found - flat.log()) - (found.exp() - flat)).sum((1, 2))
    return gained / (target.sum().clamp_min(1e-9) * math.log(2))
