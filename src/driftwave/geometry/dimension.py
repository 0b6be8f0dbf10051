"""Principal components and how many dimensions activity fills, beside chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Covariances of more dims (or rows, whichever are fewer) than this are not decomposed whole.
DENSE_BELOW = 2000


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

    With fewer rows than dims, from the inner products of rows: memory grows with the smaller of
    the two squared.

    Raises
    ------
    ValueError
        If the rows do not vary.
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    total = float((centred**2).sum())
    if not total > 0:
        raise ValueError("rows do not vary")
    wide = rows.shape[1] > rows.shape[0]
    # The mean takes one dimension: as many components as rows would end in a null vector.
    kept = min(count, rows.shape[1], max(1, rows.shape[0] - 1) if wide else rows.shape[1])
    values, vectors = leading(centred @ centred.T if wide else centred.T @ centred, kept)
    axes = vectors
    if wide:
        axes, _ = np.linalg.qr(centred.T @ vectors)
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
    return Components(mean, axes, np.maximum(values, 0) / total)


def leading(gram: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues (component,) of a symmetric matrix, descending, and eigenvectors."""
    size = len(gram)
    if size < DENSE_BELOW or 4 * count > size:
        values, vectors = np.linalg.eigh(gram)
    else:
        from scipy.sparse.linalg import eigsh

        # A start of our own: ARPACK's is random.
        first = np.random.default_rng(0).standard_normal(size)
        values, vectors = eigsh(gram, count, which="LA", v0=first, ncv=max(4 * count, 40))
    order = np.argsort(values)[::-1][:count]
    return values[order], vectors[:, order]


def isometric(rows: np.ndarray) -> np.ndarray:
    """The rows (row, dim) with as many dims as there are rows at most, all distances kept.

    Inner products of rows about their mean are those of the result's rows, to rounding. With more
    than ``DENSE_BELOW`` rows they are returned as they are.
    """
    if rows.shape[1] <= rows.shape[0] or rows.shape[0] > DENSE_BELOW:
        return rows
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    return vectors * np.sqrt(np.maximum(values, 0))


def participation_ratio(rows: np.ndarray) -> float:
    """Participation ratio (sum lambda)^2 / sum lambda^2 of the covariance of rows (row, dim).

    Gao et al. 2017 (10.1101/214262), equation 5: 1 for activity along one axis, the number of
    dims for activity spread evenly over all.
    """
    centred = rows - rows.mean(axis=0)
    wide = rows.shape[1] > rows.shape[0]
    return _ratio(centred @ centred.T if wide else centred.T @ centred)


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
    wide = rows.shape[1] > rows.shape[0]
    found = np.empty(shuffles)
    for k, shifted in enumerate(circular_shifts(rows - rows.mean(axis=0), shuffles, rng)):
        found[k] = _ratio(shifted.T @ shifted if wide else shifted @ shifted.T)
    return found


def circular_shifts(
    rows: np.ndarray, shuffles: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Copies (dim, row) of rows (row, dim), each dim shifted circularly by its own amount.

    The array is the same each time, filled anew: copy what is to be kept.
    """
    length, dims = rows.shape
    twice = np.tile(rows.T, 2)
    shifted = np.empty((dims, length))
    for shifts in rng.integers(length, size=(shuffles, dims)):
        for dim, shift in enumerate(shifts):
            shifted[dim] = twice[dim, shift : shift + length]
        yield shifted
