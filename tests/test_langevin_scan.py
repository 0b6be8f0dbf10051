"""The fused Langevin scan: hand-written gradients, compiled kernels, choice of the backend."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from driftwave.inference import langevin_scan, langevin_scan_torch
from driftwave.inference.langevin import (
    LatticePotential,
    LearnedForce,
    baoab,
    baoab_by_steps,
    neighbours,
    ou_coefficients,
    released_gradient,
    released_recursion,
)
from driftwave.inference.langevin_force import ClosedForce
from driftwave.inference.langevin_scheme import Scheme

KINDS = ["learned", "quadratic", "quartic", "none", "force"]
FORWARD_TOLERANCE = 2e-5
GRADIENT_TOLERANCE = 1e-4
compiled = pytest.mark.skipif(langevin_scan._compiled() is None, reason="needs numba")


def dynamics(kind: str, latents: int = 8, terms: int = 10) -> LatticePotential | LearnedForce:
    torch.manual_seed(0)
    if kind == "force":
        module = LearnedForce(latents, terms)
        with torch.no_grad():
            module.outward.weight.normal_(0, 0.1)
            module.outward.bias.normal_(0, 0.1)
        return module
    module = LatticePotential(latents, kind, terms)
    with torch.no_grad():
        module.weight.normal_(0, 0.2)
    return module


def states(bins: int, trials: int, latents: int, scale: float = 1.0) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(1)
    shapes = [(trials, latents), (trials, latents), (bins - 1, trials, latents)]
    return [scale * torch.randn(shape, generator=drawn, dtype=torch.float64) for shape in shapes]


def run(module, inputs: list[Tensor], *, by_steps: bool = False) -> list[Tensor]:
    """Both paths, then the gradients of a scalar of them by inputs, friction and parameters."""
    module.zero_grad()
    dtype, latents = inputs[0].dtype, inputs[0].shape[-1]
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    friction = torch.linspace(0.05, 0.9, latents, dtype=dtype).requires_grad_()
    z, v, innovation = leaves
    if by_steps:
        keep, spread = ou_coefficients(friction, 1.0)
        path = baoab_by_steps(z, v, spread * innovation, module.force(), keep)
    else:
        path = baoab(z, v, innovation, module.force(), friction)
    weight = torch.linspace(-1, 1, path[0].numel(), dtype=dtype).view_as(path[0])
    parameters = [friction, *(p for p in module.parameters())]
    (weight * path[0] + weight.flip(0) * path[1] ** 2).sum().backward()
    zero = torch.zeros((), dtype=dtype)
    return [x.detach() for x in path] + [
        zero if x.grad is None else x.grad.clone() for x in (*leaves, *parameters)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_finite_differences(kind: str):
    """torch.autograd.gradcheck in float64, through state, noise, friction and every parameter."""
    module = dynamics(kind, 4, 3).double()
    if kind == "quartic":
        module.reach.fill_(0.8)  # states on both sides of the reach
    names = [name for name, _ in module.named_parameters()]
    inputs = [x.requires_grad_() for x in states(4, 3, 4)]
    friction = torch.linspace(0.1, 0.6, 4, dtype=torch.float64).requires_grad_()
    values = [p.detach().clone().requires_grad_() for p in module.parameters()]

    def of(z, v, innovation, friction, *parameters):
        def path(_):
            return baoab(z, v, innovation, module.force(), friction, 0.7)

        stacked = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(_Caller(module, path), prefixed(stacked), (None,))

    assert torch.autograd.gradcheck(of, (*inputs, friction, *values))


class _Caller(torch.nn.Module):
    def __init__(self, module, function) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, x):
        return self.function(x)


def prefixed(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in parameters.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_scan_equals_plain_steps_under_autograd(kind: str):
    module = dynamics(kind).double()
    inputs = states(30, 7, 8)
    fused, plain = run(module, inputs), run(module, inputs, by_steps=True)
    for ours, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def far_apart(found: Tensor, reference: Tensor) -> float:
    return float((found - reference).abs().max() / reference.abs().max().clamp_min(1e-30))


@compiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("trials", "latents"), [(5, 8), (16, 16), (37, 20), (31, 16)])
def test_compiled_float32_keeps_the_stated_tolerance(kind: str, trials: int, latents: int):
    """50 bins in float32 against float64: paths to 2e-5, gradients to 1e-4 of the largest."""
    module = dynamics(kind, latents, 24)
    inputs = states(50, trials, latents)
    exact = run(dynamics(kind, latents, 24).double(), inputs)
    inputs = [x.float() for x in inputs]
    tensors = [*inputs, *module.parameters()]
    assert langevin_scan.backend(module.force(), *tensors) is langevin_scan._compiled()
    found = run(module, inputs)
    for i, (ours, theirs) in enumerate(zip(found, exact, strict=True)):
        assert ours.dtype == torch.float32
        limit = FORWARD_TOLERANCE if i < 2 else GRADIENT_TOLERANCE
        assert far_apart(ours.double(), theirs) < limit, i


@compiled
@pytest.mark.parametrize("kind", ["learned", "quartic", "force"])
def test_without_numba_the_results_are_the_same(kind: str, monkeypatch: pytest.MonkeyPatch):
    module = dynamics(kind)
    inputs = [x.float() for x in states(20, 18, 8)]
    fast = run(module, inputs)
    monkeypatch.setattr(langevin_scan, "_compiled", lambda: None)
    assert langevin_scan.backend(module.force(), *inputs) is langevin_scan_torch
    slow = run(module, inputs)
    for i, (ours, theirs) in enumerate(zip(fast, slow, strict=True)):
        limit = FORWARD_TOLERANCE if i < 2 else GRADIENT_TOLERANCE
        assert far_apart(ours, theirs) < limit, i


def test_other_types_devices_and_large_dense_forces_run_in_torch():
    force, z = dynamics("learned").force(), torch.zeros(2, 8)
    assert langevin_scan.backend(force, z.double()) is langevin_scan_torch
    assert langevin_scan.backend(force, z.to("meta")) is langevin_scan_torch
    wide = LearnedForce(280).force()
    assert langevin_scan.backend(wide, torch.zeros(2, 280)) is langevin_scan_torch


@compiled
def test_compiled_tanh_is_accurate_to_float32():
    z = torch.linspace(-12, 12, 40_000).reshape(-1, 16)
    force = ClosedForce(torch.eye(16), bent=True)
    one = torch.ones(16)
    run_compiled = langevin_scan._compiled().forward
    pulls = run_compiled(z, z, z.new_zeros(0, *z.shape), one, one, force, Scheme.baoab(1.0), True)[
        2
    ]
    found = pulls[0].double().numpy()
    assert np.abs(found - np.tanh(z.double().numpy())).max() < 4e-7


@compiled
def test_a_diverging_trial_shows_and_leaves_the_others_alone():
    module = dynamics("learned", 16)
    inputs = [x.float() for x in states(10, 20, 16)]
    good = baoab(*inputs, module.force(), torch.full((16,), 0.1))
    inputs[0][3, 5] = math.nan
    inputs[2][4, 7, 2] = math.inf
    z, v = baoab(*inputs, module.force(), torch.full((16,), 0.1))
    assert not torch.isfinite(z[1:, 3, 5]).any()
    assert not torch.isfinite(z[5:, 7, 2]).any()
    others = [i for i in range(20) if i not in (3, 7)]
    assert torch.equal(z[:, others], good[0][:, others])
    assert torch.equal(v[:, others], good[1][:, others])


@compiled
def test_number_of_threads_changes_no_bit():
    module, before = dynamics("learned", 16), torch.get_num_threads()
    inputs = [x.float() for x in states(60, 300, 16)]
    single = run(module, inputs)
    torch.set_num_threads(2)
    try:
        double = run(module, inputs)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(single, double, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gradient_is_kept_that_nobody_asked_for(dtype: torch.dtype):
    module = dynamics("learned").to(dtype)
    z, v, innovation = (x.to(dtype) for x in states(6, 3, 8))
    friction = torch.full((8,), 0.2, dtype=dtype)
    with torch.no_grad():
        assert baoab(z, v, innovation, module.force(), friction)[0].grad_fn is None
    path = baoab(z, v, innovation, module.force(), friction)[0]
    path.sum().backward()
    assert z.grad is None
    assert innovation.grad is None
    assert module.direction.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_bin_is_the_first_state(dtype: torch.dtype):
    z, v, innovation = (x.to(dtype) for x in states(1, 3, 8))
    module = dynamics("learned").to(dtype)
    positions, velocities = baoab(z, v, innovation, module.force(), torch.ones(8, dtype=dtype))
    assert torch.equal(positions, z[None])
    assert torch.equal(velocities, v[None])


@pytest.mark.parametrize("sites", [1, 2, 3, 7])
def test_neighbours_are_the_latents_of_adjacent_sites(sites: int):
    index, there = neighbours(4 * sites)
    dense = torch.zeros(4 * sites, 4 * sites).scatter_add(1, index, there)
    site = torch.arange(4 * sites) % sites
    expected = ((site[:, None] - site[None]).abs() <= 1).float()
    torch.testing.assert_close(dense, expected)


def released_by_steps(z, v, noise, gradient, friction, step):
    positions, velocities, means = [z], [v], []
    for xi in noise:
        means.append((1 - friction) * (v - step * z @ gradient.T))
        z, v = z + step * v, means[-1] + math.sqrt(2 * friction) * xi
        positions.append(z)
        velocities.append(v)
    return torch.stack(positions), torch.stack(velocities), torch.stack(means)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("local", [True, False])
def test_released_recursion_equals_its_equations(local: bool, dtype: torch.dtype):
    torch.manual_seed(0)
    kernel = torch.randn(4, 4, 3, dtype=dtype, requires_grad=True)
    dense = torch.randn(20, 20, dtype=dtype, requires_grad=True)
    z, v, noise = (x.to(dtype) for x in states(40, 9, 20))
    leaf = kernel if local else dense
    found = []
    for function in (released_recursion, released_by_steps):
        gradient = released_gradient(kernel, 20) if local else dense
        out = function(z, v, noise, gradient, 0.55, 0.05)
        by = torch.autograd.grad(sum((x**2).sum() for x in out), leaf)[0]
        found.append([x.detach() for x in (*out, by)])
    for ours, theirs in zip(*found, strict=True):
        assert far_apart(ours, theirs) < (1e-5 if dtype == torch.float32 else 1e-12)


def test_quartic_potential_has_its_own_stationary_law():
    """Second moment of exp(-z^2 w^2 / 2 - l z^4 / 4) by quadrature, at a small step."""
    potential = LatticePotential(4, "quartic", 2)
    with torch.no_grad():
        potential.weight.zero_()
        potential.log_stiffness.copy_(2 * torch.tensor([0.3, 0.5, 0.8, 1.2]).log())
        potential.hardening.fill_(2.0)
        potential.reach.copy_(torch.tensor([1.5, 1.5, 2.0, 3.0]))
    grid = torch.linspace(-30, 30, 20001)[:, None].expand(-1, 4)
    alone = [potential.energy(grid * torch.eye(4)[i]) for i in range(4)]
    density = torch.exp(-torch.stack(alone, -1).detach())
    expected = (grid**2 * density).sum(0) / density.sum(0)
    drawn = torch.Generator().manual_seed(0)
    innovation = torch.randn(1500, 600, 4, generator=drawn)
    start = torch.zeros(600, 4)
    with torch.no_grad():
        z, _ = baoab(start, start, innovation, potential.force(), torch.full((4,), 0.8), 0.4)
    torch.testing.assert_close(z[300:].var((0, 1)), expected, rtol=0.04, atol=0)
    assert (expected < 0.98 / potential.log_stiffness.detach().exp()).all()


def test_quartic_potential_is_stable_at_a_step_of_one_bin_wherever_it_starts():
    potential = dynamics("quartic", 16, 64)
    with torch.no_grad():
        potential.hardening.fill_(4.0)
        potential.weight.mul_(0.02)
        start = 50 * potential.reach * torch.sign(torch.randn(64, 16))
        noise = torch.randn(600, 64, 16, generator=torch.Generator().manual_seed(0))
        z, v = baoab(start, start, noise, potential.force(), torch.full((16,), 0.1))
    assert torch.isfinite(z).all()
    late = z[-100:].std((0, 1)) * potential.log_stiffness.detach().exp().sqrt()
    assert (late < 1.5).all()
    assert v[-100:].std() < 2
