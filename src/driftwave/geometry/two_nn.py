"""Intrinsic dimension from the distances to the two nearest neighbours."""

from __future__ import annotations

import numpy as np

# Of the largest ratios, far from a line through the origin (Facco et al. 2017, section Results).
DISCARDED = 0.1


def squared_distances(points: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (point, point) of points (point, dim), zero on the diagonal."""
    centred = points - points.mean(axis=0)
    norm = (centred**2).sum(axis=1)
    squared = norm[:, None] + norm - 2 * centred @ centred.T
    np.fill_diagonal(squared, 0)
    return np.maximum(squared, 0)


def two_nn(squared: np.ndarray, allowed: np.ndarray | None = None) -> float:
    r"""Intrinsic dimension of points from their squared distances (point, point).

    Facco et al. 2017 (10.1038/s41598-017-11873-y): the ratios :math:`\mu = r_2 / r_1` follow
    :math:`F(\mu) = 1 - \mu^{-d}` whatever the density; d is the slope through the origin of
    :math:`-\log(1 - F)` over :math:`\log \mu`, without the largest tenth of ratios.

    Parameters
    ----------
    squared : ndarray (point, point)
    allowed : ndarray of bool (point, point), optional
        Which points may be neighbours: successive bins of one trial lie on a line.

    Returns
    -------
    float
        NaN with fewer than ten points that have two neighbours at different places.
    """
    distance = squared.copy()
    np.fill_diagonal(distance, np.inf)
    if allowed is not None:
        distance[~allowed] = np.inf
    nearest = np.sqrt(np.partition(distance, 1, axis=1)[:, :2])
    there = np.isfinite(nearest).all(axis=1) & (nearest[:, 0] > 0)
    if there.sum() < 10:
        return np.nan
    ratio = np.sort(nearest[there, 1] / nearest[there, 0])
    kept = int(len(ratio) * (1 - DISCARDED))
    x = np.log(ratio[:kept])
    y = -np.log1p(-np.arange(1, kept + 1) / len(ratio))
    return float(x @ y / (x @ x)) if x.any() else np.nan


def by_scale(
    squared: np.ndarray,
    allowed: np.ndarray | None,
    shares: tuple[float, ...],
    rng: np.random.Generator,
) -> np.ndarray:
    """TwoNN dimension (share,) of random parts of the points: fewer points, larger scale.

    Noise fills all dims at small scales; a dimension to be believed is the same on several.
    Parts of one share do not overlap, and their dimensions are averaged.
    """
    found = []
    for share in shares:
        order = rng.permutation(len(squared))
        parts = np.array_split(order, max(1, round(1 / share)))
        dimension = [
            two_nn(squared[np.ix_(p, p)], None if allowed is None else allowed[np.ix_(p, p)])
            for p in parts
        ]
        found.append(np.mean(dimension))
    return np.array(found)
