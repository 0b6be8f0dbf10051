r"""Underdamped Langevin dynamics of latents on a lattice of coupled oscillators.

Unit mass and temperature: :math:`dz = v\,dt`,
:math:`dv = -\nabla U(z)\,dt - \gamma v\,dt + \sqrt{2\gamma}\,dW`, with stationary law
:math:`\exp(-U(z) - v^2/2)` (Song et al. 2025, arXiv 2507.11531).
A latent's index is ``channel * sites + site``; potentials couple neighbouring sites only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

CHANNELS = 4
PotentialKind = Literal["learned", "quadratic", "none"]
Force = Callable[[Tensor, Tensor], Tensor]


def ou_coefficients(friction: Tensor, dt: float) -> tuple[Tensor, Tensor]:
    r"""Exact Ornstein-Uhlenbeck step :math:`v \leftarrow a v + s \xi` over ``dt``.

    Returns
    -------
    a, s : Tensor
        :math:`a = e^{-\gamma dt}`, :math:`s = \sqrt{1 - a^2}`: the stationary variance is one.
    """
    return torch.exp(-friction * dt), torch.sqrt(-torch.expm1(-2 * friction * dt))


def baoab(
    position: Tensor,
    velocity: Tensor,
    innovation: Tensor,
    force: Force,
    friction: Tensor,
    dt: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Run the dynamics: half kick, half drift, exact OU step, half drift, half kick per bin.

    Parameters
    ----------
    position, velocity : Tensor (trial, latent)
        State in the first bin.
    innovation : Tensor (time - 1, trial, latent)
        Noise of each later bin, standard normal under the prior.
    force : callable
        ``force(position, velocity)``: a closed form; no autograd runs inside the loop.
    friction : Tensor (latent,)
        Per unit of ``dt``.
    dt : float
        Time step of one bin.

    Returns
    -------
    positions, velocities : Tensor (time, trial, latent)

    References
    ----------
    Leimkuhler and Matthews, Appl. Math. Res. Express 2013 (BAOAB).
    """
    keep, spread = ou_coefficients(friction, dt)
    noise = spread * innovation
    half = 0.5 * dt
    positions, velocities = [position], [velocity]
    pull = force(position, velocity)
    for bin_noise in noise.unbind(0):
        velocity = torch.add(velocity, pull, alpha=half)
        position = torch.add(position, velocity, alpha=half)
        velocity = torch.addcmul(bin_noise, keep, velocity)
        position = torch.add(position, velocity, alpha=half)
        pull = force(position, velocity)
        velocity = torch.add(velocity, pull, alpha=half)
        positions.append(position)
        velocities.append(velocity)
    return torch.stack(positions), torch.stack(velocities)


def bond_mask(latents: int, terms: int) -> Tensor:
    """Which latents each term of the potential reads: all channels of two neighbouring sites.

    Returns
    -------
    Tensor of 0 and 1 (term, latent)
        Terms take the bonds of the open chain in turn.
    """
    sites = latents // CHANNELS
    bond = torch.arange(terms) % max(1, sites - 1)
    site = torch.arange(latents) % sites
    return ((site == bond[:, None]) | (site == bond[:, None] + 1)).float()


