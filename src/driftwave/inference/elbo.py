"""The two terms of an evidence lower bound for spike counts, both in nats."""

from __future__ import annotations

import torch
from torch import Tensor


def poisson_nll(log_rate: Tensor, counts: Tensor, exposure: Tensor | float = 1.0) -> Tensor:
    """Poisson negative log-likelihood per entry, in nats, without the constant ``log(x!)``.

    Parameters
    ----------
    log_rate : Tensor
        Log of the expected count per bin.
    counts : Tensor, same shape
        Spikes per bin.
    exposure : Tensor or float
        Share of the entry's rate that ``counts`` answers for (1: the whole count; 0: hidden).

    Returns
    -------
    Tensor
        ``exposure * exp(log_rate) - counts * log_rate``.
    """
    return exposure * torch.exp(log_rate) - counts * log_rate


def gaussian_kl(
    mean: Tensor,
    log_variance: Tensor,
    prior_mean: Tensor | float = 0.0,
    prior_variance: Tensor | float = 1.0,
) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(prior_mean, prior_variance)) per entry, in nats."""
    prior = torch.as_tensor(prior_variance, dtype=mean.dtype, device=mean.device)
    squared = (mean - prior_mean) ** 2
    return 0.5 * ((log_variance.exp() + squared) / prior - 1.0 - log_variance + prior.log())


def sample_gaussian(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Reparameterised draw ``mean + sd * noise``."""
    return mean + torch.exp(0.5 * log_variance) * noise
