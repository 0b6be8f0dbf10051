r"""Circular coordinates: the angle round a loop of a cloud, from its persistent cohomology.

De Silva, Morozov and Vejdemo-Johansson 2011 (10.1007/s00454-011-9344-x): a class of degree 1 over
:math:`Z/p`, lifted to integers :math:`c`, has one harmonic representative
:math:`\bar c = c + \delta f`, whose :math:`f` modulo 1 is the angle. Extended to any point as
Perea 2020 (10.1007/s00454-019-00123-x, theorem 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform

# Landmarks that the coordinate of a point is interpolated between, at most.
NEAREST = 8
# Steps and smoothing (turns) of the reparametrisation by length.
GRID, LENGTH_SMOOTHING = 180, 0.03


@dataclass(frozen=True)
class CircularCoordinate:
    """The angle round one loop.

    Attributes
    ----------
    position : ndarray (point, component)
        Landmarks with a coordinate: those of the component of the graph that holds the loop.
    turns : ndarray (point,)
        Their coordinate in turns (1 is once round), not reduced modulo 1.
    change : ndarray (point, point)
        Turns from one landmark to a neighbour along the harmonic cocycle; NaN between landmarks
        that are no neighbours.
    width : float
        Standard deviation of the Gaussian that weights neighbours.
    by_length : ndarray (grid,)
        Share of the loop's length that lies before each of evenly spaced turns, from 0 to 1.
    """

    position: np.ndarray
    turns: np.ndarray
    change: np.ndarray
    width: float
    by_length: np.ndarray

    def angle(self, cloud: np.ndarray) -> np.ndarray:
        """Angle (row,), radians in [0, 2 pi), of points (row, component) on or off the landmarks.

        Of each point the nearest landmark j gives :math:`f_j`, and its neighbours r near the point
        :math:`sum_r phi_r bar c_{jr}` with Gaussian weights phi: continuous along the loop. It is
        then reparametrised so that it advances evenly with distance.
        """
        count = min(NEAREST, len(self.position))
        distance, nearest = cKDTree(self.position).query(cloud, [*range(1, count + 1)])
        # Relative to the nearest one, so that far points keep finite weights.
        weight = np.exp(-(distance**2 - distance[:, :1] ** 2) / (2 * self.width**2))
        change = self.change[nearest[:, :1], nearest]
        weight[np.isnan(change)] = 0
        step = (weight * np.nan_to_num(change)).sum(axis=1) / weight.sum(axis=1)
        turns = (self.turns[nearest[:, 0]] + step) % 1.0
        return 2 * np.pi * np.interp(turns, np.linspace(0, 1, len(self.by_length)), self.by_length)


def circular_coordinate(
    position: np.ndarray, cocycle: np.ndarray, birth: float, death: float, prime: int
) -> CircularCoordinate | None:
    """The circular coordinate of one class of degree 1.

    The graph joins landmarks nearer than the middle of birth and death. Its edges are weighted by
    a Gaussian of their length, divided by the density at both ends (Coifman and Lafon's alpha = 1).
    A harmonic angle still hurries where the loop is thin, as a current does; so it is
    reparametrised by :func:`length_before`.

    Parameters
    ----------
    position : ndarray (point, component)
    cocycle : ndarray (edge, 3)
        Two landmarks and the coefficient of the edge from the first to the second, modulo
        ``prime``.
    birth, death : float
        Of the class.
    prime : int

    Returns
    -------
    CircularCoordinate or None
        None if the coefficients do not lift to integers.
    """
    reach = (birth + death) / 2
    distance = squareform(pdist(position))
    near = (distance <= reach) & ~np.eye(len(position), dtype=bool)
    coefficient = lifted(cocycle, len(position), prime) * near
    if not is_cocycle(coefficient, near):
        return None
    label = connected_components(csr_matrix(near), directed=False)[1]
    carried = np.bincount(label, np.abs(coefficient).sum(axis=1))
    inside = np.flatnonzero(label == carried.argmax())
    part = np.ix_(inside, inside)
    width = reach / 2
    near, coefficient = near[part], coefficient[part]
    turns = harmonic(coefficient, _weights(distance[part], near, width))
    change = np.where(near, coefficient + turns[None, :] - turns[:, None], np.nan)
    np.fill_diagonal(change, 0.0)
    by_length = length_before(turns, change, distance[part], width)
    return CircularCoordinate(position[inside], turns, change, width, by_length)


def length_before(
    turns: np.ndarray, change: np.ndarray, distance: np.ndarray, width: float
) -> np.ndarray:
    """Share (grid,) of a loop's length before each of evenly spaced turns from 0 to 1.

    The angle's slope at a landmark is the root mean square of its change per distance to the
    neighbours, weighted by their nearness; length grows by one over it. Slopes are averaged along
    the loop with a Gaussian of ``LENGTH_SMOOTHING`` turns.
    """
    near = np.isfinite(change) & (distance > 0)
    weight = np.where(near, np.exp(-(distance**2) / (2 * width**2)), 0.0)
    slope = np.divide(change, distance, out=np.zeros_like(distance), where=near)
    slope = (weight * slope**2).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300)
    grid = (np.arange(GRID) + 0.5) / GRID
    away = (grid[:, None] - turns[None, :] + 0.5) % 1.0 - 0.5
    kernel = np.exp(-(away**2) / (2 * LENGTH_SMOOTHING**2)) + 1e-12
    mean = np.sqrt((kernel * slope).sum(axis=1) / kernel.sum(axis=1))
    length = np.concatenate([[0.0], np.cumsum(1 / np.maximum(mean, 1e-12))])
    return length / length[-1]


def lifted(cocycle: np.ndarray, points: int, prime: int) -> np.ndarray:
    """Integer coefficients (point, point), antisymmetric: those above half the prime are negative.

    The coefficient at [i, j] is that of the edge from i to j.
    """
    matrix = np.zeros((points, points))
    if len(cocycle):
        first, second, value = np.asarray(cocycle, dtype=int).T
        value = np.where(value > prime // 2, value - prime, value)
        matrix[first, second] = value
        matrix[second, first] = -value
    return matrix


def is_cocycle(coefficient: np.ndarray, near: np.ndarray) -> bool:
    """Whether coefficients add up to zero round every triangle of the graph."""
    for k in range(len(near)):
        around = np.flatnonzero(near[k])
        inside = np.ix_(around, around)
        total = (
            coefficient[inside] + coefficient[around, k][None, :] - coefficient[around, k][:, None]
        )
        if (total[near[inside]] != 0).any():
            return False
    return True


def _weights(distance: np.ndarray, near: np.ndarray, width: float) -> np.ndarray:
    kernel = np.exp(-(distance**2) / (2 * width**2))
    density = (kernel * (near | np.eye(len(near), dtype=bool))).sum(axis=1)
    return np.where(near, kernel / np.outer(density, density), 0.0)


def harmonic(coefficient: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""f (point,) that minimises :math:`sum_{ij} w_{ij} (c_{ij} + f_j - f_i)^2`.

    Weighted least squares by the graph Laplacian's normal equations
    :math:`(D - W) f = (sum_j w_{ij} c_{ij})_i`, sparse, with f of the first point held at zero.

    Parameters
    ----------
    coefficient : ndarray (point, point)
        Antisymmetric.
    weight : ndarray (point, point)
        Symmetric, of a connected graph.
    """
    first, second = np.nonzero(weight)
    joined = coo_matrix((weight[first, second], (first, second)), shape=weight.shape).tocsr()
    laplacian = (diags(np.asarray(joined.sum(axis=1)).ravel()) - joined).tocsc()
    pulled = (weight * coefficient).sum(axis=1)
    turns = np.zeros(len(weight))
    if len(weight) > 1:
        turns[1:] = spsolve(laplacian[1:, 1:], pulled[1:])
    return turns
