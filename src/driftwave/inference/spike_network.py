"""What networks that infer rates from visible spikes share: shapes, loss, validation, posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from driftwave.compute import generator
from driftwave.inference.data import SpikeArrays
from driftwave.inference.dropout import Hidden, HidingKind, hide
from driftwave.inference.elbo import poisson_nll

VALIDATION_SAMPLES = 2
CHUNK = 128


class Pass(NamedTuple):
    """One pass through a network.

    Attributes
    ----------
    log_rate : Tensor (trial, time, unit)
        Log of the expected count per bin.
    latent : Tensor (trial, time, latent)
    kl : Tensor (trial,)
        Divergence of the posterior from the prior, nats per trial.
    """

    log_rate: Tensor
    latent: Tensor
    kl: Tensor


class Sizes(NamedTuple):
    """Shapes of the data: units seen and predicted, bins seen and predicted."""

    units_in: int
    units_out: int
    seen_bins: int
    bins: int


class SpikeNetwork(nn.Module):
    """Counts of held-in units in seen bins -> rates of all units in all bins."""

    sizes: Sizes

    def encode(self, visible: Tensor) -> tuple[Tensor, ...]:
        """What the visible counts (trial, seen bin, held-in unit) say, without noise."""
        raise NotImplementedError

    def decode(self, encoded: tuple[Tensor, ...], noise: Tensor) -> Pass:
        """Latents drawn with ``noise`` of :meth:`noise`, and the rates they give."""
        raise NotImplementedError

    def noise_shape(self, trials: int) -> tuple[int, ...]:
        """Shape of the noise of one pass, trials along the second axis."""
        raise NotImplementedError

    def undecayed(self) -> set[str]:
        """Names of the parameters that weight decay spares; here none."""
        return set()

    def noise(self, trials: int, drawn: torch.Generator | None = None) -> Tensor:
        """Standard normal noise for one pass, on the network's device."""
        device = next(self.parameters()).device
        return torch.randn(self.noise_shape(trials), generator=drawn, device=device)

    def forward(self, visible: Tensor, noise: Tensor) -> Pass:
        """Encode and decode once."""
        return self.decode(self.encode(visible), noise)


@dataclass(frozen=True)
class Objective:
    """What is minimised: (NLL + weight x KL) in nats per trial, divided by bins x units.

    Attributes
    ----------
    hiding : {"thinning", "coordinated"}
    hidden_share : float
        Share of the visible spikes hidden from the encoder.
    also_shown : float
        Of coordinated dropout: probability that a shown entry is scored all the same.
    kl_weight : float
    kl_warmup : float
        Steps over which the weight grows from zero.
    """

    hiding: HidingKind
    hidden_share: float
    kl_weight: float
    kl_warmup: float
    also_shown: float = 0.0


class SpikeTask:
    """Loss and validation of one network on one recording.

    The encoder sees held-in units in seen bins, less the hidden spikes. The likelihood is asked
    for the hidden spikes, the held-out units and the forward bins.
    """

    def __init__(
        self,
        network: SpikeNetwork,
        arrays: SpikeArrays,
        objective: Objective,
        seed: int,
        device: str,
    ) -> None:
        self.network = network
        self.objective = objective
        self.held_in = torch.from_numpy(np.flatnonzero(arrays.held_in))
        self.seen_bins = arrays.seen_bins
        self.train = torch.from_numpy(arrays.counts[arrays.train]).to(device)
        valid = torch.from_numpy(arrays.counts[arrays.valid])
        # Hidden spikes and noise of the validation are drawn once and on the CPU: every epoch and
        # every device is judged on the same ones.
        drawn = torch.Generator().manual_seed(int(generator(seed, "validation").integers(2**62)))
        hidden = hide(self._visible(valid), objective.hiding, objective.hidden_share, drawn)
        self.validation = [part.to(device) for part in self._targets(valid, hidden)]
        shapes = [network.noise_shape(len(valid))] * VALIDATION_SAMPLES
        self.validation_noise = [torch.randn(s, generator=drawn).to(device) for s in shapes]
        self.held_in = self.held_in.to(device)

    def _visible(self, counts: Tensor) -> Tensor:
        return counts[:, : self.seen_bins].index_select(2, self.held_in)

    def _targets(self, counts: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Tensor]:
        """What the encoder sees, and counts and exposure (trial, bin, unit) to be explained."""
        exposure, target = torch.ones_like(counts), counts.clone()
        target[:, : self.seen_bins, self.held_in] = hidden.counts
        exposure[:, : self.seen_bins, self.held_in] = hidden.exposure
        return hidden.shown, target, exposure

    def loss(self, index: Tensor, step: int) -> Tensor:
        """Objective on a batch of training trials, nats per bin and unit."""
        goal = self.objective
        counts = self.train[index.to(self.train.device)]
        hidden = hide(
            self._visible(counts), goal.hiding, goal.hidden_share, also_shown=goal.also_shown
        )
        shown, target, exposure = self._targets(counts, hidden)
        out = self.network(shown, self.network.noise(len(counts)))
        nll = poisson_nll(out.log_rate, target, exposure).sum((1, 2))
        weight = goal.kl_weight * min(1.0, step / max(1.0, goal.kl_warmup))
        return (nll + weight * out.kl).mean() / (counts.shape[1] * counts.shape[2])

    def validate(self) -> Tensor:
        """NLL per bin and unit of validation spikes that the encoder does not see."""
        shown, target, exposure = self.validation
        total = torch.zeros((), device=shown.device)
        for part in torch.arange(len(shown), device=shown.device).split(CHUNK):
            encoded = self.network.encode(shown[part])
            rates = [
                self.network.decode(encoded, noise[:, part]).log_rate.exp()
                for noise in self.validation_noise
            ]
            log_rate = torch.log(torch.stack(rates).mean(0))
            total += poisson_nll(log_rate, target[part], exposure[part]).sum()
        return total / target.numel()


