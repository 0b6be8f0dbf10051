"""Coupled oscillators bin by bin in torch operations: every device, gradients by autograd.

One bin costs some ten operations per substep, over trials, bands and sites at once; autograd keeps
what each of them needs. The equations are those of :mod:`driftwave.inference.lattice_scan`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from driftwave.inference.lattice_coefficients import Coefficients, FirstOrder, SecondOrder
from driftwave.inference.lattice_kernels import TINY


def scan(
    start: Tensor, drive: Tensor, coefficients: Coefficients, index: Tensor, substeps: int
) -> Tensor:
    """As :func:`driftwave.inference.lattice_scan.scan`."""
    shape = (*coefficients.own.shape[-2:], 2)
    state = start.unflatten(-1, shape).unbind(-1)
    states = []
    for enters in (drive / substeps).unflatten(-1, shape).unbind(1):
        for _ in range(substeps):
            state = _step(state, enters.unbind(-1), coefficients, index)
        states.append(torch.stack(state, -1))
    return torch.stack(states, 1).flatten(2)


def _read(values: Tensor, pull: Tensor, index: Tensor) -> Tensor:
    """Sum over directions of the neighbours' values (trial, band, site), weighted."""
    return (values[..., index] * pull).sum(-2)


def _step(
    state: tuple[Tensor, ...],
    drive: tuple[Tensor, ...],
    coefficients: Coefficients,
    index: Tensor,
) -> tuple[Tensor, Tensor]:
    if isinstance(coefficients, SecondOrder):
        return _second_order(state, drive, coefficients, index)
    return _first_order(state, drive, coefficients, index)


def _first_order(
    state: tuple[Tensor, ...],
    drive: tuple[Tensor, ...],
    coefficients: FirstOrder,
    index: Tensor,
) -> tuple[Tensor, Tensor]:
    (re, im), (pull_re, pull_im), (own_re, own_im) = state, coefficients.pull, coefficients.own
    push_re = own_re * re - own_im * im + drive[0]
    push_re = push_re + _read(re, pull_re, index) - _read(im, pull_im, index)
    push_im = own_re * im + own_im * re + drive[1]
    push_im = push_im + _read(im, pull_re, index) + _read(re, pull_im, index)
    if coefficients.phases:
        turn = re * push_im - im * push_re
        re, im = re - turn * im, im + turn * re
        scale = torch.rsqrt(re**2 + im**2 + TINY)
    else:
        re, im = re + push_re, im + push_im
        scale = torch.rsqrt(
            coefficients.decay[:, None] + coefficients.bend[:, None] * (re**2 + im**2)
        )
    cos, sin = coefficients.turn.cos() * scale, coefficients.turn.sin() * scale
    return cos * re - sin * im, cos * im + sin * re


def _second_order(
    state: tuple[Tensor, ...],
    drive: tuple[Tensor, ...],
    coefficients: SecondOrder,
    index: Tensor,
) -> tuple[Tensor, Tensor]:
    y, v = state
    reads = coefficients.own * y + _read(y, coefficients.pull, index) + coefficients.bias
    bent = coefficients.force[:, None] * torch.tanh(reads)
    v = coefficients.keep * v + coefficients.spring * y - bent + drive[1]
    return y - coefficients.spring * v + drive[0], v
