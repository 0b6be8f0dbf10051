"""The Langevin scan and its adjoint in torch operations, for any device and type.

The forward scan writes into buffers of all bins. The reverse scan carries the adjoint of the state
only; the gradients of the parameters are one matrix product over all bins each, after it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from driftwave.inference.langevin_force import ClosedForce, DenseForce, quartic_slope
from driftwave.inference.langevin_scheme import Scheme


def forward(
    position: Tensor,
    velocity: Tensor,
    innovation: Tensor,
    keep: Tensor,
    spread: Tensor,
    force: ClosedForce,
    scheme: Scheme,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    bins, latents = len(innovation) + 1, position.shape[-1]
    positions, velocities = position.new_empty(2, bins, *position.shape).unbind()
    pulls = position.new_empty(bins if wanted else 1, *position.shape)
    positions[0], velocities[0] = position, velocity
    torch.mul(spread, innovation, out=velocities[1:])
    pull_into = _puller(force, force.dense(latents), position)
    pull_into(position, velocity, pulls[0])
    kicked = torch.empty_like(position)
    for t in range(1, bins):
        z, w = positions[t], velocities[t]
        before, pull = pulls[t - 1 if wanted else 0], pulls[t if wanted else 0]
        torch.add(velocities[t - 1], before, alpha=scheme.before, out=kicked)
        w.addcmul_(keep, kicked)
        torch.add(positions[t - 1], velocities[t - 1], alpha=scheme.old, out=z)
        if scheme.kicked:
            z.add_(kicked, alpha=scheme.kicked)
        if scheme.thermal:
            z.add_(w, alpha=scheme.thermal)
        pull_into(z, w, pull)
        if scheme.after:
            w.add_(pull, alpha=scheme.after)
    return positions, velocities, pulls


def _puller(
    force: ClosedForce, dense: DenseForce, like: Tensor
) -> Callable[[Tensor, Tensor, Tensor], None]:
    """The force as a function ``(position, velocity, out)`` that allocates as little as it can."""
    slack = None if force.stiffness is None else -force.stiffness
    work = like.new_empty(len(like), len(force.inward))
    inward = None if dense.inward is None else dense.inward.T.contiguous()
    by_velocity = None if dense.by_velocity is None else dense.by_velocity.T.contiguous()

    def pull_into(position: Tensor, velocity: Tensor, out: Tensor) -> None:
        if slack is None:
            out.zero_()
        else:
            torch.mul(position, slack, out=out)
        if force.bias is not None:
            out.add_(force.bias)
        if force.quartic is not None:
            out.addcmul_(force.quartic, quartic_slope(position, force.reach), value=-1)
        if inward is None:
            return
        if dense.offset is None:
            torch.mm(position, inward, out=work)
        else:
            torch.addmm(dense.offset, position, inward, out=work)
        if by_velocity is not None:
            work.addmm_(velocity, by_velocity)
        if force.bent:
            work.tanh_()
        if dense.outward is None:
            out.add_(work)
        else:
            out.addmm_(work, dense.outward)

    return pull_into


def backward(
    innovation: Tensor,
    keep: Tensor,
    spread: Tensor,
    force: ClosedForce,
    scheme: Scheme,
    path: tuple[Tensor, Tensor, Tensor],
    given: tuple[Tensor, Tensor],
    needs_noise: bool,
) -> tuple[Tensor | None, ...]:
    positions, velocities, pulls = path
    dense = force.dense(positions.shape[-1])
    # The force in the first bin reads v itself, in later bins w = v - c_2 p.
    speeds = torch.sub(velocities, pulls, alpha=scheme.after)
    speeds[0] = velocities[0]
    bent, slopes = _stacked_terms(force, dense, positions, speeds)
    curve = _curvature(force, positions)
    toward = torch.zeros_like(positions)
    thermal = torch.empty_like(innovation)
    to_position, to_velocity = given[0][-1].clone(), given[1][-1].clone()
    for t in range(len(positions) - 1, -1, -1):
        if t:
            toward[t].add_(to_velocity, alpha=scheme.after)
        if dense.inward is not None and slopes is not None:
            _terms_adjoint(dense, toward[t], slopes[t], force.bent, to_position, to_velocity)
        if curve is not None:
            to_position.addcmul_(curve if curve.dim() == 1 else curve[t], toward[t], value=-1)
        if t == 0:
            break
        torch.add(to_velocity, to_position, alpha=scheme.thermal, out=thermal[t - 1])
        torch.mul(keep, thermal[t - 1], out=to_velocity)
        if scheme.kicked:
            to_velocity.add_(to_position, alpha=scheme.kicked)
        torch.mul(to_velocity, scheme.before, out=toward[t - 1])
        if scheme.old:
            to_velocity.add_(to_position, alpha=scheme.old)
        to_position.add_(given[0][t - 1])
        to_velocity.add_(given[1][t - 1])
    kicked = torch.add(velocities[:-1], pulls[:-1], alpha=scheme.before)
    return (
        to_position,
        to_velocity,
        spread * thermal if needs_noise else None,
        (thermal * kicked).sum((0, 1)),
        (thermal * innovation).sum((0, 1)),
        *_term_gradients(force, positions, speeds, toward, bent, slopes),
        None if force.offset is None or slopes is None else slopes.sum((0, 1)),
        None if force.stiffness is None else -(positions * toward).sum((0, 1)),
        None
        if force.quartic is None
        else -(quartic_slope(positions, force.reach) * toward).sum((0, 1)),
        None if force.bias is None else toward.sum((0, 1)),
    )


def _stacked_terms(
    force: ClosedForce, dense: DenseForce, positions: Tensor, speeds: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """phi (time, trial, term), and its derivative in a buffer for the terms' adjoints."""
    if dense.inward is None:
        return None, None
    reach = dense.argument(positions, speeds)
    if not force.bent:
        return reach, torch.empty_like(reach)
    bent = reach.tanh_()
    return bent, torch.addcmul(torch.ones_like(bent), bent, bent, value=-1)


