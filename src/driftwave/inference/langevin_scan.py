r"""Langevin dynamics over all bins as one differentiable operation.

One bin takes the state :math:`(z, v)` with force :math:`p = f(z, v)` to

.. math::
    k &= v + c_1 p \\
    w &= a k + s \xi \\
    z' &= z + \alpha v + \beta k + \gamma w \\
    p' &= f(z', w) \\
    v' &= w + c_2 p'

with constants :math:`(\alpha, \beta, \gamma, c_1, c_2)` of the scheme. The reverse scan is written
out: no graph is built over bins, and only z, v and p are kept for it. On the CPU in float32 it runs
in functions compiled by numba, if that is installed; otherwise, and on any other device or type, in
torch operations, with the parameters' gradients as one matrix product over all bins at the end.

Tolerance of float32 against float64 over 50 bins, relative to the largest entry: 2e-5 for the
paths, 1e-4 for the gradients (measured: 3e-6 and 4e-5 at most).
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from driftwave.inference import langevin_scan_torch
from driftwave.inference.langevin_force import ClosedForce
from driftwave.inference.langevin_scheme import Scheme

# Dense forces with more entries than this are faster as matrix products than lane by lane.
DENSE_ENTRIES = 4096


def scan(
    position: Tensor,
    velocity: Tensor,
    innovation: Tensor,
    keep: Tensor,
    spread: Tensor,
    force: ClosedForce,
    scheme: Scheme,
) -> tuple[Tensor, Tensor]:
    """Run the scheme over all bins.

    Parameters
    ----------
    position, velocity : Tensor (trial, latent)
        State in the first bin.
    innovation : Tensor (time - 1, trial, latent)
        Standard normal xi of each later bin.
    keep, spread : Tensor (latent,)
        a and s.
    force : ClosedForce
    scheme : Scheme

    Returns
    -------
    positions, velocities : Tensor (time, trial, latent)
    """
    inputs = (
        position,
        velocity,
        innovation,
        keep,
        spread,
        force.inward,
        force.outward,
        force.offset,
        force.stiffness,
        force.quartic,
        force.bias,
    )
    wanted = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    return _Scan.apply(force, scheme, wanted, *inputs)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, force, scheme, wanted, *inputs):
        parts = [None if x is None else x.detach() for x in inputs]
        force = _with_tensors(force, parts)
        run = backend(force, *parts).forward
        positions, velocities, pulls = run(*parts[:5], force, scheme, wanted)
        if wanted:
            ctx.save_for_backward(*inputs, positions, velocities, pulls)
            ctx.force, ctx.scheme = force, scheme
        return positions, velocities

    @staticmethod
    @once_differentiable
    def backward(ctx, to_positions, to_velocities):
        *inputs, positions, velocities, pulls = (
            None if x is None else x.detach() for x in ctx.saved_tensors
        )
        force = _with_tensors(ctx.force, inputs)
        run = backend(force, *inputs).backward
        given = (to_positions.contiguous(), to_velocities.contiguous())
        path = (positions, velocities, pulls)
        needs_noise = ctx.needs_input_grad[5]
        gradients = run(*inputs[2:5], force, ctx.scheme, path, given, needs_noise)
        kept = (
            g if need else None for g, need in zip(gradients, ctx.needs_input_grad[3:], strict=True)
        )
        return None, None, None, *kept


def _with_tensors(force: ClosedForce, parts: list[Any]) -> ClosedForce:
    inward, outward, offset, stiffness, quartic, bias = parts[5:]
    fixed = (force.reads, force.writes, force.bent)
    return ClosedForce(inward, outward, *fixed, offset, stiffness, quartic, bias, force.reach)


@functools.cache
def _compiled() -> ModuleType | None:
    try:
        from driftwave.inference import langevin_scan_compiled
    except ImportError:  # numba is optional
        return None
    return langevin_scan_compiled


def backend(force: ClosedForce, *tensors: Tensor | None) -> ModuleType:
    """The module whose ``forward`` and ``backward`` serve these tensors best."""
    if force.reads is None and force.inward.numel() > DENSE_ENTRIES:
        return langevin_scan_torch
    given = (x for x in tensors if x is not None)
    if any(x.device.type != "cpu" or x.dtype != torch.float32 for x in given):
        return langevin_scan_torch
    return _compiled() or langevin_scan_torch
