"""Hiding spikes from an encoder, so that it is scored on spikes it has not seen."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

HidingKind = Literal["thinning", "coordinated"]


class Hidden(NamedTuple):
    """Counts with a share hidden (all of one shape).

    Attributes
    ----------
    shown : Tensor
        What the encoder gets, scaled so that its expectation is the counts.
    counts : Tensor
        What the likelihood is asked for, scaled so that its expectation is the counts.
    exposure : Tensor
        Factor of the expected count in the likelihood; its expectation is one.
    """

    shown: Tensor
    counts: Tensor
    exposure: Tensor


def thin(counts: Tensor, share: float, generator: torch.Generator | None = None) -> Hidden:
    """Binomial thinning: each spike goes to the target with probability ``share``.

    The two parts of a Poisson count are independent Poisson counts with ``1 - share`` and
    ``share`` of its rate, so the target says nothing that the encoder could copy.
    """
    keep = torch.full_like(counts, 1.0 - share)
    shown = torch.binomial(counts, keep, generator=generator)
    return Hidden(shown / (1.0 - share), (counts - shown) / share, torch.ones_like(counts))


def coordinated_dropout(
    counts: Tensor,
    share: float,
    generator: torch.Generator | None = None,
    also_shown: float = 0.0,
) -> Hidden:
    """Coordinated dropout: whole entries are hidden, and those alone enter the likelihood.

    Parameters
    ----------
    counts : Tensor
    share : float
        Probability that an entry is hidden from the encoder.
    also_shown : float
        Probability that a shown entry enters the likelihood all the same.

    References
    ----------
    Keshtkaran and Pandarinath, NeurIPS 2019.
    """
    hidden = torch.rand(counts.shape, generator=generator, device=counts.device) < share
    scored = hidden.to(counts.dtype)
    expected = share
    if also_shown:
        extra = torch.rand(counts.shape, generator=generator, device=counts.device) < also_shown
        scored = (hidden | extra).to(counts.dtype)
        expected = share + (1.0 - share) * also_shown
    weight = scored / expected
    shown = counts * (~hidden) / (1.0 - share)
    return Hidden(shown, counts * weight, weight)


def hide(
    counts: Tensor,
    kind: HidingKind,
    share: float,
    generator: torch.Generator | None = None,
    also_shown: float = 0.0,
) -> Hidden:
    """Hide a share of the counts; a share of zero shows and scores everything."""
    if share <= 0:
        return Hidden(counts, counts, torch.ones_like(counts))
    if kind == "thinning":
        return thin(counts, share, generator)
    return coordinated_dropout(counts, share, generator, also_shown)