class LatticePotential(nn.Module):
    r"""Confining potential of locally coupled oscillators, with its gradient in closed form.

    .. math:: U(z) = \tfrac12 \sum_i \omega_i^2 z_i^2 + \sum_m u_m \log\cosh(w_m \cdot z + b_m)

    Each :math:`w_m` reads two neighbouring sites. The on-site stiffness outgrows the second sum,
    whose terms grow linearly, so U confines whatever is learned. ``quadratic`` replaces log cosh by
    :math:`x^2/2` with :math:`u_m \ge 0`.

    Parameters
    ----------
    latents : int
        A multiple of four (channels).
    kind : {"learned", "quadratic", "none"}
        ``none`` leaves the latents free: no stiffness and no coupling.
    terms : int
        Number of terms of the second sum.
    """

    mask: Tensor

    def __init__(self, latents: int, kind: PotentialKind = "learned", terms: int = 64) -> None:
        super().__init__()
        self.kind = kind
        self.log_stiffness = nn.Parameter(2 * torch.linspace(0.05, 1.2, latents).log())
        self.direction = nn.Parameter(torch.randn(terms, latents) / math.sqrt(2 * CHANNELS))
        self.offset = nn.Parameter(0.1 * torch.randn(terms))
        self.weight = nn.Parameter(0.02 * torch.randn(terms))
        self.register_buffer("mask", bond_mask(latents, terms), persistent=False)

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Stiffness (latent,), masked directions (term, latent) and their weighted negative."""
        direction = self.direction * self.mask
        weight = self.weight.abs() if self.kind == "quadratic" else self.weight
        return self.log_stiffness.exp(), direction, -weight[:, None] * direction

    def energy(self, position: Tensor) -> Tensor:
        """U (...,) of positions (..., latent)."""
        if self.kind == "none":
            return position.new_zeros(position.shape[:-1])
        stiffness, direction, _ = self.matrices()
        confined = 0.5 * (stiffness * position**2).sum(-1)
        if self.kind == "quadratic":
            return confined + (0.5 * self.weight.abs() * (position @ direction.T) ** 2).sum(-1)
        reach = position @ direction.T + self.offset
        log_cosh = reach.abs() + torch.nn.functional.softplus(-2 * reach.abs()) - math.log(2)
        return confined + (self.weight * log_cosh).sum(-1)

    def force(self) -> Force:
        """The function ``-grad U``, with all that does not depend on the state computed once."""
        if self.kind == "none":
            return lambda position, _: torch.zeros_like(position)
        stiffness, direction, back = self.matrices()
        if self.kind == "quadratic":
            matrix = back.T @ direction - torch.diag(stiffness)
            return lambda position, _: position @ matrix
        across, offset = direction.T.contiguous(), self.offset

        def pull(position: Tensor, _: Tensor) -> Tensor:
            bent = torch.tanh(torch.addmm(offset, position, across))
            return torch.addmm(-stiffness * position, bent, back)

        return pull


class LearnedForce(nn.Module):
    """On-site stiffness plus a learned force F(z, v) that need not be a gradient.

    ``F = Linear(2 latents, terms) - tanh - Linear(terms, latents)`` with a small start. Such
    dynamics have no potential and no closed stationary law.
    """

    def __init__(self, latents: int, terms: int = 64) -> None:
        super().__init__()
        self.log_stiffness = nn.Parameter(2 * torch.linspace(0.05, 1.2, latents).log())
        self.inward = nn.Linear(2 * latents, terms)
        self.outward = nn.Linear(terms, latents)
        with torch.no_grad():
            self.outward.weight.mul_(0.1)
            self.outward.bias.zero_()

    def force(self) -> Force:
        """The force as a function of position and velocity."""
        stiffness = self.log_stiffness.exp()

        def pull(position: Tensor, velocity: Tensor) -> Tensor:
            bent = torch.tanh(self.inward(torch.cat([position, velocity], -1)))
            return self.outward(bent) - stiffness * position

        return pull


def released_gradient(kernel: Tensor, latents: int) -> Tensor:
    r"""Matrix G with :math:`\nabla U(z) = G z` for the released quadratic potential.

    With :math:`c = \mathrm{conv1d}(z, K)` (padding 1) over z reshaped to (channels, sites),
    :math:`U = \sum_{i,j,l} c_{il} z_{jl} = z^T M z`,
    :math:`M_{(jl),(j'l')} = \sum_i K_{ij',l'-l+1}` for neighbouring sites, and
    :math:`G = M + M^T`.

    Parameters
    ----------
    kernel : Tensor (channel, channel, 3)
        K, scaled to unit length over its last axis.
    latents : int

    Returns
    -------
    Tensor (latent, latent)
    """
    sites = latents // CHANNELS
    summed = kernel.sum(0)
    one = torch.ones(sites, device=kernel.device, dtype=kernel.dtype)
    shifts = torch.stack([torch.diag(one[: sites - abs(k)], k) for k in (-1, 0, 1)])
    rows = torch.einsum("ck,klm->lcm", summed, shifts)
    matrix = rows.reshape(1, sites, latents).expand(CHANNELS, -1, -1).reshape(latents, latents)
    return matrix + matrix.T


def released_recursion(
    position: Tensor,
    velocity: Tensor,
    noise: Tensor,
    gradient: Tensor,
    friction: float,
    step: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The released step, its gradient one matrix product per bin.

    :math:`z' = z + \epsilon v`, :math:`v' = v - \epsilon G z`,
    :math:`v'' = (1-\gamma) v' + \sqrt{2\gamma}\,\xi`. U is quadratic, so G is constant and the
    recursion needs no gradient taken inside the loop.

    Parameters
    ----------
    position, velocity : Tensor (trial, latent)
    noise : Tensor (time - 1, trial, latent)
        Standard normal.
    gradient : Tensor (latent, latent)
        G of :func:`released_gradient`.

    Returns
    -------
    positions, velocities : Tensor (time, trial, latent)
    means : Tensor (time - 1, trial, latent)
        Mean :math:`(1-\gamma) v'` of each velocity given the state before; its variance is
        :math:`2\gamma`.
    """
    keep = 1.0 - friction
    pull = -keep * step * gradient.T
    kicks = math.sqrt(2 * friction) * noise
    positions, velocities = [position], [velocity]
    for kick in kicks.unbind(0):
        drifted = torch.add(position, velocity, alpha=step)
        velocity = torch.addmm(torch.add(kick, velocity, alpha=keep), position, pull)
        position = drifted
        positions.append(position)
        velocities.append(velocity)
    path = torch.stack(velocities)
    return torch.stack(positions), path, path[1:] - kicks
