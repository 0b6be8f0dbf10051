"""Forces in closed form, with what is needed to differentiate them by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClosedForce:
    r"""A force in closed form, with what is needed to differentiate it by hand.

    .. math::
        f(z, v) = b_0 - k z - \lambda (c^3 + 3 c^2 (z - c))
        + \sum_m B_m\, \phi(W_m \cdot [z, v] + b_m), \quad c = \mathrm{clip}(z, -r, r)

    Calling it gives the force (trial, latent) of positions and velocities (trial, latent).

    Attributes
    ----------
    inward, outward : Tensor (term, column)
        W and B. Without ``outward`` term m acts on latent m alone, with weight one.
    reads, writes : Tensor of int64 (term, column), optional
        Columns of W and B that ``inward`` and ``outward`` give, all others being zero; without
        them every column, in order. An index may occur twice if one of its weights is zero.
    bent : bool
        phi is tanh, or else the identity.
    offset : Tensor (term,), optional
    stiffness, quartic, bias : Tensor (latent,), optional
        k, lambda and b_0.
    reach : Tensor (latent,), optional
        r, wanted with ``quartic``; a constant.
    """

    inward: Tensor
    outward: Tensor | None = None
    reads: Tensor | None = None
    writes: Tensor | None = None
    bent: bool = False
    offset: Tensor | None = None
    stiffness: Tensor | None = None
    quartic: Tensor | None = None
    bias: Tensor | None = None
    reach: Tensor | None = None

    def __call__(self, position: Tensor, velocity: Tensor) -> Tensor:
        dense = self.dense(position.shape[-1])
        pull = torch.zeros_like(position) if self.bias is None else self.bias.expand_as(position)
        if self.stiffness is not None:
            pull = pull - self.stiffness * position
        if self.quartic is not None:
            pull = pull - self.quartic * quartic_slope(position, self.reach)
        if dense.inward is None:
            return pull
        reach = dense.argument(position, velocity)
        bent = torch.tanh(reach) if self.bent else reach
        return pull + (bent if dense.outward is None else bent @ dense.outward)

    def dense(self, latents: int) -> DenseForce:
        """W and B with all their columns, for matrix products."""
        terms = len(self.inward)
        if not terms:
            return DenseForce(None, None, None, None)
        wide = self.inward
        if self.reads is not None:
            wide = wide.new_zeros(terms, latents).scatter_add(1, self.reads, wide)
        outward = self.outward
        if outward is not None and self.writes is not None:
            outward = outward.new_zeros(terms, latents).scatter_add(1, self.writes, outward)
        by_velocity = wide[:, latents:] if wide.shape[1] > latents else None
        return DenseForce(wide[:, :latents], by_velocity, self.offset, outward)


class DenseForce(NamedTuple):
    """W split by position and velocity (term, latent), the offset, and B (term, latent)."""

    inward: Tensor | None
    by_velocity: Tensor | None
    offset: Tensor | None
    outward: Tensor | None

    def argument(self, position: Tensor, velocity: Tensor) -> Tensor:
        """``W [z, v] + b`` (..., term)."""
        assert self.inward is not None
        reach = position @ self.inward.T
        if self.by_velocity is not None:
            reach = reach + velocity @ self.by_velocity.T
        return reach if self.offset is None else reach + self.offset


def quartic_slope(position: Tensor, reach: Tensor | None) -> Tensor:
    """Derivative of z^4 / 4 that goes on linearly beyond ``reach``."""
    near = position if reach is None else position.clamp(-reach, reach)
    return near * near * (3 * position - 2 * near)
