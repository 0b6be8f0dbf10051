"""Iterated adaptive neighbourhoods: edges by hand, no shortcuts, linear against greedy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from driftwave.errors import InputError
from driftwave.graphs.components import components_of
from driftwave.graphs.ian import _ordered, ian_graph
from driftwave.graphs.ian_compiled import gabriel_edges, greedy_scales, volume_ratios
from driftwave.graphs.ian_scales import linear_scales
from driftwave.graphs.knn import nearest


def bent_plane(points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two parallel sheets joined by a half-turn, and the place (point, 2) on the plane."""
    length, width = rng.uniform(-2.5, 2.5, points), rng.uniform(0, 2, points)
    radius = 1 / np.pi
    angle = np.clip(length, -0.5, 0.5) / radius
    past = length - np.clip(length, -0.5, 0.5)
    x, z = radius * np.sin(angle), np.abs(past) - radius * np.cos(angle)
    return np.column_stack([x, width, z]), np.column_stack([length, width])


def edges_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends, lengths and upper bounds of the Gabriel graph, longest first."""
    ends, length = gabriel_edges(points, *nearest(points, len(points) - 1))
    ends, first = np.unique(np.sort(ends, axis=1), axis=0, return_index=True)
    order = np.argsort(-length[first])
    ends, length = ends[order], length[first][order]
    far = np.zeros(len(points))
    np.maximum.at(far, ends.ravel(), np.repeat(length, 2))
    return ends, length, far


def test_the_gabriel_graph_is_that_of_its_definition():
    points = np.random.default_rng(0).standard_normal((60, 3))
    square = squareform(pdist(points)) ** 2
    empty = np.array(
        [
            [a < b and not (np.delete(square[a] + square[b], [a, b]) <= square[a, b]).any()
             for b in range(60)]
            for a in range(60)
        ]
    )  # fmt: skip
    ends, _, _ = edges_of(points)
    assert {tuple(one) for one in ends} == set(zip(*np.nonzero(empty), strict=True))


def test_all_pairs_are_in_the_order_of_the_tree():
    points = np.random.default_rng(0).standard_normal((90, 4))
    for wanted in (20, 89):
        distance, index = _ordered(points, wanted)
        by_tree, of_tree = nearest(points, wanted)
        np.testing.assert_allclose(distance, by_tree, rtol=1e-12)
        np.testing.assert_array_equal(index, of_tree)


@pytest.mark.parametrize("solve", [greedy_scales, linear_scales])
def test_scales_cover_every_edge_within_their_bounds(solve):
    ends, length, far = edges_of(np.random.default_rng(1).standard_normal((120, 3)))
    scale = solve(ends, length, far, 0.7)
    assert (scale[ends].prod(axis=1) >= (0.7 * length) ** 2 * (1 - 1e-6)).all()
    assert (scale <= far * (1 + 1e-9)).all()
    assert (scale > 0).all()


def test_greedy_scales_are_nearly_the_smallest():
    ends, length, far = edges_of(np.random.default_rng(1).standard_normal((200, 3)))
    least = linear_scales(ends, length, far, 0.7).sum()
    assert greedy_scales(ends, length, far, 0.7).sum() < 1.2 * least


def test_the_volume_ratio_is_that_of_the_formula():
    points = np.random.default_rng(2).standard_normal((40, 2))
    distance, index = nearest(points, 39)
    scale, degree = np.linspace(0.5, 1, 40), np.arange(40)
    full = squareform(pdist(points)) ** 2
    for weighted in (False, True):
        product = np.outer(scale, scale) if weighted else (scale**2)[:, None]
        count = np.maximum(degree, 2)
        wanted = np.exp(-full / product).sum(axis=1)
        wanted = wanted / count / (np.sqrt(np.pi) / 2) ** np.log2(count)
        found = volume_ratios(distance, index, scale, degree, weighted)
        np.testing.assert_allclose(found[1:], wanted[1:], rtol=1e-9)
        assert found[0] == 0


def test_edges_do_not_cut_across_a_bent_plane():
    points, place = bent_plane(1200, np.random.default_rng(0))
    gabriel, _, _ = edges_of(points)
    found = ian_graph(points)
    ends = np.array(found.adjacency.nonzero()).T
    jump = np.linalg.norm(place[ends[:, 0]] - place[ends[:, 1]], axis=1)
    before = np.linalg.norm(place[gabriel[:, 0]] - place[gabriel[:, 1]], axis=1)
    assert (before > 1).sum() > 500
    assert (jump > 1).sum() <= 0.01 * (before > 1).sum()
    # A planar set of random points has mean Gabriel degree 4.
    assert 3.3 < np.diff(found.adjacency.indptr).mean() < 4.5


def test_a_regular_ring_keeps_its_two_neighbours_and_clusters_part():
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * (np.arange(200) + 0.3 * rng.uniform(size=200)) / 200
    ring = ian_graph(np.column_stack([np.cos(angle), np.sin(angle)]))
    assert (np.diff(ring.adjacency.indptr) == 2).all()
    blobs = rng.standard_normal((200, 2)) + np.repeat([[0, 0], [30, 0]], 100, axis=0)
    found = ian_graph(blobs)
    side = np.repeat([0, 1], 100)
    ends = np.array(found.affinity.nonzero())
    assert (side[ends[0]] == side[ends[1]]).all()
    assert (np.bincount(components_of(found.adjacency))[:2] > 80).all()


def test_the_linear_programme_gives_nearly_the_same_graph():
    points, _ = bent_plane(200, np.random.default_rng(3))
    greedy, linear = (ian_graph(points, scales=one).adjacency for one in ("greedy", "linear"))
    assert greedy.multiply(linear).nnz > 0.9 * max(greedy.nnz, linear.nnz)


def test_the_linear_programme_gives_the_graph_of_the_reference():
    """Values of github.com/dyballa/IAN (obj="l1", CLARABEL) on these points."""
    points, _ = bent_plane(220, np.random.default_rng(1))
    found = ian_graph(points, scales="linear")
    assert (found.adjacency.nnz, found.pruned, found.iterations) == (1044, 69, 28)
    assert found.scale.sum() == pytest.approx(48.87447905, rel=1e-7)
    np.testing.assert_allclose(found.scale[:3], [0.14005818, 0.34671454, 0.33837438], rtol=1e-6)
    assert found.affinity.sum() == pytest.approx(569.6209175, rel=1e-7)
    assert found.affinity.power(2).sum() == pytest.approx(255.8615229, rel=1e-7)


def test_the_kernel_is_symmetric_without_loops_and_scales_with_the_points():
    points = np.random.default_rng(0).standard_normal((150, 3))
    found, small = ian_graph(points), ian_graph(1e-3 * points)
    assert abs(found.affinity - found.affinity.T).max() == 0
    assert not found.affinity.diagonal().any()
    np.testing.assert_allclose(small.scale, 1e-3 * found.scale, rtol=1e-9)
    np.testing.assert_allclose(small.affinity.toarray(), found.affinity.toarray(), atol=1e-7)


def test_duplicates_share_their_edges():
    points = np.random.default_rng(0).standard_normal((80, 2))
    found = ian_graph(np.concatenate([points, points[:3]])).affinity.toarray()
    np.testing.assert_allclose(found[80:, :80][:, 3:], found[:3, 3:80])
    assert np.diag(found[80:, :3]) == pytest.approx(1)


def test_points_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="NaN"):
        ian_graph([[0.0, 1], [np.nan, 2], [1, 1], [2, 2]])
