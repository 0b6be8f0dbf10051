"""Graphs of points and their diffusion maps: closed forms, disconnected graphs, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import eigh

from driftwave.errors import InputError
from driftwave.graphs.components import components_of
from driftwave.graphs.diffusion import diffusion_map
from driftwave.graphs.knn import knn_graph


def cycle(points: int) -> sp.csr_array:
    """Cycle of points, edges of weight 1."""
    one = np.arange(points)
    half = sp.csr_array((np.ones(points), (one, (one + 1) % points)), shape=(points, points))
    return sp.csr_array(half + half.T)


def path(points: int) -> sp.csr_array:
    return sp.csr_array(sp.diags_array([np.ones(points - 1)] * 2, offsets=[-1, 1]))


def rings(count: int, points: int, rng: np.random.Generator) -> np.ndarray:
    angle = 2 * np.pi * (np.arange(points) + 0.6 * rng.uniform(size=(count, points))) / points
    centre = 10 * np.arange(count)[:, None]
    return np.stack([np.cos(angle) + centre, np.sin(angle)], axis=-1).reshape(-1, 2)


def test_affinities_are_those_of_the_formula():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    graph = knn_graph(points, 2, scale_neighbour=2).toarray()
    scale = np.array([3.0, 2.0, 3.0, 6.0])
    gap = np.abs(points - points.T)
    full = np.exp(-(gap**2) / np.outer(scale, scale))
    joined = np.array([[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]])
    np.testing.assert_allclose(graph, full * joined, atol=1e-15)


def test_a_graph_is_symmetric_without_loops_and_does_not_depend_on_scale():
    points = np.random.default_rng(0).standard_normal((200, 3))
    graph = knn_graph(points, 8)
    assert abs(graph - graph.T).max() == 0
    assert not graph.diagonal().any()
    assert (np.diff(graph.indptr) >= 8).all()
    np.testing.assert_allclose(knn_graph(1e-3 * points, 8).toarray(), graph.toarray(), rtol=1e-9)


def test_duplicates_are_joined_and_other_points_stay_finite():
    rng = np.random.default_rng(0)
    points = np.concatenate([np.zeros((20, 2)), rng.standard_normal((40, 2))])
    graph = knn_graph(points, 5)
    assert np.isfinite(graph.data).all()
    assert (graph[:20][:, :20].data == 1).all()


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (np.full((30, 2), np.nan), "30 points with NaN"),
        (np.ones((30, 2)), "all points alike"),
        (np.ones(30), "shape"),
        (np.eye(5), "at least 11"),
    ],
)
def test_points_that_cannot_be_used_are_refused(points, says):
    with pytest.raises(InputError, match=says):
        knn_graph(points, 10)


def test_components_are_ordered_by_size():
    graph = sp.block_diag([path(3), path(6), path(4)], format="csr")
    assert components_of(graph).tolist() == [2] * 3 + [0] * 6 + [1] * 4


@pytest.mark.parametrize("dense_below", [10, 10_000])
def test_the_eigenvalues_and_coordinates_of_a_cycle_are_cosines(dense_below):
    size = 240
    found = diffusion_map(cycle(size), components=6, dense_below=dense_below)
    harmonic = np.repeat([1, 2, 3], 2)
    wanted = (1 + 2 * np.cos(2 * np.pi * harmonic / size)) / 3
    np.testing.assert_allclose(found.eigenvalues[0], wanted, atol=1e-9)
    angle = 2 * np.pi * np.arange(size) / size
    pair = np.sqrt(2) * np.column_stack([np.cos(angle), np.sin(angle)])
    # A pair with one eigenvalue is defined up to a rotation: the plane and the radius are not.
    inside = pair @ (pair.T @ found.coordinates[:, :2]) / size
    np.testing.assert_allclose(inside, found.coordinates[:, :2], atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(found.coordinates[:, :2], axis=1), np.sqrt(2) * wanted[0], rtol=1e-6
    )


def test_the_coordinates_of_an_interval_are_cosines_whatever_the_density():
    rng = np.random.default_rng(0)
    place = np.sort(rng.beta(1, 2, size=700))
    gap = (place[:, None] - place) ** 2
    affinity = np.exp(-gap / 0.04**2)
    np.fill_diagonal(affinity, 0)
    found = diffusion_map(affinity, components=2)
    inside = slice(0, np.searchsorted(place, 0.9))
    for order in (1, 2):
        wanted = np.cos(np.pi * order * place / place.max())
        fit = np.corrcoef(found.coordinates[inside, order - 1], wanted[inside])[0, 1]
        assert abs(fit) > 0.995
    kept = diffusion_map(affinity, components=2, alpha=0.0)
    biased = np.corrcoef(kept.coordinates[inside, 0], np.cos(np.pi * place / place.max())[inside])
    assert abs(biased[0, 1]) < 0.99


@pytest.mark.parametrize("dense_below", [10, 10_000])
@pytest.mark.parametrize("seed", range(6))
def test_no_unit_eigenvalue_of_a_disconnected_graph_is_missed(seed, dense_below):
    graph = knn_graph(rings(4, 150, np.random.default_rng(seed)), 6)
    found = diffusion_map(graph, components=5, dense_below=dense_below, seed=seed)
    count = found.eigenvalues.shape[0]
    loops = graph + sp.eye_array(600)
    density = loops.sum(axis=1)
    walk = loops / density[:, None] / density[None]
    root = np.sqrt(walk.sum(axis=1))
    whole = np.sort(eigh((walk / root[:, None] / root[None]).todense(), eigvals_only=True))[::-1]
    assert (whole > 1 - 1e-9).sum() == count == 4
    assert (found.eigenvalues < 1 - 1e-9).all()
    ours = np.sort(found.eigenvalues.ravel())[::-1]
    # All whole's eigenvalues above the least that each component reports must be there.
    certain = whole[count:][whole[count:] > found.eigenvalues[:, -1].max()]
    np.testing.assert_allclose(ours[: len(certain)], certain, atol=1e-8)
    assert [len(set(np.arange(600)[found.of == k] // 150)) for k in range(count)] == [1] * 4


def test_components_too_small_have_no_coordinates():
    graph = sp.block_diag([cycle(30), path(4)], format="csr")
    found = diffusion_map(graph, components=5)
    assert np.isfinite(found.coordinates[:30]).all()
    assert np.isnan(found.coordinates[30:]).all()
    assert np.isnan(found.eigenvalues[1]).all()


def test_a_map_repeats_and_its_signs_do_not_depend_on_the_order_of_points():
    rng = np.random.default_rng(1)
    graph = knn_graph(rng.uniform(size=(400, 2)) * [2, 1], 10)
    first = diffusion_map(graph, components=3, dense_below=10, seed=3)
    again = diffusion_map(graph, components=3, dense_below=10, seed=3)
    np.testing.assert_array_equal(first.coordinates, again.coordinates)
    order = rng.permutation(400)
    mixed = diffusion_map(graph[order][:, order], components=3)
    np.testing.assert_allclose(mixed.coordinates, first.coordinates[order], atol=1e-6)


def test_time_is_the_power_of_the_eigenvalues():
    graph = knn_graph(np.random.default_rng(1).uniform(size=(200, 2)), 10)
    one, three = (diffusion_map(graph, components=4, time=t) for t in (1.0, 3.0))
    np.testing.assert_allclose(
        three.coordinates, one.coordinates * one.eigenvalues[0] ** 2, atol=1e-12
    )


@pytest.mark.parametrize(
    "bad", [np.array([[0.0, 1], [2, 0]]), np.array([[0.0, -1], [-1, 0]]), np.ones((2, 3))]
)
def test_matrices_that_are_no_graph_are_refused(bad):
    with pytest.raises(InputError, match="affinity"):
        diffusion_map(bad)
