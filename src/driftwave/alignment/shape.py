"""Distances between shapes of population activity: deterministic and stochastic.

Williams et al. 2021 (2110.14739), equations 3 and 4; Duong et al. 2023 (2211.11665), equations 8
to 10.
"""

from __future__ import annotations

import numpy as np

from driftwave.alignment.heldout import condition_products, summed
from driftwave.geometry.dimension import principal_components


def reduced(rows: np.ndarray, dims: int) -> np.ndarray:
    """Rows (row, dim) about their mean in their first principal components, zeros where fewer."""
    scores = principal_components(rows, dims).project(rows)
    return np.pad(scores, ((0, 0), (0, dims - scores.shape[1])))


def angular_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Angle (rad) between two shapes after the best orthogonal transform; a metric.

    Parameters
    ----------
    x, y : ndarray (row, dim)
        Centred here; of equally many dims.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    together = np.linalg.svd(x.T @ y, compute_uv=False).sum()
    return float(_angle(together, np.linalg.norm(x) * np.linalg.norm(y)))


def size_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Frobenius norm of what differs after the best orthogonal transform; a metric.

    Parameters
    ----------
    x, y : ndarray (row, dim)
        Centred here; of equally many dims.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    together = np.linalg.svd(x.T @ y, compute_uv=False).sum()
    return float(_difference(together, (x**2).sum(), (y**2).sum()))


def _angle(together: np.ndarray, norms: float | np.floating) -> np.ndarray:
    return np.arccos(np.clip(together / norms, -1, 1))


def _difference(together: np.ndarray, square_x: float, square_y: float) -> np.ndarray:
    return np.sqrt(np.maximum(square_x + square_y - 2 * together, 0))


def shape_distances(
    a: np.ndarray, b: np.ndarray, permutations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both deterministic distances with the conditions of one session permuted.

    Parameters
    ----------
    a, b : ndarray (condition, time, component)
        Centred over conditions and time.
    permutations : ndarray of int (permutation, condition)
        Row 0 the identity.

    Returns
    -------
    angle : ndarray (permutation,)
        rad.
    size : ndarray (permutation,)
        Root mean square over conditions and times.
    """
    cross = summed(condition_products(a, b), np.arange(len(a)), permutations)
    together = np.linalg.svd(cross, compute_uv=False).sum(axis=-1)
    square_a, square_b = float((a**2).sum()), float((b**2).sum())
    rows = a.shape[0] * a.shape[1]
    size = _difference(together, square_a, square_b) / np.sqrt(rows)
    return _angle(together, np.sqrt(square_a * square_b)), size


def roots(covariances: np.ndarray) -> np.ndarray:
    """Symmetric square roots (..., dim, dim) of covariances."""
    values, vectors = np.linalg.eigh(covariances)
    scaled = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
    return scaled @ np.swapaxes(vectors, -1, -2)


def gaussian_wasserstein(
    mean_x: np.ndarray, cov_x: np.ndarray, mean_y: np.ndarray, cov_y: np.ndarray
) -> np.ndarray:
    """2-Wasserstein distance between Gaussians, the leading axes broadcast.

    W^2 = |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x^1/2 S_y S_x^1/2)^1/2).
    """
    root = roots(cov_x)
    middle = np.linalg.eigvalsh(root @ cov_y @ root)
    shared = np.sqrt(np.maximum(middle, 0)).sum(axis=-1)
    spread = np.trace(cov_x + cov_y, axis1=-2, axis2=-1) - 2 * shared
    return np.sqrt(np.maximum(((mean_x - mean_y) ** 2).sum(axis=-1) + spread, 0))


def stochastic_distances(
    mean_x: np.ndarray,
    cov_x: np.ndarray,
    mean_y: np.ndarray,
    cov_y: np.ndarray,
    orders: np.ndarray,
    *,
    restarts: int,
    rng: np.random.Generator,
    tolerance: float = 1e-6,
    iterations: int = 500,
) -> np.ndarray:
    """Stochastic shape distances: Gaussian Wasserstein distances under one orthogonal transform.

    d^2 = min_Q mean_c [ |m_c - Q n_c|^2 + min_R |S_c^1/2 - Q P_c^1/2 R|^2 ] with Q, R orthogonal,
    minimised by turns over R (for each condition) and Q, each by a singular value decomposition:
    no step increases it. It may have local minima: starts are the rotation that aligns the means,
    the identity, and random ones.

    Parameters
    ----------
    mean_x, mean_y : ndarray (condition, dim)
    cov_x, cov_y : ndarray (condition, dim, dim)
    orders : ndarray of int (permutation, condition)
        Which condition of y stands for each of x.
    restarts : int
        Of every order alike: the least of more starts is smaller.
    rng : Generator
    tolerance : float
        Relative fall of the squared distance at which it stops.
    iterations : int

    Returns
    -------
    ndarray (permutation,)
        Root of the mean over conditions, in the units of the means.
    """
    root_x, root_y = roots(cov_x), roots(cov_y)
    total = sum(float((part**2).sum()) for part in (mean_x, mean_y, root_x, root_y))
    found = np.empty(len(orders))
    for row, order in enumerate(orders):
        means, spreads = mean_y[order], root_y[order]
        best = max(
            _ascend(
                mean_x.T @ means,
                root_x,
                spreads,
                _start(start, mean_x, means, rng),
                total,
                tolerance,
                iterations,
            )
            for start in range(restarts)
        )
        found[row] = np.sqrt(max(total - 2 * best, 0) / len(mean_x))
    return found


def _start(
    start: int, mean_x: np.ndarray, mean_y: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    dims = mean_x.shape[1]
    if start == 0:
        left, _, right = np.linalg.svd(mean_x.T @ mean_y)
        return left @ right
    if start == 1:
        return np.eye(dims)
    return np.linalg.qr(rng.normal(size=(dims, dims)))[0]


def _ascend(
    along_means: np.ndarray,
    root_x: np.ndarray,
    root_y: np.ndarray,
    rotation: np.ndarray,
    total: float,
    tolerance: float,
    iterations: int,
) -> float:
    """Greatest tr(Q [sum_c n_c m_c' + P_c^1/2 R_c S_c^1/2]) reached from one start."""
    reached = -np.inf
    for _ in range(iterations):
        left, _, right = np.linalg.svd(root_x @ rotation @ root_y)
        gathered = along_means + (root_x @ (left @ right) @ root_y).sum(axis=0)
        left, singular, right = np.linalg.svd(gathered)
        rotation = left @ right
        value = float(singular.sum())
        if value - reached <= tolerance * max(total - 2 * value, 1e-12 * total):
            return value
        reached = value
    return reached
