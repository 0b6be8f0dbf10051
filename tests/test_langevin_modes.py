"""Couplings, modes and slices of potentials whose normal modes are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from driftwave.inference.langevin import baoab, released_gradient, released_recursion
from driftwave.inference.langevin_modes import baoab_step, describe, linearise, modes
from driftwave.inference.langevin_networks import FRICTION, Driftwave, Released
from driftwave.inference.spike_network import Sizes
from network_cases import SMALL_DRIFTWAVE

SIZES = Sizes(units_in=5, units_out=6, seen_bins=8, bins=10)
WIDTH = 0.02
LATENTS = 8


def driftwave(**options: Any) -> Driftwave:
    torch.manual_seed(0)
    chosen = SMALL_DRIFTWAVE | {"latents": LATENTS} | options
    return Driftwave(SIZES, torch.zeros(6), torch.ones(2, 5), **chosen)


def states(count: int = 40, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(1).normal(size=(4, count // 4, 2 * LATENTS))


def quadratic_hessian(network: Driftwave) -> np.ndarray:
    stiffness, direction, back = network.dynamics.matrices()
    return (torch.diag(stiffness) - back.T @ direction).detach().double().numpy()


def test_the_step_is_that_of_baoab():
    """Two steps of the real integrator, against the map conjugated by the half kick."""
    rng = np.random.default_rng(0)
    across = rng.normal(0, 0.3, (3, 3))
    along = -(across @ across.T + np.diag([0.1, 0.4, 0.9]))
    friction = torch.tensor([0.1, 0.3, 0.7], dtype=torch.double)
    step, before_kick = baoab_step(along, np.zeros((3, 3)), np.exp(-friction.numpy()))
    start = torch.from_numpy(rng.normal(size=(5, 6)))
    z, v = baoab(
        start[:, :3],
        start[:, 3:],
        torch.zeros(2, 5, 3, dtype=torch.double),
        lambda position, _: position @ torch.from_numpy(along).T,
        friction,
    )
    moved = np.linalg.solve(before_kick, step @ step @ before_kick @ start.numpy().T).T
    np.testing.assert_allclose(moved, torch.cat([z[-1], v[-1]], 1).numpy(), atol=1e-12)


def test_an_oscillator_turns_and_decays_as_it_should():
    """Small steps: frequency sqrt(omega^2 - gamma^2 / 4) and damping gamma / 2."""
    omega, friction = 0.05, 0.01
    step, _ = baoab_step(np.array([[-(omega**2)]]), np.zeros((1, 1)), np.exp([-friction]))
    table = modes(step, np.random.default_rng(0).normal(size=(50, 2)), WIDTH)
    assert table.sizes["mode"] == 1
    expected = np.sqrt(omega**2 - friction**2 / 4) / (2 * np.pi * WIDTH)
    assert float(table["mode_frequency"][0]) == pytest.approx(expected, rel=1e-3)
    assert float(table["mode_damping"][0]) == pytest.approx(friction / 2 / WIDTH, rel=1e-3)
    assert float(table["mode_share"][0]) == pytest.approx(1.0)


def test_modes_of_a_symmetric_pair_are_in_phase_and_in_antiphase():
    own, coupling = 0.04, 0.01
    along = -np.array([[own + coupling, -coupling], [-coupling, own + coupling]])
    step, _ = baoab_step(along, np.zeros((2, 2)), np.full(2, np.exp(-0.02)))
    rng = np.random.default_rng(0)
    common = rng.normal(size=(400, 1)) * np.array([[1.0, 1.0]]) + 0.1 * rng.normal(size=(400, 2))
    table = modes(step, np.concatenate([common, np.zeros((400, 2))], 1), WIDTH)
    np.testing.assert_allclose(table["mode_amplitude"], 1.0, atol=1e-6)
    difference = np.abs(np.diff(table["mode_phase"].values, axis=1))[:, 0]
    np.testing.assert_allclose(difference, [0.0, np.pi], atol=1e-6)
    frequency = 2 * np.pi * WIDTH * table["mode_frequency"].values
    # The step turns a mode of stiffness k by theta with sin(theta / 2) = sqrt(k) / 2.
    expected = 2 * np.arcsin(np.sqrt([own, own + 2 * coupling]) / 2)
    np.testing.assert_allclose(frequency, expected, rtol=5e-3)
    assert float(table["mode_share"][0]) > 0.95


def test_a_quadratic_potential_has_the_same_hessian_everywhere():
    network = driftwave(potential="quadratic")
    found = describe(network, states(scale=3.0), WIDTH)
    hessian = quadratic_hessian(network)
    np.testing.assert_allclose(found["coupling"] * WIDTH**2, hessian, atol=1e-6)
    own = np.sqrt(np.diag(hessian)) / (2 * np.pi * WIDTH)
    np.testing.assert_allclose(found["node_frequency"], own, rtol=1e-4)
    np.testing.assert_allclose(found["friction"], FRICTION / WIDTH, rtol=1e-6)
    assert found.attrs["asymmetry"] < 1e-6
    distant = np.abs(found["node_site"].values[:, None] - found["node_site"].values) > 1
    assert not found["coupling"].values[distant].any()


def test_the_mean_hessian_is_the_linear_force_of_least_error():
    """Stein's lemma, for states of a Gaussian law."""
    network = driftwave()
    with torch.no_grad():
        network.dynamics.weight.mul_(20)
    drawn = np.random.default_rng(3).normal(size=(256, 2 * LATENTS))
    found = linearise(network, drawn).jacobian
    many = torch.from_numpy(np.random.default_rng(4).normal(size=(40000, LATENTS))).float()
    with torch.no_grad():
        force = network.dynamics.force()(many, many).double().numpy()
    regressed = np.linalg.lstsq(np.c_[many.numpy(), np.ones(len(many))], force, rcond=None)[0]
    size = np.abs(found).max()
    np.testing.assert_allclose(found, regressed[:-1].T, atol=0.12 * size)


