"""Principal components and how many dimensions activity fills, beside chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Components:
    """Principal components of rows of activity.

    Attributes
    ----------
    mean : ndarray (dim,)
    axes : ndarray (dim, component)
        Orthonormal, by decreasing variance; the largest entry of each is positive.
    ratio : ndarray (component,)
        Share of the total variance.
    """

    mean: np.ndarray
    axes: np.ndarray
    ratio: np.ndarray

    def project(self, values: np.ndarray) -> np.ndarray:
        """Coordinates (..., component) of values (..., dim)."""
        return (values - self.mean) @ self.axes

    def ratio_of(self, rows: np.ndarray) -> np.ndarray:
        """Share (component,) of the variance of other rows (row, dim) along these axes."""
        centred = rows - rows.mean(axis=0)
        total = (centred**2).sum()
        along = ((centred @ self.axes) ** 2).sum(axis=0)
        return along / total if total > 0 else np.full(len(along), np.nan)


def principal_components(rows: np.ndarray, count: int) -> Components:
    """Principal components of rows (row, dim), at most ``count`` of them.

    Raises
    ------
    ValueError
        If the rows do not vary.
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    values, vectors = np.linalg.eigh(centred.T @ centred)
    total = values.sum()
    if not total > 0:
        raise ValueError("rows do not vary")
    axes = vectors[:, ::-1][:, :count]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
    return Components(mean, axes, np.maximum(values[::-1][:count], 0) / total)


def participation_ratio(rows: np.ndarray) -> float:
    """Participation ratio (sum lambda)^2 / sum lambda^2 of the covariance of rows (row, dim).

    Gao et al. 2017 (10.1101/214262), equation 5: 1 for activity along one axis, the number of
    dims for activity spread evenly over all.
    """
    centred = rows - rows.mean(axis=0)
    return _ratio(centred.T @ centred)


def _ratio(covariance: np.ndarray) -> float:
    total = (covariance**2).sum()
    return float(np.trace(covariance) ** 2 / total) if total > 0 else np.nan


def shifted_participation_ratios(
    rows: np.ndarray, shuffles: int, rng: np.random.Generator
) -> np.ndarray:
    """Participation ratios (shuffle,) after a circular shift of each dim by itself.

    Variance and autocorrelation of every dim stay, their coordination goes. Activity of one
    frequency stays in the plane of its cosine and sine however it is shifted: of such activity
    this null says nothing.

    Parameters
    ----------
    rows : ndarray (row, dim)
        In the order of time; trials one after the other.
    shuffles : int
    rng : Generator
    """
    length, dims = rows.shape
    twice = np.tile((rows - rows.mean(axis=0)).T, 2)
    found = np.empty(shuffles)
    shifted = np.empty((dims, length))
    for k, shifts in enumerate(rng.integers(length, size=(shuffles, dims))):
        for dim, shift in enumerate(shifts):
            shifted[dim] = twice[dim, shift : shift + length]
        found[k] = _ratio(shifted @ shifted.T)
    return found