def log_mean_count(arrays: SpikeArrays) -> Tensor:
    """Log mean count per bin of each unit in the training trials; half a spike for silent ones."""
    train = arrays.counts[arrays.train]
    total = np.maximum(train.sum((0, 1)), 0.5)
    return torch.from_numpy(np.log(total / (train.shape[0] * train.shape[1]))).float()


def input_law(arrays: SpikeArrays) -> Tensor:
    """Mean and sd (2, held-in unit) of the counts seen in training; sd at least .1."""
    seen = arrays.visible[arrays.train]
    sd = np.maximum(seen.std((0, 1)), 0.1)
    return torch.from_numpy(np.stack([seen.mean((0, 1)), sd])).float()


def sizes_of(arrays: SpikeArrays) -> Sizes:
    """Shapes of a recording."""
    _, bins, units = arrays.counts.shape
    return Sizes(int(arrays.held_in.sum()), units, arrays.seen_bins, bins)


class Posterior(NamedTuple):
    """What a network infers, over posterior samples.

    Attributes
    ----------
    rate, rate_sd : ndarray (trial, time, unit)
        Expected count per bin, and the spread of it.
    latent, latent_sd : ndarray (trial, time, latent)
    """

    rate: np.ndarray
    rate_sd: np.ndarray
    latent: np.ndarray
    latent_sd: np.ndarray


def posterior_average(
    network: SpikeNetwork,
    visible: np.ndarray,
    *,
    samples: int,
    seed: int,
    device: str,
    of_log_rates: bool = False,
) -> Posterior:
    """Mean and spread over posterior samples with a fixed seed; dropout is off.

    Parameters
    ----------
    visible : ndarray (trial, seen bin, held-in unit)
    samples : int
    of_log_rates : bool
        Average log rates instead of rates.
    """
    network.eval()
    words = int(generator(seed, "posterior samples").integers(2**62))
    drawn = torch.Generator(device=device).manual_seed(words)
    parts = []
    with torch.no_grad():
        for chunk in torch.from_numpy(np.ascontiguousarray(visible)).split(CHUNK):
            # A copy is aligned as torch has it: how numpy's memory lies can change rounding.
            encoded = network.encode(chunk.clone().to(device))
            parts.append(_average(network, encoded, len(chunk), samples, drawn, of_log_rates))
    return Posterior(*(torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)))


def _average(
    network: SpikeNetwork,
    encoded: tuple[Tensor, ...],
    trials: int,
    samples: int,
    drawn: torch.Generator,
    of_log_rates: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rates, latents = _Moments(), _Moments()
    for _ in range(samples):
        out = network.decode(encoded, network.noise(trials, drawn))
        rates.add(out.log_rate if of_log_rates else out.log_rate.exp())
        latents.add(out.latent)
    rate, rate_sd = rates.mean_and_sd()
    if of_log_rates:
        rate = rate.exp()
        rate_sd = rate * rate_sd  # to first order
    return rate, rate_sd, *latents.mean_and_sd()


class _Moments:
    """Running mean and sum of squares, without the cancellation of a difference of squares."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, value: Tensor) -> None:
        self.count += 1
        step = value - self.mean
        self.mean = self.mean + step / self.count
        self.squares = self.squares + step * (value - self.mean)

    def mean_and_sd(self) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(self.mean), torch.as_tensor(self.squares / self.count).sqrt()
