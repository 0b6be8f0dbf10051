"""Intrinsic dimension from the distances to the two nearest neighbours."""

from __future__ import annotations

import numpy as np

# Of the largest ratios, far from a line through the origin (Facco et al. 2017, section Results).
DISCARDED = 0.1
# Random sets of independent points that a dimension is averaged over.
SETS = 10


def squared_distances(points: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (point, point) of points (point, dim), zero on the diagonal."""
    centred = points - points.mean(axis=0)
    norm = (centred**2).sum(axis=1)
    squared = norm[:, None] + norm - 2 * centred @ centred.T
    np.fill_diagonal(squared, 0)
    return np.maximum(squared, 0)


def two_nn(squared: np.ndarray) -> float:
    r"""Intrinsic dimension of points from their squared distances (point, point).

    Facco et al. 2017 (10.1038/s41598-017-11873-y): the ratios :math:`\mu = r_2 / r_1` follow
    :math:`F(\mu) = 1 - \mu^{-d}` whatever the density; d is the slope through the origin of
    :math:`-\log(1 - F)` over :math:`\log \mu`, without the largest tenth of ratios.

    Parameters
    ----------
    squared : ndarray (point, point)
        Of points drawn independently: successive bins of one trial, evenly spaced on a line, are
        not (see :func:`point_sets`).

    Returns
    -------
    float
        NaN with fewer than ten points that have two neighbours at different places.
    """
    distance = squared.copy()
    np.fill_diagonal(distance, np.inf)
    nearest = np.sqrt(np.partition(distance, 1, axis=1)[:, :2])
    there = np.isfinite(nearest).all(axis=1) & (nearest[:, 0] > 0)
    if there.sum() < 10:
        return np.nan
    ratio = np.sort(nearest[there, 1] / nearest[there, 0])
    kept = int(len(ratio) * (1 - DISCARDED))
    x = np.log(ratio[:kept])
    y = -np.log1p(-np.arange(1, kept + 1) / len(ratio))
    return float(x @ y / (x @ x)) if x.any() else np.nan


def point_sets(
    shape: tuple[int, int], *, spacing: int | None, most: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Sets of bins that may pass for independent: positions in the flattened (trial, time) axis.

    Parameters
    ----------
    shape : (int, int)
        Trials and times.
    spacing : int or None
        Abutting windows: bins between points, from a random first one. None: one random bin of
        every trial.
    most : int
        Points of a set, drawn if there are more.
    rng : Generator
    """
    trials, times = shape
    found = []
    for _ in range(SETS):
        if spacing is None:
            at = np.arange(trials) * times + rng.integers(times, size=trials)
        else:
            at = np.arange(rng.integers(min(spacing, trials * times)), trials * times, spacing)
        found.append(at if len(at) <= most else np.sort(rng.choice(at, most, replace=False)))
    return found


def mean_two_nn(rows: np.ndarray, sets: list[np.ndarray]) -> float:
    """TwoNN dimension of rows (row, dim), the mean over sets of rows."""
    return float(np.mean([two_nn(squared_distances(rows[at])) for at in sets]))


def by_scale(
    rows: np.ndarray, sets: list[np.ndarray], shares: tuple[float, ...], rng: np.random.Generator
) -> np.ndarray:
    """TwoNN dimension (share,) of random parts of the sets: fewer points, larger scale.

    Noise fills all dims at small scales; a dimension to be believed is the same on several.
    """
    return np.array(
        [
            mean_two_nn(rows, [rng.permutation(at)[: int(share * len(at))] for at in sets])
            for share in shares
        ]
    )