def _terms_adjoint(
    dense: DenseForce,
    toward: Tensor,
    slope: Tensor,
    bent: bool,
    to_position: Tensor,
    to_velocity: Tensor,
) -> None:
    """Turn ``slope`` (trial, term) into the adjoint of W y + b and pass it on to z and v."""
    assert dense.inward is not None
    felt = toward if dense.outward is None else toward @ dense.outward.T
    if bent:
        slope.mul_(felt)
    else:
        slope.copy_(felt)
    to_position.addmm_(slope, dense.inward)
    if dense.by_velocity is not None:
        to_velocity.addmm_(slope, dense.by_velocity)


def _curvature(force: ClosedForce, positions: Tensor) -> Tensor | None:
    """k + 3 lambda c^2: (latent,) or, with a quartic part, (time, trial, latent)."""
    if force.quartic is None:
        return force.stiffness
    near = positions if force.reach is None else positions.clamp(-force.reach, force.reach)
    curve = 3 * force.quartic * near**2
    return curve if force.stiffness is None else curve + force.stiffness


def _term_gradients(
    force: ClosedForce,
    positions: Tensor,
    speeds: Tensor,
    toward: Tensor,
    bent: Tensor | None,
    slopes: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of ``inward`` and ``outward``: one matrix product over all bins each."""
    if bent is None or slopes is None:
        return torch.zeros_like(force.inward), None
    latents = positions.shape[-1]
    back = slopes.flatten(0, 1).T
    inward = back @ positions.flatten(0, 1)
    if force.reads is not None:
        inward = inward.gather(1, force.reads)
    elif force.inward.shape[1] > latents:
        inward = torch.cat([inward, back @ speeds.flatten(0, 1)], 1)
    if force.outward is None:
        return inward, None
    outward = bent.flatten(0, 1).T @ toward.flatten(0, 1)
    return inward, outward if force.writes is None else outward.gather(1, force.writes)