def test_the_slice_holds_energy_and_its_own_gradient():
    found = describe(driftwave(), states(scale=2.0), WIDTH)
    energy = found["slice_energy"].values
    assert energy.min() == 0
    downhill = np.gradient(-energy, found["slice_1"].values, axis=0)[1:-1, 1:-1]
    force = found["slice_force"].values[0][1:-1, 1:-1]
    np.testing.assert_allclose(downhill, force, atol=0.02 * np.abs(force).max())
    axes = found["slice_axis"].values
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)


KINDS = [{"potential": kind} for kind in ("learned", "quadratic", "quartic", "none")]


@pytest.mark.parametrize("options", [*KINDS, {"nonconservative": True}])
def test_the_jacobian_is_the_mean_slope_of_the_force(options: dict[str, Any]):
    network = driftwave(**options)
    flat = torch.from_numpy(states(scale=2.0).reshape(-1, 2 * LATENTS)).float()
    z, v = flat[:, :LATENTS], flat[:, LATENTS:]
    pull, nudge = network.dynamics.force(), 1e-2 * torch.eye(LATENTS)
    with torch.no_grad():
        slopes = [(pull(z + d, v) - pull(z - d, v)).mean(0) / 2e-2 for d in nudge]
    found = linearise(network, flat.numpy()).jacobian
    np.testing.assert_allclose(found.T, torch.stack(slopes).numpy(), atol=2e-3)


def test_a_learned_force_has_couplings_but_no_energy():
    found = describe(driftwave(nonconservative=True), states(), WIDTH)
    assert "slice_energy" not in found
    assert found.attrs["asymmetry"] > 1e-3
    coupling = found["coupling"].values
    np.testing.assert_array_equal(coupling, coupling.T)


def test_without_a_potential_nothing_turns():
    found = describe(driftwave(potential="none"), states(), WIDTH)
    assert not found["coupling"].any()
    np.testing.assert_allclose(found["mode_frequency"], 0, atol=1e-9)
    assert found.sizes["mode"] == 2 * LATENTS
    np.testing.assert_allclose(sorted(found["mode_damping"])[LATENTS:], FRICTION / WIDTH, rtol=1e-4)


def test_the_released_map_is_its_recursion():
    torch.manual_seed(1)
    options = {"latents": LATENTS, "friction": 0.55, "lag": 1, "feedforward": 8, "dropout": 0.0}
    network = Released(SIZES, torch.zeros(6), **options)
    system = linearise(network, states().reshape(-1, 2 * LATENTS))
    start = torch.randn(3, 2 * LATENTS)
    gradient = released_gradient(functional.normalize(network.kernel.detach(), dim=-1), LATENTS)
    z, v, _ = released_recursion(
        start[:, :LATENTS], start[:, LATENTS:], torch.zeros(1, 3, LATENTS), gradient, 0.55
    )
    expected = torch.cat([z[-1], v[-1]], 1).numpy()
    np.testing.assert_allclose(start.numpy() @ system.step.T, expected, atol=1e-5)
    found = describe(network, states(), WIDTH)
    np.testing.assert_allclose(found["friction"], 0.55 / WIDTH)
    # Its step of .01 freezes the positions: no mode of theirs turns at a millihertz's rate.
    assert float(found["mode_frequency"].max()) < 1e-3


@pytest.mark.parametrize("potential", ["learned", "quartic", "none"])
def test_description_is_labelled_and_leaves_the_network_alone(potential: str):
    network = driftwave(potential=potential).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = describe(network, states(), WIDTH)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(found[name].attrs.get("units") for name in found.data_vars)
    assert found["mode_amplitude"].max("node").values == pytest.approx(1.0)
    assert float(found["mode_share"].sum()) == pytest.approx(1.0)
    assert list(found["node_site"].values) == [0, 1] * 4
