"""Self-tuning k-nearest-neighbour graph (Zelnik-Manor and Perona, NIPS 2004)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from driftwave.graphs.checks import checked_points

SCALE_NEIGHBOUR = 7


def nearest(points: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (point, neighbour) of the nearest other points, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    # Asked without X, scikit-learn leaves each point out of its own neighbours, duplicates or not.
    return NearestNeighbors(n_neighbors=neighbours).fit(points).kneighbors()


def knn_graph(
    points: ArrayLike, neighbours: int = 10, *, scale_neighbour: int = SCALE_NEIGHBOUR
) -> sp.csr_array:
    r"""Affinities of points that are among each other's nearest, at each point's own scale.

    :math:`A_{ij} = \exp(-d_{ij}^2 / \sigma_i \sigma_j)`, with :math:`\sigma_i` the distance from
    point i to its ``scale_neighbour``-th neighbour, kept where i is among the k nearest of j or j
    among those of i (Zelnik-Manor and Perona 2004, eq. 1; the cut to k neighbours keeps it sparse).

    Parameters
    ----------
    points : array (point, feature)
    neighbours : int
        k, neighbours of each point.
    scale_neighbour : int
        Neighbour whose distance is the scale; the k-th where k is smaller.

    Returns
    -------
    csr_array (point, point)
        Symmetric, zero diagonal.

    Raises
    ------
    InputError
        If there are no more than k points, or values are not finite, or all points coincide.

    Notes
    -----
    A point with so many duplicates that its scale is 0 takes the smallest positive distance to a
    neighbour there is: duplicates then have affinity 1, and other points are as good as apart.
    """
    if neighbours < 1 or scale_neighbour < 1:
        raise ValueError("neighbours and scale_neighbour must be at least 1")
    array = checked_points(points, least=neighbours + 1)
    distance, index = nearest(array, neighbours)
    scale = distance[:, min(scale_neighbour, neighbours) - 1]
    positive = distance[distance > 0]
    floor = positive.min() if positive.size else 1.0
    scale = np.where(scale > 0, scale, floor)
    row = np.repeat(np.arange(len(array)), neighbours)
    column = index.ravel()
    weight = np.exp(-(distance.ravel() ** 2) / (scale[row] * scale[column]))
    # Affinities too small for a float would silently cut an edge.
    weight = np.maximum(weight, np.finfo(float).tiny)
    directed = sp.csr_array((weight, (row, column)), shape=(len(array), len(array)))
    return sp.csr_array(directed.maximum(directed.T))
