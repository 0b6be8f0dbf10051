r"""The Wave-RNN and its twin without waves, as latent dynamics of a sequential VAE.

Wave-RNN (Keller et al. 2024, equation 2): activity :math:`h` on C rings of N sites,

.. math:: h_t = relu(w * h_{t-1} + b + B u_t),

with a circular convolution of three taps between and within rings, :math:`w` (C, C, 3). It starts
as a shift by one site per bin on each ring, :math:`h_t(c, j) = h_{t-1}(c, j - 1)`: what enters at a
site travels round the ring. The twin, the identity RNN of Le et al. 2015, has a dense matrix
:math:`U` in place of the convolution and starts as the identity: what enters stays where it is.

Both recursions are one differentiable operation with a written-out adjoint. On the CPU the ring
runs in functions compiled by numba, if that is installed; elsewhere as the dense recursion with the
convolution's matrix.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from driftwave.inference.sequential_vae import LatentDynamics

StartKind = Literal["shift", "identity"]


class RingDynamics(LatentDynamics):
    """Rings of rectified activity with a convolution of three taps.

    The state's flat index is ``channel * sites + site``.

    Parameters
    ----------
    channels, sites : int
        Number of rings and sites of each.
    start : {"shift", "identity"}
        What the convolution does before training: move activity one site per bin, or nothing.
    """

    def __init__(self, channels: int, sites: int, start: StartKind = "shift") -> None:
        super().__init__()
        self.channels, self.sites, self.width = channels, sites, channels * sites
        kernel = torch.zeros(channels, channels, 3)
        kernel[range(channels), range(channels), 0 if start == "shift" else 1] = 1.0
        self.kernel = nn.Parameter(kernel)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, start: Tensor, drive: Tensor) -> Tensor:
        """States (trial, bin, width)."""
        return ring_scan(start, drive, self.kernel, self.bias, self.sites)

    def start_from(self, free: Tensor) -> Tensor:
        """Activity is not negative."""
        return free.relu()


class IdentityDynamics(LatentDynamics):
    """Dense rectified recurrence that starts as the identity (Le et al. 2015, "IRNN").

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.eye(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, start: Tensor, drive: Tensor) -> Tensor:
        """States (trial, bin, width)."""
        return dense_scan(start, drive, self.weight, self.bias)

    def start_from(self, free: Tensor) -> Tensor:
        """Activity is not negative."""
        return free.relu()


def ring_matrix(kernel: Tensor, sites: int) -> Tensor:
    """The convolution (channel, channel, 3) as a matrix (width, width) on flat states."""
    channels = len(kernel)
    eye = torch.eye(sites, dtype=kernel.dtype, device=kernel.device)
    shifts = torch.stack([eye.roll(1, 0), eye, eye.roll(-1, 0)])
    matrix = torch.einsum("abk,kst->asbt", kernel, shifts)
    return matrix.reshape(channels * sites, channels * sites)


def dense_scan(start: Tensor, drive: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """h_t = relu(U h_{t-1} + b + drive_t).

    Parameters
    ----------
    start : Tensor (trial, width)
    drive : Tensor (trial, bin, width)
    weight : Tensor (width, width)
    bias : Tensor (width,)

    Returns
    -------
    Tensor (trial, bin, width)
    """
    driven = (drive + bias).transpose(0, 1)
    return _Dense.apply(start, driven, weight).transpose(0, 1)


def ring_scan(start: Tensor, drive: Tensor, kernel: Tensor, bias: Tensor, sites: int) -> Tensor:
    """h_t = relu(w * h_{t-1} + b + drive_t) on rings.

    Parameters
    ----------
    start : Tensor (trial, channel x site)
    drive : Tensor (trial, bin, channel x site)
    kernel : Tensor (channel to, channel from, 3)
        Weights of site j - 1, j and j + 1 in the next state of site j.
    bias : Tensor (channel,)
    sites : int

    Returns
    -------
    Tensor (trial, bin, channel x site)
    """
    if drive.device.type != "cpu" or _kernels() is None:
        spread = bias.repeat_interleave(sites)
        return dense_scan(start, drive, ring_matrix(kernel, sites), spread)
    rings = (len(kernel), sites)
    states = _Ring.apply(start.unflatten(-1, rings), drive.unflatten(-1, rings), kernel, bias)
    return states.flatten(-2)


@functools.cache
def _kernels() -> ModuleType | None:
    try:
        from driftwave.inference import ring_kernels
    except ImportError:
        return None
    return ring_kernels


class _Dense(torch.autograd.Function):
    """The dense recursion, bins first."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, driven: Tensor, weight: Tensor) -> Tensor:
        states = torch.empty_like(driven, memory_format=torch.contiguous_format)
        last, turned = start, weight.T.contiguous()
        for t, now in enumerate(driven.unbind()):
            last = torch.addmm(now, last, turned, out=states[t]).relu_()
        ctx.save_for_backward(start, states, weight)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        start, states, weight = ctx.saved_tensors
        alive = (states > 0).to(states.dtype)
        slopes = torch.empty_like(states)
        carried = torch.zeros_like(start)
        for t in range(len(states) - 1, -1, -1):
            torch.mul(carried.add_(given[t]), alive[t], out=slopes[t])
            carried = slopes[t] @ weight
        before = torch.cat([start[None], states[:-1]])
        return carried, slopes, slopes.flatten(0, 1).T @ before.flatten(0, 1)


class _Ring(torch.autograd.Function):
    """The ring recursion in compiled code, trials first."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, drive: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        states = torch.empty(drive.shape, dtype=drive.dtype)
        arrays = [_array(x) for x in (start, drive, kernel, bias)]
        _compiled().forward(*arrays, states.numpy())
        ctx.save_for_backward(start, kernel, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        start, kernel, states = ctx.saved_tensors
        to_start, to_drive = torch.empty(start.shape, dtype=start.dtype), torch.empty_like(states)
        to_kernel = torch.zeros_like(kernel, memory_format=torch.contiguous_format)
        arrays = [_array(x) for x in (start, kernel, states, given, to_start, to_drive, to_kernel)]
        _compiled().backward(*arrays)
        return to_start, to_drive, to_kernel, to_drive.sum((0, 1, 3))


def _compiled() -> ModuleType:
    found = _kernels()
    assert found is not None
    return found


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()
