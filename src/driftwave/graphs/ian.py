"""Iterated adaptive neighbourhoods (Dyballa and Zucker 2023, Neural Computation 35:453)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.stats import norm

from driftwave.graphs import ian_compiled as compiled
from driftwave.graphs.checks import checked_points
from driftwave.graphs.components import components_of
from driftwave.graphs.ian_scales import linear_scales
from driftwave.graphs.knn import nearest

LEAST_THRESHOLD, MOST_THRESHOLD = 2.75, 5.0
SPREADS = 4.5
MEDIAN_TOLERANCE = 0.1
SHARE_PRUNED = 0.1
LEAST_WEIGHT = 1e-8
EXACT_BELOW = 2000

Solver = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class IanGraph:
    """Neighbourhood graph and multiscale kernel.

    Attributes
    ----------
    adjacency : csr_array (point, point)
        Pruned Gabriel graph, 1 at edges.
    affinity : csr_array (point, point)
        Multiscale Gaussian kernel, zero diagonal; 0 between components of the adjacency.
    scale : ndarray (point,)
        Of the kernel, in the units of the points; 0 for points that lost all edges.
    factor : float
        C of the kernel, tuned so that the median volume ratio is 1.
    pruned, iterations : int
        Edges taken from the Gabriel graph, and in how many rounds.
    """

    adjacency: sp.csr_array
    affinity: sp.csr_array
    scale: np.ndarray
    factor: float
    pruned: int
    iterations: int


@dataclass
class _Edges:
    """Edges of the graph that are left: ends (edge, 2) and lengths (edge,), longest first."""

    ends: np.ndarray
    length: np.ndarray

    def degree(self, size: int) -> np.ndarray:
        return np.bincount(self.ends.ravel(), minlength=size)

    def farthest(self, size: int) -> np.ndarray:
        """Distance to each point's farthest neighbour; 0 without any."""
        far = np.zeros(size)
        np.maximum.at(far, self.ends.ravel(), np.repeat(self.length, 2))
        return far


def ian_graph(
    points: ArrayLike,
    *,
    scales: Literal["greedy", "linear"] = "greedy",
    candidates: int | None = None,
) -> IanGraph:
    r"""Graph whose neighbourhoods agree with a kernel of one scale per point.

    From the Gabriel graph, in turns: scales :math:`\sigma` as small as the edges allow
    (:math:`\sigma_i \sigma_j \ge C^2 d_{ij}^2`, :math:`\sigma_i` at most the farthest neighbour's
    distance); volume ratio
    :math:`\delta_i = \sum_j e^{-d_{ij}^2/\sigma_i^2} / [n_i (\sqrt\pi/2)^{\log_2 n_i}]` with
    :math:`n_i` the degree; points whose ratio is an outlier lose their longest edge. It ends
    without outliers. C is tuned so that the median ratio is 1 (section 3 of the paper). The kernel
    is :math:`e^{-d_{ij}^2 / \sigma_i \sigma_j}` at a C tuned for the kernel's own ratios.

    Parameters
    ----------
    points : array (point, feature)
    scales : str
        "linear": least sum of scales by linear programme; "greedy": edge by edge, far quicker.
    candidates : int, optional
        Nearest points that can be neighbours; all below 2,000 points, else 500.

    Raises
    ------
    InputError
        With fewer than 4 points, values that are not finite, or all points alike.

    Notes
    -----
    Duplicates are treated as one point and get its edges; among themselves their affinity is 1.
    """
    array = checked_points(points, least=4)
    unique, copy = np.unique(array, axis=0, return_inverse=True)
    copy = copy.ravel()
    checked_points(unique, least=4)
    limit = len(unique) - 1 if len(unique) < EXACT_BELOW else min(500, len(unique) - 1)
    wanted = limit if candidates is None else min(candidates, len(unique) - 1)
    distance, index = _ordered(unique, wanted)
    unit = float(distance[:, 0].min())
    distance /= unit
    solve = compiled.greedy_scales if scales == "greedy" else linear_scales
    edges = _gabriel(unique / unit, distance, index)
    factor, before, rounds = _first_factor(edges, len(unique)), len(edges.length), 0
    while True:
        factor, _, ratio = _tuned(edges, distance, index, factor, solve, weighted=False)
        chosen = _outliers(ratio)
        if not len(chosen):
            break
        edges = _pruned(edges, chosen, len(unique))
        rounds += 1
    factor, scale, _ = _tuned(edges, distance, index, factor, solve, weighted=True)
    adjacency = _matrix(edges.ends, np.ones(len(edges.ends)), len(unique))
    affinity = _kernel(distance, index, scale, components_of(adjacency))
    return IanGraph(
        _expanded(adjacency, copy),
        _expanded(affinity, copy),
        scale[copy] * unit,
        factor,
        before - len(edges.length),
        rounds,
    )


