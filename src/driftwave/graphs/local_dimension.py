"""Dimension about each point: correlation dimension of its neighbourhood."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from driftwave.graphs.checks import checked_points
from driftwave.graphs.knn import nearest

REACH = 25  # listed neighbours per neighbour of kernel mass: a Gaussian in 5 dimensions needs 13
BLOCK = 500


def local_dimension(points: ArrayLike, *, neighbours: int = 10) -> np.ndarray:
    r"""Neighbourhood correlation dimension of each point.

    With :math:`C(\sigma) = \sum_{c} \sum_{j \ne c} e^{-d_{cj}^2 / 2 \sigma^2}` over the centres c
    of a point's neighbourhood (itself and its k nearest), the dimension is
    :math:`d \log C / d \log \sigma = \sum (d^2/\sigma^2) e^{-d^2/2\sigma^2} / C` at the scale
    where the point's own sum is k: the smooth form of Grassberger and Procaccia's slope that
    Dyballa and Zucker 2023 use. Self-pairs, which would flatten the sum, are left out.

    Parameters
    ----------
    points : array (point, feature)
    neighbours : int
        k, of the neighbourhood and of the kernel's mass. Noise off the manifold counts as
        dimension where it reaches as far as the k-th neighbour.

    Returns
    -------
    ndarray (point,)
        NaN for points with k or more duplicates, which have no scale.

    Raises
    ------
    InputError
        With fewer than k + 2 points, values that are not finite, or all points alike.
    """
    if neighbours < 2:
        raise ValueError("neighbours must be at least 2")
    array = checked_points(points, least=neighbours + 2)
    wanted = min(len(array) - 1, REACH * neighbours)
    distance, index = nearest(array, wanted)
    square = distance**2
    scale = _scales(square, min(neighbours, 0.5 * wanted))
    centres = np.column_stack([np.arange(len(array)), index[:, :neighbours]])
    result = np.full(len(array), np.nan)
    for start in range(0, len(array), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(array)))
        block = block[scale[block] > 0]
        ratio = square[centres[block]] / scale[block, None, None]
        mass = np.exp(-ratio / 2)
        result[block] = (ratio * mass).sum(axis=(1, 2)) / mass.sum(axis=(1, 2))
    return result


def _scales(square: np.ndarray, mass: float) -> np.ndarray:
    """Squared scale (point,) at which each point's kernel sum is the mass, by bisection."""
    low = np.full(len(square), -60.0)
    top = np.log(np.maximum(square[:, -1], np.finfo(float).tiny))
    high = np.full(len(square), 10.0)
    for _ in range(50):
        middle = (low + high) / 2
        total = np.exp(-square / (2 * np.exp(top + middle))[:, None]).sum(axis=1)
        low, high = np.where(total < mass, middle, low), np.where(total < mass, high, middle)
    crowded = (square == 0).sum(axis=1) >= mass
    return np.where(crowded, 0.0, np.exp(top + high))
