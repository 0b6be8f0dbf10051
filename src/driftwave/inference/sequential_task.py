"""Loss and validation of a sequential VAE that observes spikes, a field, or both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from driftwave.compute import generator
from driftwave.inference.dropout import hide
from driftwave.inference.elbo import poisson_nll
from driftwave.inference.sequential_data import Observed
from driftwave.inference.sequential_vae import SequentialVAE
from driftwave.inference.spike_network import CHUNK, VALIDATION_SAMPLES, Objective, SpikeTask


def gaussian_nll(mean: Tensor, log_variance: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """Weighted Gaussian negative log-likelihood per entry, nats; entries of weight 0 give 0.

    Parameters
    ----------
    mean, value, weight : Tensor (trial, bin, electrode)
        ``value`` is finite wherever ``weight`` is not zero.
    log_variance : Tensor (electrode,)
    """
    error = torch.where(weight > 0, value, mean) - mean
    return 0.5 * weight * (math.log(2 * math.pi) + log_variance + error**2 / log_variance.exp())


@dataclass(frozen=True)
class FieldHiding:
    """Which field entries are hidden from the encoder, and alone enter the likelihood.

    Attributes
    ----------
    entries : float
        Share of single entries (electrode and bin).
    electrodes : float
        Share of electrodes hidden for a whole trial: without these the encoder would learn to
        interpolate in time, and fill no electrode from the others.
    """

    entries: float = 0.2
    electrodes: float = 0.2

    @property
    def share(self) -> float:
        """Share of the entries that is hidden."""
        return 1.0 - (1.0 - self.entries) * (1.0 - self.electrodes)


class View(NamedTuple):
    """A batch as the loss takes it.

    Attributes
    ----------
    visible : Tensor (trial, seen bin, held-in unit + 2 electrode)
    counts, exposure : Tensor (trial, bin, unit)
    field, weight : Tensor (trial, bin, electrode)
        To be explained, and how much each entry counts; its expectation is one where the field is
        there.
    """

    visible: Tensor
    counts: Tensor
    exposure: Tensor
    field: Tensor
    weight: Tensor

    def rows(self, index: Tensor) -> View:
        """Some trials."""
        return View(*(part[index] for part in self))


class SequentialTask(SpikeTask):
    """:class:`SpikeTask` with a field beside the counts, or in place of them.

    The field's likelihood is Gaussian with a learned variance per electrode. It is asked for the
    entries hidden from the encoder and for the forward bins; NaN counts nowhere. Losses are in
    nats per trial, divided by bins x (units + electrodes).
    """

    network: SequentialVAE

    def __init__(
        self,
        network: SequentialVAE,
        observed: Observed,
        objective: Objective,
        seed: int,
        device: str,
        field_hiding: FieldHiding | None = None,
    ) -> None:
        self.network = network
        self.objective = objective
        self.field_hiding = field_hiding or FieldHiding()
        self.seen_bins = observed.seen_bins
        self.held_in = torch.from_numpy(np.flatnonzero(observed.held_in))
        drawn = torch.Generator().manual_seed(int(generator(seed, "validation").integers(2**62)))
        counts, field = _both(observed)
        view = self._view(counts[observed.valid], field[observed.valid], drawn)
        self.judged = View(*(part.to(device) for part in view))
        shapes = [network.noise_shape(int(observed.valid.sum()))] * VALIDATION_SAMPLES
        self.validation_noise = [torch.randn(s, generator=drawn).to(device) for s in shapes]
        self.held_in = self.held_in.to(device)
        self.train = counts[observed.train].to(device)
        self.train_field = field[observed.train].to(device)

    def _view(
        self, counts: Tensor, field: Tensor, drawn: torch.Generator | None = None, extra: float = 0
    ) -> View:
        goal = self.objective
        seen = self._visible(counts)
        hidden = hide(seen, goal.hiding, goal.hidden_share, drawn, extra)
        shown, target, exposure = self._targets(counts, hidden)
        there = torch.isfinite(field)
        field = torch.where(there, field, 0.0)
        secret, scored = self._secret(field, drawn)
        weight = torch.cat([scored, torch.ones_like(field[:, self.seen_bins :])], 1) * there
        open_ = (there[:, : self.seen_bins] & ~secret).to(field.dtype)
        visible = torch.cat([shown, field[:, : self.seen_bins] * open_, open_], -1)
        return View(visible, target, exposure, field, weight)

    def _secret(self, field: Tensor, drawn: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Which seen field entries are hidden, and the weight of all in the likelihood."""
        seen = field[:, : self.seen_bins]
        share = self.field_hiding
        if share.share <= 0:
            return torch.zeros_like(seen, dtype=torch.bool), torch.ones_like(seen)
        shape = seen.shape
        single = torch.rand(shape, generator=drawn, device=seen.device) < share.entries
        whole = torch.rand((shape[0], 1, shape[2]), generator=drawn, device=seen.device)
        secret = single | (whole < share.electrodes)
        return secret, secret.to(seen.dtype) / share.share

    def loss(self, index: Tensor, step: int) -> Tensor:
        """Objective on a batch of training trials, nats per bin and channel."""
        goal = self.objective
        rows = index.to(self.train.device)
        view = self._view(self.train[rows], self.train_field[rows], extra=goal.also_shown)
        out = self.network(view.visible, self.network.noise(len(index)))
        weight = goal.kl_weight * min(1.0, step / max(1.0, goal.kl_warmup))
        nll = self._nll(out.log_rate, self.network.parts(out.latent).field, view)
        return (nll + weight * out.kl).mean() / self._entries

    @property
    def _entries(self) -> int:
        sizes = self.network.sizes
        return sizes.bins * (sizes.units_out + self.network.electrodes)

    def _nll(self, log_rate: Tensor, field: Tensor, view: View) -> Tensor:
        spikes = poisson_nll(log_rate, view.counts, view.exposure).sum((1, 2))
        noise = self.network.log_noise
        return spikes + gaussian_nll(field, noise, view.field, view.weight).sum((1, 2))

    def validate(self) -> Tensor:
        """NLL per bin and channel of what the encoder does not see of the validation trials.

        Rates and expected field are averaged over posterior samples; the field's variance is that
        of its noise.
        """
        total = torch.zeros((), device=self.train.device)
        trials = len(self.judged.visible)
        for part in torch.arange(trials, device=self.train.device).split(CHUNK):
            view = self.judged.rows(part)
            encoded = self.network.encode(view.visible)
            passes = [self.network.decode(encoded, n[:, part]) for n in self.validation_noise]
            log_rate = torch.stack([out.log_rate.exp() for out in passes]).mean(0).log()
            field = torch.stack([self._field(out.latent) for out in passes]).mean(0)
            total += self._nll(log_rate, field, view).sum()
        return total / (trials * self._entries)

    def _field(self, latent: Tensor) -> Tensor:
        return self.network.parts(latent).field


def _both(observed: Observed) -> tuple[Tensor, Tensor]:
    """Counts and field of all trials, with no unit or no electrode where one is not observed."""
    empty = np.zeros((*observed.shape, 0), np.float32)
    counts = empty if observed.counts is None else observed.counts
    field = empty if observed.field is None else observed.field
    return torch.from_numpy(counts), torch.from_numpy(field)
