r"""Coupled oscillators over all bins as one differentiable operation.

A state is a complex number z per band and site j. One substep, with everything in units of it and
n(m, j) the site read from direction m, is for first-order oscillators (``FirstOrder`` of
:mod:`driftwave.inference.lattice_coefficients`)

.. math::
    f_j &= P^{own}_j z_j + \sum_m P_{mj} z_{n(m, j)} + u_j \\
    z'_j &= e^{i \theta_j} A(z_j, f_j)

where A is either :math:`w / \sqrt{d + c |w|^2}` of :math:`w = z + f` (the amplitude law) or
:math:`w / |w|` of :math:`w = z (1 + i\,\mathrm{Im}(\bar z f))` (unit modulus: f turns the phase
and no more), and for second-order oscillators (``SecondOrder``), with z = y + i v,

.. math::
    v'_j &= k_j v_j + g_j y_j
        - F \tanh\Big(P^{own}_j y_j + \sum_m P_{mj} y_{n(m, j)} + b_j\Big) + \mathrm{Im}\,u_j \\
    y'_j &= y_j - g_j v'_j + \mathrm{Re}\,u_j

The drive of a bin enters in equal shares in its substeps. On the CPU, forward and reverse scan run
in functions compiled by numba, in float32 or float64, and only the states after each bin are kept;
the reverse scan replays the substeps inside a bin. Gradients of the coefficients are summed over
trials and over stretches of 32 bins in float64, in an order that does not depend on the number of
threads; 16 trials in float32 (one in float64) share a thread. On any other device the same steps
run in torch operations under autograd, a loop over bins.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from driftwave.inference import lattice_kernels, lattice_kernels_second, lattice_scan_torch
from driftwave.inference.lattice_coefficients import Coefficients, SecondOrder, array
from driftwave.inference.lattice_lanes import lanes_of

# State entries (bins x trials x width) below which a second thread costs more than it saves.
THREAD_WORK = 200_000


def scan(
    start: Tensor, drive: Tensor, coefficients: Coefficients, index: Tensor, substeps: int
) -> Tensor:
    """States after each bin.

    Parameters
    ----------
    start : Tensor (trial, width)
        width = band x site x 2, the part (real, imaginary) running fastest.
    drive : Tensor (trial, bin, width)
    coefficients : FirstOrder or SecondOrder
        On the device and of the type of ``start``.
    index : Tensor of int64 (direction, site)
        The site read from each direction; any site where ``pull`` is zero.
    substeps : int
        In each bin.

    Returns
    -------
    Tensor (trial, bin, width)
    """
    if start.device.type != "cpu" or start.dtype not in (torch.float32, torch.float64):
        return lattice_scan_torch.scan(start, drive, coefficients, index, substeps)
    inputs = (start, drive, *coefficients.tensors)
    return _Scan.apply(coefficients, index, substeps, *inputs)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, coefficients, index, substeps, start, drive, *tensors):
        coefficients = coefficients.with_tensors([x.detach() for x in tensors])
        kernels = _kernels(coefficients)
        law, lanes = coefficients.law(array(index), substeps), lanes_of(array(start).dtype)
        states = torch.empty(drive.shape, dtype=start.dtype)
        arrays = [array(x) for x in (start.unsqueeze(1), drive, states)]
        blocks = -(-len(start) // lanes)
        _over_blocks(kernels.forward, (law, *arrays, lanes), blocks, drive.numel())
        ctx.save_for_backward(index, start, drive, states, *tensors)
        ctx.coefficients, ctx.substeps = coefficients, substeps
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, given):
        index, start, drive, states, *tensors = (x.detach() for x in ctx.saved_tensors)
        coefficients = ctx.coefficients.with_tensors(tensors)
        kernels, lanes = _kernels(coefficients), lanes_of(array(start).dtype)
        law, blocks = coefficients.law(array(index), ctx.substeps), -(-len(start) // lanes)
        to_start = torch.empty_like(start, memory_format=torch.contiguous_format)
        asked = ctx.needs_input_grad[4]
        to_drive = torch.empty(len(drive) if asked else 0, *drive.shape[1:], dtype=start.dtype)
        sums = kernels.Sums(*(np.zeros((blocks, count)) for count in coefficients.entries))
        both = start.unsqueeze(1), drive, states, given, to_start.unsqueeze(1), to_drive
        arrays = [array(x) for x in both]
        _over_blocks(kernels.backward, (law, *arrays, lanes, sums), blocks, drive.numel())
        to_tensors = (torch.from_numpy(x).to(start.dtype) for x in coefficients.gradients(sums))
        return (
            None,
            None,
            None,
            to_start,
            to_drive if asked else None,
            *to_tensors,
        )


def _kernels(coefficients: Coefficients) -> Any:
    return lattice_kernels_second if isinstance(coefficients, SecondOrder) else lattice_kernels


def _over_blocks(kernel: Any, arguments: tuple[Any, ...], blocks: int, work: int) -> None:
    """Share the blocks of trials among torch's number of threads; blocks do not interact."""
    threads = min(torch.get_num_threads(), blocks)
    if threads < 2 or work < THREAD_WORK:
        kernel(*arguments, 0, blocks)
        return
    edges = [blocks * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        parts = itertools.pairwise(edges)
        for done in [pool.submit(kernel, *arguments, *part) for part in parts]:
            done.result()