def _ordered(points: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (point, neighbour) of the nearest other points, nearest first."""
    if wanted < len(points) - 1:
        return nearest(points, wanted)
    # A tree is several times slower than sorting where all pairs are asked for.
    apart = cdist(points, points)
    np.fill_diagonal(apart, -1)
    index = np.argsort(apart, axis=1)[:, 1:]
    return np.take_along_axis(apart, index, axis=1), index


def _gabriel(points: np.ndarray, distance: np.ndarray, index: np.ndarray) -> _Edges:
    ends, length = compiled.gabriel_edges(points, distance, index)
    ends, first = np.unique(np.sort(ends, axis=1), axis=0, return_index=True)
    order = np.argsort(-length[first], kind="stable")
    return _Edges(ends[order], length[first][order])


def _first_factor(edges: _Edges, size: int) -> float:
    """C from how far the median neighbour is beside the farthest."""
    far = edges.farthest(size)
    ratios = []
    both = np.concatenate([edges.ends[:, 0], edges.ends[:, 1]])
    length = np.tile(edges.length, 2)
    order = np.lexsort((length, both))
    for own in np.split(length[order], np.cumsum(np.bincount(both, minlength=size))[:-1]):
        if len(own):
            middle = min(len(own) - 1, max(1, int(np.ceil(len(own) / 2)) - 1))
            ratios.append(own[middle])
    return float(np.clip(np.median(np.array(ratios) / far[far > 0]), 0.55, 0.95))


def _tuned(
    edges: _Edges,
    distance: np.ndarray,
    index: np.ndarray,
    factor: float,
    solve: Solver,
    *,
    weighted: bool,
) -> tuple[float, np.ndarray, np.ndarray]:
    """C, scales and volume ratios with the median ratio within the tolerance of 1, by bisection."""
    size = len(distance)
    degree, far = edges.degree(size), edges.farthest(size)
    low, high = min(factor, 0.5), max(factor, 1.0)
    for _ in range(20):
        scale = solve(edges.ends, edges.length, far, factor)
        ratio = compiled.volume_ratios(distance, index, scale, degree, weighted)
        error = float(np.median(ratio[ratio > 0])) - 1
        end = low if error > 0 else high
        if abs(error) <= MEDIAN_TOLERANCE or np.isclose(factor, end):
            break
        low, high = (low, factor) if error > 0 else (factor, high)
        factor = (low + high) / 2
    return factor, scale, ratio


def _outliers(ratio: np.ndarray) -> np.ndarray:
    """Points to lose an edge in this round, greatest ratio first."""
    known = ratio[ratio > 0]
    error = float(np.median(known)) - 1
    first, middle, third = np.percentile(known, [25, 50, 75])
    count = len(known)
    # Mean and deviation from quartiles: Wan et al. 2014, scenario C3.
    mean = (first + middle + third) / 3
    spread = (third - first) / (2 * norm.ppf((0.75 * count - 0.125) / (count + 0.25)))
    threshold = max(LEAST_THRESHOLD, mean + SPREADS * spread)
    if (known <= threshold).all():
        threshold = min(threshold, MOST_THRESHOLD - error)
    order = np.argsort(-ratio, kind="stable")
    above = int((ratio > threshold).sum())
    if error > MEDIAN_TOLERANCE:
        above = max(above, count - 2 * int((known < 1 + MEDIAN_TOLERANCE).sum()))
    return order[: max(1, int(SHARE_PRUNED * above))] if above else order[:0]


def _pruned(edges: _Edges, chosen: np.ndarray, size: int) -> _Edges:
    """Without the longest edge of each chosen point; no point loses two in one round."""
    count = len(edges.length)
    longest = np.full(size, count)
    # Edges are sorted, longest first.
    np.minimum.at(longest, edges.ends.ravel(), np.repeat(np.arange(count), 2))
    seen = np.zeros(size, dtype=bool)
    kept = np.ones(count, dtype=bool)
    for one in longest[chosen]:
        if one < count and not seen[edges.ends[one]].any():
            kept[one] = False
            seen[edges.ends[one]] = True
    return _Edges(edges.ends[kept], edges.length[kept])


def _kernel(
    distance: np.ndarray, index: np.ndarray, scale: np.ndarray, of: np.ndarray
) -> sp.csr_array:
    size, wanted = index.shape
    row, column = np.repeat(np.arange(size), wanted), index.ravel()
    product = scale[row] * scale[column]
    near = (product > 0) & (of[row] == of[column])
    weight = np.zeros(len(row))
    weight[near] = np.exp(-(distance.ravel()[near] ** 2) / product[near])
    kept = weight > LEAST_WEIGHT
    graph = sp.csr_array((weight[kept], (row[kept], column[kept])), shape=(size, size))
    return sp.csr_array(graph.maximum(graph.T))


def _matrix(ends: np.ndarray, weight: np.ndarray, size: int) -> sp.csr_array:
    half = sp.csr_array((weight, (ends[:, 0], ends[:, 1])), shape=(size, size))
    return sp.csr_array(half + half.T)


def _expanded(graph: sp.csr_array, copy: np.ndarray) -> sp.csr_array:
    if len(copy) == graph.shape[0]:
        return sp.csr_array(graph[copy][:, copy])
    full = sp.lil_array((graph + sp.eye_array(graph.shape[0])).tocsr()[copy][:, copy])
    full.setdiag(0)
    result = sp.csr_array(full)
    result.eliminate_zeros()
    return result
