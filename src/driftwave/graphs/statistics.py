"""Statistics that tell clustered points from a continuum, and two that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist, squareform

from driftwave.graphs.ian import ian_graph
from driftwave.graphs.knn import knn_graph

GraphKind = Literal["knn", "ian"]

# 1 where large values speak for clusters, -1 where small ones do.
EVIDENCE = {"silhouette": 1, "hdbscan_noise": -1, "between_weight": -1, "mst_tail": 1}
NO_EVIDENCE = {"cluster_count": 1, "modularity": 1}
CLUSTERS = (2, 3, 4, 6, 8, 12)
TAIL = 0.02


def statistics_of(
    points: ArrayLike,
    *,
    neighbours: int = 10,
    graph: GraphKind = "knn",
    seed: int = 0,
    clusters: Sequence[int] = CLUSTERS,
) -> dict[str, float]:
    """All statistics of one population: keys of ``EVIDENCE`` and ``NO_EVIDENCE``.

    Parameters
    ----------
    points : array (point, feature)
    neighbours : int
        Of the graph for Louvain's communities.
    graph : str
        "knn": self-tuning neighbour graph; "ian": iterated adaptive neighbourhoods.
    seed : int
        Of k-means and Louvain.
    clusters : sequence of int
        Numbers of clusters k-means tries.
    """
    array = np.asarray(points, dtype=float)
    distance = squareform(pdist(array))
    noise, count = hdbscan_summary(array)
    between, modularity = community_weights(_graph(array, neighbours, graph), seed=seed)
    return {
        "silhouette": best_silhouette(array, distance, clusters, seed=seed),
        "hdbscan_noise": noise,
        "between_weight": between,
        "mst_tail": tree_tail(distance),
        "cluster_count": count,
        "modularity": modularity,
    }


def _graph(points: np.ndarray, neighbours: int, graph: GraphKind) -> sp.csr_array:
    if graph == "knn":
        return knn_graph(points, neighbours)
    found = ian_graph(points)
    # The kernel reaches hundreds of points; communities are those of the neighbourhoods.
    return sp.csr_array(found.affinity.multiply(found.adjacency))


def best_silhouette(
    points: np.ndarray, distance: np.ndarray, clusters: Sequence[int], *, seed: int
) -> float:
    """Largest mean silhouette (Rousseeuw 1987) among k-means partitions."""
    from sklearn.cluster import KMeans

    return max(
        mean_silhouette(
            distance, KMeans(k, n_init=1, random_state=seed, max_iter=50).fit_predict(points)
        )
        for k in clusters
        if k < len(points)
    )


def mean_silhouette(distance: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of a partition; points alone in their cluster count as 0.

    Parameters
    ----------
    distance : ndarray (point, point)
    labels : ndarray (point,)
    """
    _, labels = np.unique(labels, return_inverse=True)
    size = np.bincount(labels)
    member = np.eye(len(size))[labels]
    total = distance @ member
    row = np.arange(len(labels))
    own = total[row, labels] / np.maximum(size[labels] - 1, 1)
    other = total / size
    other[row, labels] = np.inf
    nearest = other.min(axis=1)
    scale = np.maximum(np.maximum(own, nearest), np.finfo(float).tiny)
    return float(np.where(size[labels] > 1, (nearest - own) / scale, 0.0).mean())


def hdbscan_summary(points: np.ndarray) -> tuple[float, int]:
    """Share of points that HDBSCAN calls noise, and its number of clusters."""
    from sklearn.cluster import HDBSCAN

    smallest = smallest_cluster(len(points))
    labels = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(points)
    return float((labels < 0).mean()), int(labels.max() + 1)


def community_weights(affinity: sp.csr_array, *, seed: int) -> tuple[float, float]:
    """Share of edge weight between Louvain's communities, and their modularity.

    Blondel et al. 2008, as in networkx.
    """
    import networkx as nx

    graph = nx.from_scipy_sparse_array(affinity)
    communities = nx.community.louvain_communities(graph, seed=seed)
    labels = np.empty(affinity.shape[0], dtype=int)
    for label, members in enumerate(communities):
        labels[list(members)] = label
    edges = affinity.tocoo()
    same = labels[edges.row] == labels[edges.col]
    total = edges.data.sum()
    inside = edges.data[same].sum() / total
    degree = np.bincount(labels, weights=affinity.sum(axis=1)) / total
    return float(1 - inside), float(inside - (degree**2).sum())


def tree_tail(distance: np.ndarray) -> float:
    """Length of the longest edges of the minimum spanning tree over the median edge.

    Only edges that part at least ``smallest_cluster`` points from the rest count, so that outlying
    points do not pass for gaps; of these, the mean of as many as a fiftieth of the points.

    Parameters
    ----------
    distance : ndarray (point, point)
    """
    edges, lengths = spanning_tree(distance)
    size = np.ones(len(distance), dtype=int)
    # Prim reaches a point after its source: walked backwards, whole branches are counted.
    for source, reached in edges[::-1]:
        size[source] += size[reached]
    branch = size[edges[:, 1]]
    parting = np.minimum(branch, len(distance) - branch) >= smallest_cluster(len(distance))
    count = max(1, round(TAIL * len(lengths)))
    longest = np.sort(lengths[parting] if parting.any() else lengths)[-count:]
    # Duplicates have edges of length 0, which are no typical spacing.
    return float(longest.mean() / np.median(lengths[lengths > 0]))


def smallest_cluster(points: int) -> int:
    """Fewest points that count as a cluster: a fortieth of all, at least 5."""
    return max(5, points // 40)


def spanning_tree(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimum spanning tree of a full distance matrix (Prim 1957, quicker here than Kruskal).

    Parameters
    ----------
    distance : ndarray (point, point)

    Returns
    -------
    edges : ndarray (point - 1, 2)
    lengths : ndarray (point - 1,)
    """
    size = len(distance)
    best, source = distance[0].copy(), np.zeros(size, dtype=int)
    best[0] = np.inf
    outside = np.ones(size, dtype=bool)
    outside[0] = False
    edges, lengths = np.empty((size - 1, 2), dtype=int), np.empty(size - 1)
    for step in range(size - 1):
        one = int(best.argmin())
        edges[step], lengths[step] = (source[one], one), best[one]
        outside[one], best[one] = False, np.inf
        closer = outside & (distance[one] < best)
        best[closer], source[closer] = distance[one][closer], one
    return edges, lengths
