r"""Gated recurrent units over many bins with their gradients in closed form.

Autograd through a Python loop keeps a node for every small operation of every bin. Here the
backward loop has two products and a few elementwise operations per cell and bin.

A cell is (Cho et al. 2014, in the arrangement of ``torch.nn.GRU``), for an input drive
:math:`a = (a^r, a^z, a^n)` and :math:`(b^r, b^z, b^n) = U h_{t-1} + b`:

.. math::
    r = \sigma(a^r + b^r),\quad z = \sigma(a^z + b^z),\quad n = \tanh(a^n + r b^n),\quad
    h_t = (1 - z) n + z h_{t-1}
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Cell:
    """One cell over all bins: its states and gates, and the gradients of its weights.

    Drives and their gradients run in the order (n, r, z), recurrent products in (r, z, n): with
    the four gradients kept as (n, r, z, recurrent part of n), each of the two is one slice.

    Several cells of one size run side by side if every array has a leading dim for them: small
    products and operations cost more to start than to do.
    """

    def __init__(self, start: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.size = start.shape[-1]
        self.weight, self.bias = weight, bias
        self._bias_row = bias.unsqueeze(-2)
        self._transposed = weight.mT
        self.add_product = torch.addmm if start.ndim == 2 else torch.baddbmm
        # One small array per bin: large ones would be new memory, and page faults, every time.
        self.states = [start]
        self._recurrent: list[Tensor] = []
        self._gates: list[Tensor] = []
        self._candidates: list[Tensor] = []

    def step(self, drive: Tensor) -> Tensor:
        """State after the next bin, for its input drive (..., trial, 3 size)."""
        before, size = self.states[-1], self.size
        recurrent = self.add_product(self._bias_row, before, self._transposed)
        gates = torch.add(recurrent[..., : 2 * size], drive[..., size:]).sigmoid_()
        candidate = torch.addcmul(
            drive[..., :size], gates[..., :size], recurrent[..., 2 * size :]
        ).tanh_()
        after = torch.lerp(candidate, before, gates[..., size:])
        self.states.append(after)
        self._recurrent.append(recurrent)
        self._gates.append(gates)
        self._candidates.append(candidate)
        return after

    def start_backward(self) -> None:
        """Room for the gradients of one bin and of the weights."""
        state, size = self.states[0], self.size
        self._gradient = state.new_empty(*state.shape[:-1], 4 * size)
        self._scaled = state.new_empty(*state.shape[:-1], 2 * size)
        self._kept, self._rest = torch.empty_like(state), torch.empty_like(state)
        self.of_weight, self.of_bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def step_back(self, bin_: int, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the state before the bin and of the drive (..., trial, 3 size).

        The latter is a view that the next call overwrites.
        """
        size, all_four = self.size, self._gradient
        before, candidate = self.states[bin_], self._candidates[bin_]
        gates, inner = self._gates[bin_], self._recurrent[bin_][..., 2 * size :]
        kept = torch.mul(gradient, gates[..., size:], out=self._kept)
        of_candidate = all_four[..., :size]
        torch.ops.aten.tanh_backward.grad_input(
            torch.sub(gradient, kept, out=self._rest), candidate, grad_input=of_candidate
        )
        torch.mul(of_candidate, gates[..., :size], out=all_four[..., 3 * size :])
        torch.mul(of_candidate, inner, out=self._scaled[..., :size])
        rest = torch.sub(before, candidate, out=self._rest)
        torch.mul(gradient, rest, out=self._scaled[..., size:])
        torch.ops.aten.sigmoid_backward.grad_input(
            self._scaled, gates, grad_input=all_four[..., size : 3 * size]
        )
        of_recurrent = all_four[..., size:]
        of_weight = self.of_weight
        self.add_product(of_weight, of_recurrent.mT, before, out=of_weight)
        self.of_bias += of_recurrent.sum(-2)
        return self.add_product(kept, of_recurrent, self.weight), all_four[..., : 3 * size]


