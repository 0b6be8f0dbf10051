"""LangevinFlow's recursions and encoder written bin by bin, as one would at first."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwave.inference import langevin_networks
from driftwave.inference.langevin import (
    Force,
    LatticePotential,
    LearnedForce,
    baoab_by_steps,
    ou_coefficients,
)


def autograd_force(energy: Callable[[Tensor], Tensor]) -> Force:
    """-grad U taken by autograd with a graph, as the reference does at every bin."""

    def force(position: Tensor, _: Tensor) -> Tensor:
        with torch.enable_grad():
            place = position if position.requires_grad else position.detach().requires_grad_()
            return -torch.autograd.grad(energy(place).sum(), place, create_graph=True)[0]

    return force


def closed_force(module: LatticePotential | LearnedForce) -> Force:
    """The closed form in dense matrices, differentiated by autograd through every bin."""
    if isinstance(module, LearnedForce):
        stiffness = module.log_stiffness.exp()

        def learned(position: Tensor, velocity: Tensor) -> Tensor:
            bent = torch.tanh(module.inward(torch.cat([position, velocity], -1)))
            return module.outward(bent) - stiffness * position

        return learned
    stiffness, direction, back = module.matrices()
    across = direction.T.contiguous()

    def pull(position: Tensor, _: Tensor) -> Tensor:
        bent = torch.tanh(torch.addmm(module.offset, position, across))
        return torch.addmm(-stiffness * position, bent, back)

    return pull


def plain_baoab(
    position: Tensor, velocity: Tensor, innovation: Tensor, force: Force, friction: Tensor
) -> tuple[Tensor, Tensor]:
    """BAOAB bin by bin under autograd."""
    keep, spread = ou_coefficients(friction, 1.0)
    return baoab_by_steps(position, velocity, spread * innovation, force, keep)


def plain_released(
    position: Tensor,
    velocity: Tensor,
    noise: Tensor,
    kernel: Tensor,
    friction: float,
    step: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor]:
    """The released recursion with the gradient of its conv1d energy taken inside the loop."""

    def energy(place: Tensor) -> Tensor:
        lattice = place.reshape(len(place), 4, -1)
        c = functional.conv1d(lattice, kernel, padding=1)
        return c.bmm(lattice.transpose(1, 2)).sum((1, 2))

    force = autograd_force(energy)
    positions, velocities, means = [position], [velocity], []
    for kick in noise:
        pull = force(position, velocity)
        means.append((1 - friction) * (velocity + step * pull))
        position = position + step * velocity
        velocity = means[-1] + math.sqrt(2 * friction) * kick
        positions.append(position)
        velocities.append(velocity)
    return torch.stack(positions), torch.stack(velocities), torch.stack(means)


class StepGRU(nn.Module):
    """A GRU, one or both directions, as a loop over bins of a cell."""

    def __init__(self, fused: nn.GRU) -> None:
        super().__init__()
        names = ["", "_reverse"][: 1 + fused.bidirectional]
        self.cells = nn.ModuleList()
        for name in names:
            cell = nn.GRUCell(fused.input_size, fused.hidden_size)
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, part).data.copy_(getattr(fused, f"{part}_l0{name}").data)
            self.cells.append(cell)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """States (trial, time, hidden) and last states (direction, trial, hidden)."""
        whole, last = [], []
        for reverse, cell in enumerate(self.cells):
            state = inputs.new_zeros(len(inputs), cell.hidden_size)
            states = []
            for x in (inputs.flip(1) if reverse else inputs).unbind(1):
                state = cell(x, state)
                states.append(state)
            whole.append(torch.stack(states[::-1] if reverse else states, 1))
            last.append(state)
        return torch.cat(whole, -1), torch.stack(last)


def make_plain(network: nn.Module) -> None:
    """Turn a network into its step-by-step version: encoder, recursion and its force."""
    network.encoder = StepGRU(network.encoder)
    if hasattr(network, "kernel"):

        def recursion(z: Tensor, v: Tensor, noise: Tensor, _: Tensor, *rest: float):
            kernel = functional.normalize(network.kernel, dim=-1)
            return plain_released(z, v, noise, kernel, *rest)

        langevin_networks.released_recursion = recursion
        return
    energy = network.dynamics.energy
    langevin_networks.baoab = lambda z, v, innovation, _, friction: plain_baoab(
        z, v, innovation, autograd_force(energy), friction
    )
