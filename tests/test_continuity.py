"""Clustered or continuous: statistics by hand, what surrogates keep, and known populations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_score

from driftwave.compute import dask_threads
from driftwave.errors import InputError
from driftwave.graphs.continuity import compared, continuity
from driftwave.graphs.knn import knn_graph, nearest
from driftwave.graphs.populations import KINDS, population
from driftwave.graphs.statistics import (
    community_weights,
    mean_silhouette,
    spanning_tree,
    statistics_of,
    tree_tail,
)
from driftwave.graphs.surrogates import (
    deepest_by_chance,
    prominence,
    shuffled_loadings,
    smoothed,
    surrogate_neighbours,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_silhouette_is_that_of_scikit_learn():
    points = rng().standard_normal((60, 3))
    labels = rng(1).integers(4, size=60)
    labels[0] = 9
    found = mean_silhouette(squareform(pdist(points)), labels)
    assert found == pytest.approx(silhouette_score(points, labels))


def test_the_spanning_tree_is_that_of_scipy():
    distance = squareform(pdist(rng().standard_normal((80, 3))))
    edges, lengths = spanning_tree(distance)
    assert lengths.sum() == pytest.approx(minimum_spanning_tree(distance).sum())
    np.testing.assert_array_equal(distance[tuple(edges.T)], lengths)


def test_the_tail_of_the_tree_sees_gaps_and_not_outliers():
    line = np.arange(100.0)
    gap = line + 30 * (line >= 50)
    outlier = np.append(line, 200.0)
    tails = [tree_tail(squareform(pdist(one[:, None]))) for one in (line, gap, outlier)]
    # Two edges of 99: one of 31 and one of 1.
    assert tails == pytest.approx([1, 16, 1])


def test_weights_between_communities_of_two_joined_cliques():
    graph = np.zeros((12, 12))
    graph[:6, :6] = graph[6:, 6:] = 1
    np.fill_diagonal(graph, 0)
    graph[5, 6] = graph[6, 5] = 1
    import scipy.sparse as sp

    between, modularity = community_weights(sp.csr_array(graph), seed=0)
    assert between == pytest.approx(1 / 31)
    assert modularity == pytest.approx(30 / 31 - 0.5)


def test_a_surrogate_keeps_spectrum_noise_and_shape_of_a_ring():
    points = population("ring", 300, rng())
    index = surrogate_neighbours(points, rng(1))
    mixed = smoothed(points, index, rng(2))
    spectrum = [np.linalg.svd(one - one.mean(axis=0))[1] for one in (points, mixed)]
    np.testing.assert_allclose(spectrum[1], spectrum[0], rtol=1e-6)
    radius = [np.linalg.norm(one - one.mean(axis=0), axis=1) for one in (points, mixed)]
    assert np.median(radius[1]) == pytest.approx(np.median(radius[0]), rel=0.05)
    # The hole stays.
    assert np.quantile(radius[1], 0.05) > 0.6 * np.median(radius[0])
    assert np.linalg.norm(mixed - points, axis=1).mean() > 0.1


def test_a_surrogate_fills_the_gaps_between_clusters():
    points = population("clusters", 300, rng())
    mixed = smoothed(points, surrogate_neighbours(points, rng(1)), rng(2))
    assert prominence(points) > 2
    assert prominence(mixed) < 1.7
    sheet = population("sheet", 300, rng())
    assert prominence(sheet) < 1.25


def test_surrogate_scores_have_mean_zero_and_the_sign_of_clustering():
    names = ["silhouette", "hdbscan_noise", "between_weight", "mst_tail"]
    draws = rng().standard_normal((50, 6))
    null = [dict(zip([*names, "cluster_count", "modularity"], row, strict=True)) for row in draws]
    found = compared(dict.fromkeys(null[0], 5.0), null)
    assert found["silhouette_z"] > 3
    assert found["hdbscan_noise_z"] < -3
    assert found["silhouette_p"] == pytest.approx(1 / 51)
    assert found["between_weight_p"] == 1
    even = compared({**dict.fromkeys(names, 0.0), "cluster_count": 99.0, "modularity": 99.0}, null)
    # A cluster count, however large, decides nothing.
    assert even.attrs["verdict"] == "continuous"


def test_surrogates_without_spread_give_finite_scores():
    names = ["silhouette", "hdbscan_noise", "between_weight", "mst_tail", "cluster_count"]
    same = {**dict.fromkeys(names, 1.0), "modularity": 1.0}
    found = compared({**same, "hdbscan_noise": 0.5}, [same] * 19)
    assert all(np.isfinite(found[name]).all() for name in found)
    assert found["hdbscan_noise_z"] == 100
    assert found["silhouette_z"] == 0


def test_clusters_are_told_from_a_sheet_and_the_answer_repeats():
    points = population("three clusters", 60, rng(3))
    with dask_threads(1):
        first, again = (continuity(points, surrogates=19, seed=2) for _ in range(2))
        sheet = continuity(population("sheet", 90, rng(3)), surrogates=19, seed=2, most=60)
    assert first.identical(again)
    assert first.attrs["verdict"] == "clustered"
    assert sheet.attrs["verdict"] == "continuous"
    assert sheet["surrogate_share"].attrs["points"] == 60


@pytest.mark.parametrize("size", [80, 120])
def test_the_neighbourhood_grows_beyond_clusters_as_large_as_itself(size):
    """18 % of so few points is within one of three to five clusters, whose gaps would stay."""
    for kind in ("three clusters", "ring", "sheet"):
        points = population(kind, size, rng(4))
        index = surrogate_neighbours(points, rng(5))
        share = index.shape[1] / size
        if kind == "three clusters":
            assert share > 1 / 3
            depth = np.mean([prominence(smoothed(points, index, rng(k))) for k in range(8)])
            assert depth < 0.7 * deepest_by_chance(size) < 0.8 * prominence(points)
        else:
            assert share == pytest.approx(0.18, abs=0.01)


def test_shuffled_loadings_keep_marginals_and_nearly_sums():
    loading = rng().gamma(0.5, size=(200, 4)) * (rng(1).random((200, 4)) < 0.5)
    mixed = shuffled_loadings(loading, rng(2))
    np.testing.assert_array_equal(np.sort(mixed, axis=0), np.sort(loading, axis=0))
    assert abs(np.corrcoef(mixed[:, 0], loading[:, 0])[0, 1]) < 0.5
    sums = [one.sum(axis=1) for one in (loading, mixed, rng(3).permuted(loading, axis=0))]
    assert np.corrcoef(sums[0], sums[1])[0, 1] > 0.8 > 0.3 > np.corrcoef(sums[0], sums[2])[0, 1]


def test_independent_factors_with_zeros_are_no_clusters():
    """Continuous surrogates alone take the gaps beside the zeros for clusters."""
    loading = rng(1).gamma(2, size=(100, 3)) * (rng(2).random((100, 3)) < 0.5)
    root = np.sqrt(loading)
    with dask_threads(1):
        found = continuity(root, surrogates=19, seed=0, loadings=loading)
    assert float(found["combined_p"]) <= 0.05
    assert float(found["combined_shuffled_p"]) > 0.05
    assert found.attrs["verdict"] == "continuous"


def test_groups_of_loadings_are_beyond_both_nulls():
    centre = np.array([[4.0, 1, 1], [1, 4, 1], [1, 1, 4], [3, 3, 3]])
    loading = centre[np.arange(60) % 4] * rng().uniform(0.8, 1.2, (60, 3))
    with dask_threads(1):
        found = continuity(np.sqrt(loading), surrogates=19, seed=0, loadings=loading)
    assert found.attrs["verdict"] == "clustered"
    assert float(found["combined_shuffled_z"]) > 2


@pytest.mark.parametrize("loadings", [np.ones((59, 3)), -np.ones((60, 3)), np.ones(60)])
def test_loadings_that_do_not_fit_are_refused(loadings):
    with pytest.raises(ValueError, match="one row for each point"):
        continuity(population("sheet", 60, rng()), surrogates=19, seed=0, loadings=loadings)


def test_a_turn_and_a_scale_change_nothing():
    points = population("overlapping clusters", 150, rng())
    turn = np.linalg.qr(rng(1).standard_normal((10, 10)))[0]
    one, other = statistics_of(points), statistics_of(3 * points @ turn + 5)
    for name in ("hdbscan_noise", "between_weight", "mst_tail", "modularity"):
        assert other[name] == pytest.approx(one[name], rel=1e-6)


def test_communities_can_be_those_of_the_ian_graph():
    points = population("clusters", 120, rng())
    knn, ian = (statistics_of(points, graph=one) for one in ("knn", "ian"))
    assert 0 <= ian["between_weight"] < 0.2
    assert ian["modularity"] > 0.6
    assert {**ian, "between_weight": 0, "modularity": 0} == {
        **knn,
        "between_weight": 0,
        "modularity": 0,
    }


def test_constant_features_change_nothing():
    points = population("sheet", 40, rng())
    wide = np.concatenate([points, np.full((40, 2), 7.0)], axis=1)
    with dask_threads(1):
        first, second = (continuity(one, surrogates=19, seed=0) for one in (points, wide))
    assert float(second["mst_tail_z"]) == pytest.approx(float(first["mst_tail_z"]), abs=1e-6)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (np.eye(20), "at least 40"),
        (np.full((50, 2), np.inf), "infinity"),
        (np.ones((50, 2)), "alike"),
    ],
)
def test_points_that_cannot_be_tested_are_refused(points, says):
    with pytest.raises(InputError, match=says):
        continuity(points, seed=0)


def test_too_few_surrogates_are_refused():
    with pytest.raises(ValueError, match="19"):
        continuity(population("sheet", 60, rng()), surrogates=18, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_populations_have_their_noise_and_size(kind):
    points = population(kind, 4000, rng())
    spread = np.linalg.eigvalsh(np.cov(points.T))
    noise = KINDS[kind][1]
    assert spread[0] == pytest.approx(noise**2, rel=0.15)
    assert knn_graph(points[:100], 5).shape == (100, 100)
    assert nearest(points[:50], 3)[0].shape == (50, 3)


@pytest.mark.slow
def test_the_verdict_is_right_on_populations_it_was_not_made_with():
    """Three of each: no continuum called clustered more than once, no clusters missed."""
    called = {
        kind: sum(
            continuity(population(kind, 250, rng(7000 + k)), surrogates=19, seed=k).attrs["verdict"]
            == "clustered"
            for k in range(3)
        )
        for kind in ("sheet", "ring", "curved sheet", "clusters", "overlapping clusters")
    }
    assert max(called[kind] for kind in ("sheet", "ring", "curved sheet")) <= 1
    assert called["clusters"] == 3
    assert called["overlapping clusters"] >= 2