class _Scan(torch.autograd.Function):
    """Cells over all bins; see :func:`gru_scan`."""

    @staticmethod
    def forward(
        ctx: Any,
        sequence: Tensor,
        start: Tensor,
        input_weight: Tensor,
        input_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        cell = _Cell(start, weight, bias)
        row, inward = input_bias.unsqueeze(-2), input_weight.mT
        for now in sequence.unbind():
            cell.step(cell.add_product(row, now, inward))
        ctx.cell = cell
        ctx.save_for_backward(sequence, input_weight)
        return torch.stack(cell.states[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cell = ctx.cell
        sequence, input_weight = ctx.saved_tensors
        cell.start_backward()
        carried = torch.zeros_like(cell.states[0])
        of_sequence = torch.empty_like(sequence) if ctx.needs_input_grad[0] else None
        of_input_weight = torch.zeros_like(input_weight)
        of_input_bias = torch.zeros_like(cell.of_bias)
        for bin_ in reversed(range(len(gradient))):
            carried, of_drive = cell.step_back(bin_, carried + gradient[bin_])
            cell.add_product(of_input_weight, of_drive.mT, sequence[bin_], out=of_input_weight)
            of_input_bias += of_drive.sum(-2)
            if of_sequence is not None:
                torch.matmul(of_drive, input_weight, out=of_sequence[bin_])
        return of_sequence, carried, of_input_weight, of_input_bias, cell.of_weight, cell.of_bias


def gru_scan(
    sequence: Tensor,
    start: Tensor,
    input_weight: Tensor,
    input_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    """States of one cell, or of several side by side, over all bins.

    Parameters
    ----------
    sequence : Tensor (bin, [cell,] trial, feature)
    start : Tensor ([cell,] trial, size)
    input_weight, input_bias : Tensor ([cell,] 3 size, feature), ([cell,] 3 size)
        Rows in the order (n, r, z).
    weight, bias : Tensor ([cell,] 3 size, size), ([cell,] 3 size)
        Recurrent weights, rows in the order (r, z, n), as ``weight_hh_l0`` of ``torch.nn.GRU``.

    Returns
    -------
    Tensor (bin, [cell,] trial, size)
    """
    return _Scan.apply(sequence, start, input_weight, input_bias, weight, bias)


class Bidirectional(nn.Module):
    """Bidirectional GRUs of one size that read the same sequence, all run side by side.

    Parameters
    ----------
    inputs, size : int
        Features of the sequence, and units of each cell.
    count : int
        Number of bidirectional GRUs.
    """

    def __init__(self, inputs: int, size: int, count: int) -> None:
        super().__init__()
        self.size = size
        bound = size**-0.5

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(2 * count, 3 * size, *shape).uniform_(-bound, bound))

        self.input_weight, self.input_bias = drawn(inputs), drawn()
        self.weight, self.bias = drawn(size), drawn()

    def forward(self, sequence: Tensor) -> Tensor:
        """States (direction, bin, GRU, trial, size) for a sequence (trial, bin, feature).

        Both directions are in the order of the bins: the second has read all of the trial at
        bin 0.
        """
        there = sequence.transpose(0, 1)
        cells, trials = len(self.weight), len(sequence)
        both = torch.stack([there, there.flip(0)], 1)
        both = both.repeat_interleave(cells // 2, 1)
        start = sequence.new_zeros(cells, trials, self.size)
        states = gru_scan(both, start, self.input_weight, self.input_bias, self.weight, self.bias)
        forth, back = states.chunk(2, 1)
        return torch.stack([forth, back.flip(0)])


class _Controlled(torch.autograd.Function):
    """Controller and generator in a loop; see :func:`controlled_scan`."""

    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        noise: Tensor,
        control_start: Tensor,
        control_weight: Tensor,
        control_bias: Tensor,
        feedback: Tensor,
        posterior_weight: Tensor,
        posterior_bias: Tensor,
        start: Tensor,
        weight: Tensor,
        bias: Tensor,
        input_weight: Tensor,
        input_bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        controller = _Cell(control_start, control_weight, control_bias)
        generator = _Cell(start, weight, bias)
        laws, inputs = [], []
        back, out, inward = feedback.T, posterior_weight.T, input_weight.T
        state = start
        for now, standard in zip(drive.unbind(), noise.unbind(), strict=True):
            control = controller.step(torch.addmm(now, state, back))
            laws.append(torch.addmm(posterior_bias, control, out))
            mean, log_variance = laws[-1].chunk(2, -1)
            inputs.append(torch.addcmul(mean, torch.exp(0.5 * log_variance), standard))
            state = generator.step(torch.addmm(input_bias, inputs[-1], inward))
        ctx.cells = controller, generator
        posterior, drawn = torch.stack(laws), torch.stack(inputs)
        ctx.save_for_backward(feedback, posterior_weight, input_weight, noise, posterior, drawn)
        return torch.stack(generator.states[1:]), posterior, drawn

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_states: Tensor, of_posterior: Tensor, of_inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        controller, generator = ctx.cells
        feedback, posterior_weight, input_weight, noise, posterior, inputs = ctx.saved_tensors
        controller.start_backward()
        generator.start_backward()
        spread = 0.5 * noise * torch.exp(0.5 * posterior.chunk(2, -1)[1])
        of_law = of_posterior.clone()
        carried = torch.zeros_like(generator.states[0])
        control = torch.zeros_like(controller.states[0])
        of_feedback, of_inward = torch.zeros_like(feedback), torch.zeros_like(input_weight)
        of_input_bias = input_weight.new_zeros(len(input_weight))
        bins, trials = noise.shape[:2]
        drive = noise.new_empty(bins, trials, 3 * controller.size)
        for bin_ in reversed(range(bins)):
            carried, inner = generator.step_back(bin_, carried + of_states[bin_])
            of_inward.addmm_(inner.T, inputs[bin_])
            of_input_bias += inner.sum(0)
            drawn = torch.addmm(of_inputs[bin_], inner, input_weight)
            law = of_law[bin_]
            law += torch.cat([drawn, drawn * spread[bin_]], -1)
            control = torch.addmm(control, law, posterior_weight)
            control, drive[bin_] = controller.step_back(bin_, control)
            of_feedback.addmm_(drive[bin_].T, generator.states[bin_])
            carried = torch.addmm(carried, drive[bin_], feedback)
        of_law = of_law.flatten(0, 1)
        return (
            drive,
            None,
            control,
            controller.of_weight,
            controller.of_bias,
            of_feedback,
            of_law.T @ torch.cat(controller.states[1:]),
            of_law.sum(0),
            carried,
            generator.of_weight,
            generator.of_bias,
            of_inward,
            of_input_bias,
        )


def controlled_scan(
    drive: Tensor,
    noise: Tensor,
    *,
    control_start: Tensor,
    control_weight: Tensor,
    control_bias: Tensor,
    feedback: Tensor,
    posterior_weight: Tensor,
    posterior_bias: Tensor,
    start: Tensor,
    weight: Tensor,
    bias: Tensor,
    input_weight: Tensor,
    input_bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Controller and generator over all bins, each fed by the other.

    In bin t, with cells as above: :math:`c_t = \mathrm{GRU}(e_t + F g_{t-1}, c_{t-1})`,
    :math:`(m_t, \log s_t^2) = P c_t + p`, :math:`u_t = m_t + s_t \epsilon_t` and
    :math:`g_t = \mathrm{GRU}(W u_t + w, g_{t-1})`.

    Parameters
    ----------
    drive : Tensor (bin, trial, 3 control)
        e, input bias included; drives, and so the rows of F, W and w, in the order (n, r, z).
    noise : Tensor (bin, trial, input)
        :math:`\epsilon`, standard normal; it gets no gradient.
    control_start : Tensor (trial, control)
    control_weight, control_bias : Tensor (3 control, control), (3 control,)
        Recurrent weights of the controller, in the order (r, z, n).
    feedback : Tensor (3 control, generator)
        F: from generator states (through the factors) to the controller's drive.
    posterior_weight, posterior_bias : Tensor (2 input, control), (2 input,)
        P, p.
    start : Tensor (trial, generator)
        :math:`g_0`.
    weight, bias : Tensor (3 generator, generator), (3 generator,)
        Recurrent weights of the generator, in the order (r, z, n).
    input_weight, input_bias : Tensor (3 generator, input), (3 generator,)
        W, w.

    Returns
    -------
    states : Tensor (bin, trial, generator)
    posterior : Tensor (bin, trial, 2 input)
        Mean and log variance of the inputs.
    inputs : Tensor (bin, trial, input)
    """
    return _Controlled.apply(
        drive,
        noise,
        control_start,
        control_weight,
        control_bias,
        feedback,
        posterior_weight,
        posterior_bias,
        start,
        weight,
        bias,
        input_weight,
        input_bias,
    )
