"""Gromov-Wasserstein distance between two manifolds, beside that between halves of each."""

from __future__ import annotations

from typing import Literal

import dask
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist, squareform

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.graphs.checks import checked_points
from driftwave.graphs.knn import nearest

LEAST_POINTS = 20


def gromov_wasserstein(
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int,
    metric: Literal["euclidean", "geodesic"] = "euclidean",
    points: int = 150,
    repeats: int = 5,
    neighbours: int = 10,
    scaled: bool = True,
) -> xr.Dataset:
    r"""How differently two manifolds are shaped, whatever space and order their points come in.

    :math:`GW^2 = \min_\pi \sum (d_{ik} - d'_{jl})^2 \pi_{ij} \pi_{kl}` over couplings with uniform
    marginals (Mémoli 2011, eq. 5.6; conditional gradient of POT from two starts, the lower kept),
    between random subsets of equal size. The floor is the same distance between two disjoint
    random subsets of one manifold: what sampling alone makes.

    Parameters
    ----------
    first, second : array (point, coordinate)
        Rows with NaN (points of components too small to be embedded) are left out.
    seed : int
    metric : str
        Euclidean, as fits diffusion coordinates; or geodesic: shortest paths in the
        k-nearest-neighbour graph, components joined by their shortest gaps.
    points : int
        Size of the subsets; half of the smaller manifold at the most.
    repeats : int
        Random subsets.
    neighbours : int
        Of the geodesic graph.
    scaled : bool
        Divide by the mean distance within each manifold: shape without size.

    Returns
    -------
    Dataset
        ``distance`` (repeat); ``floor`` (manifold, repeat); ``excess``, mean distance over the
        larger of the manifolds' mean floors. Attribute ``points``.

    Raises
    ------
    InputError
        If fewer than 40 points are left of either manifold, or all points of one are alike.
    """
    spaces = [_distances(one, metric, neighbours, scaled) for one in (first, second)]
    size = min(points, *(len(space) // 2 for space in spaces))
    pairs = {"distance": (0, 1), "first": (0, 0), "second": (1, 1)}
    tasks = [
        dask.delayed(_between)(
            spaces[a], spaces[b], a == b, size, generator(seed, "gromov", name, str(number))
        )
        for name, (a, b) in pairs.items()
        for number in range(repeats)
    ]
    values = np.reshape(dask.compute(*tasks), (3, repeats))
    about = {"units": "1" if scaled else "units of the coordinates"}
    floor = values[1:].mean(axis=1).max()
    return xr.Dataset(
        {
            "distance": ("repeat", values[0], about),
            "floor": (("manifold", "repeat"), values[1:], about),
            "excess": ((), values[0].mean() / max(floor, np.finfo(float).tiny), {"units": "1"}),
        },
        coords={"manifold": ["first", "second"]},
        attrs={"points": size, "metric": metric},
    )


def _distances(coordinates: ArrayLike, metric: str, neighbours: int, scaled: bool) -> np.ndarray:
    array = np.asarray(coordinates, dtype=float)
    if array.ndim == 2:
        array = array[np.isfinite(array).all(axis=1)]
    array = checked_points(array, least=2 * LEAST_POINTS)
    distance = squareform(pdist(array))
    if metric == "geodesic":
        distance = geodesics(array, distance, neighbours)
    return distance / distance.mean() if scaled else distance


def geodesics(points: np.ndarray, distance: np.ndarray, neighbours: int) -> np.ndarray:
    """Shortest paths (point, point) in the union of neighbour graph and minimum spanning tree."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import shortest_path

    from driftwave.graphs.statistics import spanning_tree

    wanted = min(neighbours, len(points) - 1)
    row, column = np.repeat(np.arange(len(points)), wanted), nearest(points, wanted)[1].ravel()
    tree, _ = spanning_tree(distance)
    row, column = np.append(row, tree[:, 0]), np.append(column, tree[:, 1])
    # A sum would double edges listed twice.
    edges = np.unique(np.sort(np.column_stack([row, column]), axis=1), axis=0)
    length = np.maximum(distance[edges[:, 0], edges[:, 1]], np.finfo(float).tiny)
    graph = sp.csr_array((length, edges.T), shape=distance.shape)
    return shortest_path(graph, directed=False)


def _between(
    first: np.ndarray, second: np.ndarray, same: bool, size: int, rng: np.random.Generator
) -> float:
    chosen = rng.permutation(len(first))
    one = chosen[:size]
    other = chosen[size : 2 * size] if same else rng.permutation(len(second))[:size]
    return coupled_distance(first[np.ix_(one, one)], second[np.ix_(other, other)])


def coupled_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Gromov-Wasserstein distance of two distance matrices (point, point) of any sizes."""
    from ot.gromov import gromov_wasserstein2

    p, q = (np.full(len(one), 1 / len(one)) for one in (first, second))
    # The problem is not convex: one start knows nothing, the other pairs points by eccentricity.
    starts = [np.outer(p, q), _by_eccentricity(first, second)]
    found = [
        gromov_wasserstein2(first, second, p, q, loss_fun="square_loss", G0=start, max_iter=500)
        for start in starts
    ]
    value = float(min(found))
    if not np.isfinite(value):
        raise InputError(
            file="manifolds", field="distances", found="a distance that is not finite",
            expected="finite distances", fix="look for points far from all others",
        )  # fmt: skip
    return float(np.sqrt(max(value, 0.0)))


def _by_eccentricity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Monotone coupling of the points' mean distances (north-west corner rule)."""
    from ot.lp import emd_1d

    return np.asarray(emd_1d(first.mean(axis=1), second.mean(axis=1)))
