"""Continuous surrogates of a population of points: its shape without its gaps."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform

from driftwave.graphs.knn import nearest
from driftwave.graphs.statistics import spanning_tree

DENSITY_NEIGHBOURS = 20
FEWEST_DENSITY_NEIGHBOURS = 8
FIRST_SHARE = 0.18
WIDER = 1.5
DEEPEST = 1.6
FEW = 75
FILLED = 0.6
DRAWS = 4
TURNS = 10
BLOCK = 10**7


def surrogate_neighbours(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Neighbourhoods (point, neighbour) just wide enough to fill the gaps.

    18 % of the points. Where surrogates then have a second mode deeper than chance makes of an even
    ring of as many points (``deepest_by_chance``; mean of ``DRAWS`` draws), the neighbourhood is
    about a cluster or smaller, and grows by halves until their second mode is no deeper than
    ``FILLED`` of that; all other points at the most.
    """
    count = max(3, round(FIRST_SHARE * len(points)))
    bound = deepest_by_chance(len(points))
    while True:
        count = min(count, len(points) - 1)
        index = nearest(points, count)[1]
        depth = np.mean([prominence(smoothed(points, index, rng)) for _ in range(DRAWS)])
        if depth <= bound or count == len(points) - 1:
            return index
        # A gap that has begun to close is still a gap: shallow valleys would pass for chance.
        bound = FILLED * deepest_by_chance(len(points))
        count = round(WIDER * count)


def density_neighbours(points: int) -> int:
    """Neighbour whose distance gives the density: fewer than the points of a small cluster."""
    return int(np.clip(points // 15, FEWEST_DENSITY_NEIGHBOURS, DENSITY_NEIGHBOURS))


def deepest_by_chance(points: int) -> float:
    """Nats of density by which the second mode of an even continuum may stand out by chance.

    One dimension is the worst case, as no path leads round a sparse place: the bound lies above the
    depths of surrogates of 80 rings of 40 to 600 points. It falls with the neighbours k of the
    density as k^(-1/3), and with few points, where k neighbours reach across any valley.
    """
    neighbours = density_neighbours(points)
    return DEEPEST * float(np.cbrt(DENSITY_NEIGHBOURS / neighbours)) * min(1.0, points / FEW)


def smoothed(points: np.ndarray, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r"""Every point moved at random within its neighbourhood, the covariance kept.

    :math:`x_i^* = m_i + (x_i - m_i + \delta_i) / \sqrt 2` with :math:`m_i` the mean of the
    neighbours and :math:`\delta_i` Gaussian with their covariance, so that neither the noise about
    a manifold nor its thickness grows; then a linear map close to 1 makes the covariance exactly
    that of the points.

    Parameters
    ----------
    points : ndarray (point, feature)
    index : ndarray (point, neighbour)
        Neighbours of each point.
    rng : Generator
    """
    weight = rng.standard_normal(index.shape) / np.sqrt(index.shape[1])
    moved = np.empty_like(points)
    # All neighbourhoods at once would fill the memory.
    rows = max(1, BLOCK // (index.shape[1] * points.shape[1]))
    for start in range(0, len(points), rows):
        block = slice(start, start + rows)
        nearby = points[index[block]]
        middle = nearby.mean(axis=1)
        step = np.einsum("ik,ikf->if", weight[block], nearby - middle[:, None])
        moved[block] = middle + (points[block] - middle + step) / np.sqrt(2)
    return _with_covariance(moved, points)


def shuffled_loadings(loading: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Loadings (point, factor) shuffled over points.

    Each factor is shuffled by itself, which keeps its marginal, zeros included, and nothing of what
    goes with what. Points of unit norm have no loadings independent of each other: so, in turns,
    each point gets back the sum of loadings that it had, and each factor, in the order it then has,
    the values it had.

    Parameters
    ----------
    loading : ndarray (point, factor)
        Not negative.
    rng : Generator
    """
    mixed = rng.permuted(loading, axis=0)
    wanted, values = loading.sum(axis=1), np.sort(loading, axis=0)
    for _ in range(TURNS):
        total = mixed.sum(axis=1)
        scaled = mixed * (wanted / np.where(total > 0, total, 1))[:, None]
        order = scaled.argsort(axis=0, kind="stable")
        np.put_along_axis(mixed, order, values, axis=0)
    return mixed


def _with_covariance(points: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Points moved as little as possible to have mean and covariance of the model.

    In the model's whitened coordinates, times the inverse root of their covariance there.
    """
    centre = model.mean(axis=0)
    _, spread, axes = np.linalg.svd(model - centre, full_matrices=False)
    kept = spread > 1e-10 * spread[0]
    spread, axes = spread[kept], axes[kept]
    white = (points - points.mean(axis=0)) @ axes.T / spread
    variance, turn = np.linalg.eigh(white.T @ white)
    root = (turn / np.sqrt(np.maximum(variance, 1e-12))) @ turn.T
    return centre + (white @ root * spread) @ axes


def prominence(points: np.ndarray) -> float:
    """Depth, in nats of density, of the deepest valley that parts a second mode from a higher one.

    Density by the distance to the 8th (few points) to 20th neighbour, at points and at the middle
    of the edges of the union of 10-nearest-neighbour graph and minimum spanning tree; modes and the
    saddles joining them by union-find from the highest density down (0-dimensional persistence).

    Parameters
    ----------
    points : ndarray (point, feature)
    """
    tiny = np.finfo(float).tiny
    tree = cKDTree(points)
    wanted = min(density_neighbours(len(points)), (len(points) - 1) // 2)
    distance, index = tree.query(points, wanted + 1)
    # The dimension by which distance becomes density is that at the scale it is measured.
    growth = np.log(
        np.maximum(distance[:, wanted], tiny) / np.maximum(distance[:, wanted // 2], tiny)
    )
    dimension = np.log(2) / max(float(np.median(growth)), 1e-3)
    edges = _edges(points, index[:, 1 : min(11, wanted + 1)])
    height = -dimension * np.log(np.maximum(distance[:, wanted], tiny))
    middle = (points[edges[:, 0]] + points[edges[:, 1]]) / 2
    between = -dimension * np.log(np.maximum(tree.query(middle, wanted + 1)[0][:, -1], tiny))
    level = np.minimum(between, height[edges].min(axis=1))
    order = np.argsort(-level)
    return _second_mode(height, edges[order], level[order])


def _edges(points: np.ndarray, index: np.ndarray) -> np.ndarray:
    row = np.repeat(np.arange(len(points)), index.shape[1])
    tree, _ = spanning_tree(squareform(pdist(points)))
    pairs = np.concatenate([np.column_stack([row, index.ravel()]), tree])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _second_mode(height: np.ndarray, edges: np.ndarray, level: np.ndarray) -> float:
    root = list(range(len(height)))
    peak = height.tolist()

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    deepest = 0.0
    for (a, b), saddle in zip(edges.tolist(), level.tolist(), strict=True):
        first, second = find(a), find(b)
        if first == second:
            continue
        if peak[first] < peak[second]:
            first, second = second, first
        deepest = max(deepest, peak[second] - saddle)
        root[second] = first
    return deepest
