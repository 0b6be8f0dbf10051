r"""Underdamped Langevin dynamics of latents on a lattice of coupled oscillators.

Unit mass and temperature: :math:`dz = v\,dt`,
:math:`dv = -\nabla U(z)\,dt - \gamma v\,dt + \sqrt{2\gamma}\,dW`, with stationary law
:math:`\exp(-U(z) - v^2/2)` (Song et al. 2025, arXiv 2507.11531).
A latent's index is ``channel * sites + site``; potentials couple neighbouring sites only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from driftwave.inference.langevin_force import ClosedForce
from driftwave.inference.langevin_scan import scan
from driftwave.inference.langevin_scheme import Scheme

CHANNELS = 4
PotentialKind = Literal["learned", "quadratic", "quartic", "none"]
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
    force : ClosedForce or callable
        ``force(position, velocity)``. A :class:`ClosedForce` runs as one fused scan with its
        gradient written out, any other function bin by bin under autograd.
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
    if isinstance(force, ClosedForce):
        return scan(position, velocity, innovation, keep, spread, force, Scheme.baoab(dt))
    return baoab_by_steps(position, velocity, spread * innovation, force, keep, dt)


def baoab_by_steps(
    position: Tensor,
    velocity: Tensor,
    noise: Tensor,
    force: Force,
    keep: Tensor,
    dt: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """:func:`baoab` bin by bin for any force; ``noise`` is the innovation times its spread."""
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


@functools.cache
def neighbours(latents: int) -> tuple[Tensor, Tensor]:
    """Latents of a latent's own and its neighbouring sites, all channels.

    Returns
    -------
    Tensor of int64 (latent, neighbour)
        At the ends of the chain, where there are fewer, filled up with the latent itself.
    Tensor of 0 and 1 (latent, neighbour)
        Zero where filled up.
    """
    sites = latents // CHANNELS
    own = torch.arange(latents)[:, None]
    span = torch.arange(-1, 2) if sites > 2 else torch.arange(1 - sites, sites)
    site = (own % sites + span)[:, None].expand(-1, CHANNELS, -1)
    there = (site >= 0) & (site < sites)
    index = torch.arange(CHANNELS)[:, None] * sites + site
    index = torch.where(there, index, own[:, :, None])
    return index.flatten(1), there.flatten(1).float()


class LatticePotential(nn.Module):
    r"""Confining potential of locally coupled oscillators, with its gradient in closed form.

    .. math:: U(z) = \tfrac12 \sum_i \omega_i^2 z_i^2 + \sum_m u_m \log\cosh(w_m \cdot z + b_m)

    Each :math:`w_m` reads two neighbouring sites. The on-site stiffness outgrows the second sum,
    whose terms grow linearly, so U confines whatever is learned. ``quadratic`` replaces log cosh by
    :math:`x^2/2` with :math:`u_m \ge 0`; ``quartic`` adds :math:`\sum_i \lambda_i z_i^4 / 4` to
    that, :math:`\lambda_i > 0`, up to the reach :math:`r_i` and with constant curvature beyond.
    An explicit step of size dt is unstable where the curvature exceeds :math:`4/dt^2` and resonates
    with a quartic force near :math:`2/dt^2`, so the quartic part's own is held below a half:
    :math:`3 \lambda_i r_i^2 < 1/2`. The reach is three standard deviations of the oscillator that
    :math:`\omega_i` starts as.

    Parameters
    ----------
    latents : int
        A multiple of four (channels).
    kind : {"learned", "quadratic", "quartic", "none"}
        ``none`` leaves the latents free: no stiffness and no coupling.
    terms : int
        Number of terms of the second sum.
    """

    mask: Tensor
    reads: Tensor
    reach: Tensor

    def __init__(self, latents: int, kind: PotentialKind = "learned", terms: int = 64) -> None:
        super().__init__()
        self.kind = kind
        self.log_stiffness = nn.Parameter(2 * torch.linspace(0.05, 1.2, latents).log())
        self.direction = nn.Parameter(torch.randn(terms, latents) / math.sqrt(2 * CHANNELS))
        self.offset = nn.Parameter(0.1 * torch.randn(terms))
        self.weight = nn.Parameter(0.02 * torch.randn(terms))
        mask = bond_mask(latents, terms)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("reads", mask.nonzero()[:, 1].view(terms, -1), persistent=False)
        stiffness = self.log_stiffness.detach().exp()
        self.register_buffer("reach", 3 / stiffness.sqrt(), persistent=False)
        if kind == "quartic":
            self.hardening = nn.Parameter(torch.logit(stiffness.clamp(max=0.5)))

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Stiffness (latent,), masked directions (term, latent) and their weighted negative."""
        direction = self.direction * self.mask
        weight = self.weight if self.kind == "learned" else self.weight.abs()
        return self.log_stiffness.exp(), direction, -weight[:, None] * direction

    def quartic(self) -> Tensor | None:
        """lambda (latent,) of the quartic part, if there is one."""
        if self.kind != "quartic":
            return None
        return torch.sigmoid(self.hardening) / (6 * self.reach**2)

    def energy(self, position: Tensor) -> Tensor:
        """U (...,) of positions (..., latent)."""
        if self.kind == "none":
            return position.new_zeros(position.shape[:-1])
        stiffness, direction, _ = self.matrices()
        energy = 0.5 * (stiffness * position**2).sum(-1)
        if self.kind == "learned":
            reach = position @ direction.T + self.offset
            log_cosh = reach.abs() + torch.nn.functional.softplus(-2 * reach.abs()) - math.log(2)
            return energy + (self.weight * log_cosh).sum(-1)
        energy = energy + (0.5 * self.weight.abs() * (position @ direction.T) ** 2).sum(-1)
        quartic = self.quartic()
        if quartic is None:
            return energy
        near = position.clamp(-self.reach, self.reach)
        beyond = position - near
        steep = near**4 / 4 + near**3 * beyond + 1.5 * near**2 * beyond**2
        return energy + (quartic * steep).sum(-1)

    def force(self) -> ClosedForce:
        """The force ``-grad U`` of the present parameters."""
        if self.kind == "none":
            return ClosedForce(self.direction.new_zeros(0, 0))
        if self.kind != "learned":
            return self._linear_force()
        direction = self.direction.gather(1, self.reads)
        return ClosedForce(
            direction,
            -self.weight[:, None] * direction,
            self.reads,
            self.reads,
            bent=True,
            offset=self.offset,
            stiffness=self.log_stiffness.exp(),
        )

    def _linear_force(self) -> ClosedForce:
        stiffness, direction, back = self.matrices()
        reads, there = (x.to(direction.device) for x in neighbours(len(stiffness)))
        couplings = (back.T @ direction).gather(1, reads) * there.to(direction.dtype)
        return ClosedForce(
            couplings,
            reads=reads,
            stiffness=stiffness,
            quartic=self.quartic(),
            reach=self.reach if self.kind == "quartic" else None,
        )


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

    def force(self) -> ClosedForce:
        """The force as a function of position and velocity."""
        return ClosedForce(
            self.inward.weight,
            self.outward.weight.T,
            bent=True,
            offset=self.inward.bias,
            stiffness=self.log_stiffness.exp(),
            bias=self.outward.bias,
        )


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
    r"""The released step, all bins as one fused scan.

    :math:`z' = z + \epsilon v`, :math:`v' = v - \epsilon G z`,
    :math:`v'' = (1-\gamma) v' + \sqrt{2\gamma}\,\xi`. U is quadratic, so G is constant and the
    recursion needs no gradient taken inside the loop. A G that couples neighbouring sites only, as
    that of :func:`released_gradient`, costs twelve products per latent and gets a gradient for
    those couplings alone.

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
    latents = position.shape[-1]
    keep = position.new_full((latents,), 1.0 - friction)
    spread = position.new_full((latents,), math.sqrt(2 * friction))
    force = _released_force(gradient)
    positions, velocities = scan(
        position, velocity, noise, keep, spread, force, Scheme.released(step)
    )
    return positions, velocities, velocities[1:] - spread * noise


def _released_force(gradient: Tensor) -> ClosedForce:
    latents = len(gradient)
    if latents % CHANNELS:
        return ClosedForce(-gradient)
    reads, there = (x.to(gradient.device) for x in neighbours(latents))
    near = gradient.gather(1, reads) * there.to(gradient.dtype)
    if torch.count_nonzero(near) < torch.count_nonzero(gradient):
        return ClosedForce(-gradient)
    return ClosedForce(-near, reads=reads)
