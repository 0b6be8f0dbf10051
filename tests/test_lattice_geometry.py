"""Lattices of oscillators and their readout against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from driftwave.inference.coupled_results import winding_number
from driftwave.inference.lattice_geometry import (
    build_lattice,
    fit_circle,
    graph,
    grid,
    lies_on_ring,
    ring,
)
from driftwave.inference.lattice_readout import DenseReadout, SpatialReadout


def circle(count: int = 30, radius: float = 1.5, seed: int = 0) -> np.ndarray:
    turn = np.random.default_rng(seed).uniform(0, 2 * np.pi, count)
    return np.array([0.7, -2.0]) + radius * np.column_stack([np.cos(turn), np.sin(turn)])


def square(side: int = 4, pitch: float = 0.4) -> np.ndarray:
    return pitch * np.array([(x, y) for y in range(side) for x in range(side)], float)


def test_a_circle_is_found_exactly_from_an_arc() -> None:
    turn = np.linspace(0, 1, 9)
    points = np.array([3.0, -1.0]) + 2.5 * np.column_stack([np.cos(turn), np.sin(turn)])
    centre, radius = fit_circle(points)
    np.testing.assert_allclose(centre, [3.0, -1.0], atol=1e-9)
    assert radius == pytest.approx(2.5)


@pytest.mark.parametrize("points", [np.zeros((2, 2)), np.column_stack([np.arange(5.0)] * 2)])
def test_no_circle_through_a_line(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no circle"):
        fit_circle(points)
    assert not lies_on_ring(points)


def test_which_positions_lie_on_a_ring() -> None:
    assert lies_on_ring(circle())
    assert not lies_on_ring(square())
    turn = np.linspace(0, 1, 9)  # an arc is no ring
    assert not lies_on_ring(np.column_stack([np.cos(turn), np.sin(turn)]))


def test_sites_of_a_ring() -> None:
    lattice = ring(circle(), 8)
    assert lattice.radius == pytest.approx(1.5)
    assert lattice.pitch == pytest.approx(2 * np.pi * 1.5 / 8)
    np.testing.assert_allclose(np.exp(1j * lattice.angle()), np.exp(2j * np.pi * np.arange(8) / 8))
    np.testing.assert_array_equal(lattice.neighbour[0], [7, 0, 1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(lattice.neighbour[1], [1, 2, 3, 4, 5, 6, 7, 0])
    # Half round the ring is the furthest, along the circle.
    distance = lattice.distance(lattice.position[:1])[0]
    np.testing.assert_allclose(distance, lattice.pitch * np.array([0, 1, 2, 3, 4, 3, 2, 1]))


def test_neighbours_of_a_grid_lie_where_their_direction_says() -> None:
    lattice = grid(square(), pitch=0.4)
    np.testing.assert_allclose(lattice.position, square())
    _check_compass(lattice.position, lattice.neighbour, 0.4)
    assert (lattice.neighbour < 0).sum() == 16  # four at each border
    assert grid(square(), sites=16).pitch == pytest.approx(0.4)
    assert grid(square(), sites=20).sites <= 20


def _check_compass(position: np.ndarray, neighbour: np.ndarray, pitch: float) -> None:
    steps = pitch * np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
    for row, step in zip(neighbour, steps, strict=True):
        there = row >= 0
        found = position[row[there]] - position[there]
        np.testing.assert_allclose(found, np.broadcast_to(step, found.shape), atol=1e-9)


def test_a_graph_on_a_grid_is_the_grid() -> None:
    rng = np.random.default_rng(1)
    lattice = graph(rng.permutation(np.concatenate([square(), square()[:3]])))
    assert lattice.sites == 16
    assert lattice.pitch == pytest.approx(0.4)
    _check_compass(lattice.position, lattice.neighbour, 0.4)
    assert (lattice.neighbour < 0).sum() == 16


def test_a_graph_of_a_line_has_no_neighbours_across_it() -> None:
    lattice = graph(np.column_stack([np.arange(5.0), np.zeros(5)]))
    np.testing.assert_array_equal(lattice.neighbour[0], [-1, 0, 1, 2, 3])
    np.testing.assert_array_equal(lattice.neighbour[1], [1, 2, 3, 4, -1])
    assert (lattice.neighbour[2:] == -1).all()


@pytest.mark.parametrize("topology", ["ring", "lattice", "graph"])
def test_shuffling_keeps_the_graph_and_loses_the_places(topology: str) -> None:
    points = circle() if topology == "ring" else square()
    lattice = build_lattice(points, topology, sites=16, pitch=None)
    other = lattice.shuffled(3)
    np.testing.assert_array_equal(lattice.position, other.position)
    for before, after in zip(lattice.neighbour, other.neighbour, strict=True):
        degree = np.bincount(before[before >= 0], minlength=lattice.sites)
        assert sorted(np.bincount(after[after >= 0], minlength=lattice.sites)) == sorted(degree)
    walk = [0]
    for _ in range(lattice.sites - 1):
        walk.append(int(other.neighbour[1][walk[-1]]))
    if topology == "ring":
        assert sorted(walk) == list(range(lattice.sites))  # one ring still
    assert (lattice.neighbour != other.neighbour).mean() > 0.5
    np.testing.assert_array_equal(other.neighbour, lattice.shuffled(3).neighbour)


def test_a_wave_that_travels_counter_clockwise_winds_positively() -> None:
    turn = 2 * np.pi * np.arange(12) / 12
    time = np.arange(20)[:, None]
    for q in (-2, -1, 0, 1, 3):
        wave = np.exp(1j * (0.3 * time - q * turn))
        np.testing.assert_array_equal(winding_number(wave), np.full(20, q))


def test_the_kernel_is_a_normalised_gaussian_of_the_distance() -> None:
    lattice, places = ring(circle(), 12), circle(5, seed=3)
    readout = SpatialReadout(lattice, places, np.zeros((0, 2)), bands=2)
    distance = lattice.distance(places)
    weight = np.exp(-0.5 * (distance / lattice.pitch) ** 2)
    expected = weight / weight.sum(1, keepdims=True)
    kernel = readout.kernel().detach().numpy()
    np.testing.assert_allclose(kernel[1], expected, rtol=1e-4, atol=1e-7)


def test_the_readout_is_the_real_part_of_the_turned_local_field() -> None:
    rng = np.random.default_rng(0)
    lattice = grid(square(), pitch=0.4)
    units, electrodes = rng.uniform(0, 1.2, (5, 2)), square()[:3]
    readout = SpatialReadout(lattice, units, electrodes, bands=2, free_phase=True)
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape))
    z = rng.standard_normal((3, 4, 2, 16)) + 1j * rng.standard_normal((3, 4, 2, 16))
    state = torch.from_numpy(np.stack([z.real, z.imag], -1).reshape(3, 4, -1)).float()
    kernel, gain = readout.kernel().detach().numpy(), readout.gain().detach().numpy()
    turn = np.exp(-1j * readout.phase.detach().numpy()) * gain
    expected = np.einsum("bc,bcs,tibs->tic", turn, kernel, z).real
    np.testing.assert_allclose(readout(state).detach(), expected, rtol=1e-4, atol=1e-5)
    assert (gain[:, :5] >= 0).all()


def test_without_preferred_phases_imaginary_parts_are_not_read() -> None:
    readout = SpatialReadout(ring(circle(), 6), circle(4), np.zeros((0, 2)), bands=1)
    weight = readout.weight().detach().view(4, 6, 2)
    assert (weight[..., 1] == 0).all()
    assert (weight[..., 0] > 0).all()


def test_a_dense_readout_reads_everything() -> None:
    readout = DenseReadout(3, 10)
    state = torch.randn(2, 4, 10)
    torch.testing.assert_close(readout(state), state @ readout.weight().T)
