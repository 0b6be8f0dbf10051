"""Start of a Poisson linear dynamical system by subspace identification of its moments.

The counts' moments are turned into those of the Gaussian log rates (exact under the model), from
which the Ho-Kalman method reads off the system: Buesing, Macke & Sahani 2012, "Spectral learning of
linear dynamics from generalised-linear observations with application to neural population data"
(NIPS 25), eq. 6 to 8.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import svds

from driftwave.inference.laplace import Loadings
from driftwave.inference.linear_dynamics import Dynamics, positive, stable

# The log ratio of few coincidences is noisy; so many are added to those found and expected.
_PSEUDO_COINCIDENCES = 10.0
_LARGEST_HANKEL = 600


def log_rate_covariances(counts: np.ndarray, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariances of Gaussian log rates with the moments of these counts.

    ``S_ij(k) = log E[y_i(t+k) y_j(t)] - log E[y_i] - log E[y_j]``, with ``E[y_i (y_i - 1)]`` for a
    unit with itself at lag 0, and ``mu_i = log E[y_i] - S_ii(0) / 2``.

    Parameters
    ----------
    counts : ndarray (trial, bin, unit)
        Every unit has a spike.
    lags : int

    Returns
    -------
    ndarray (unit,)
        mu, log spikes/bin.
    ndarray (lag + 1, unit, unit)
        S.
    """
    _, bins, units = counts.shape
    counts = np.asarray(counts, dtype=float)
    covariance = np.empty((lags + 1, units, units))
    for lag in range(lags + 1):
        late, early = counts[:, lag:].reshape(-1, units), counts[:, : bins - lag].reshape(-1, units)
        found = late.T @ early
        if lag == 0:
            found -= np.diag(late.sum(0))
        expected = np.outer(late.sum(0), early.sum(0)) / len(late)
        covariance[lag] = np.log(
            (found.clip(0) + _PSEUDO_COINCIDENCES) / (expected + _PSEUDO_COINCIDENCES)
        )
    mean = counts.mean((0, 1))
    return np.log(mean) - np.diag(covariance[0]).clip(0) / 2, covariance


def identify(counts: np.ndarray, states: int) -> tuple[Loadings, Dynamics]:
    """A Poisson linear dynamical system with the moments of these counts, nearly.

    Parameters
    ----------
    counts : ndarray (trial, bin, unit)
        Every unit has a spike.
    states : int
        Below the number of units.

    Returns
    -------
    Loadings
    Dynamics
        Stationary, in coordinates where the stationary covariance is the identity.
    """
    _, bins, units = counts.shape
    depth = int(np.clip(_LARGEST_HANKEL // units, 2, 10))
    depth = max(1, min(depth, (bins - 1) // 2))
    offset, covariance = log_rate_covariances(counts, 2 * depth - 1)
    hankel = np.block([[covariance[i + j + 1] for j in range(depth)] for i in range(depth)])
    left, strength = _leading(hankel, states)
    observability = left * np.sqrt(np.maximum(strength, 1e-12 * strength.max()))
    weights = observability[:units]
    if depth > 1:
        transition = np.linalg.lstsq(observability[:-units], observability[units:], rcond=None)[0]
    else:
        transition = 0.9 * np.eye(states)
    transition = stable(transition)
    inverse = np.linalg.pinv(weights)
    stationary = _floored(inverse @ covariance[0] @ inverse.T)
    root = np.linalg.cholesky(stationary)
    transition = np.linalg.solve(root, transition @ root)
    noise = _floored(np.eye(states) - transition @ transition.T)
    dynamics = Dynamics(transition, noise, np.zeros(states), np.eye(states))
    return Loadings(weights @ root, offset), dynamics


def _leading(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading left singular vectors (row, count) and singular values, largest first."""
    if len(matrix) <= 200:
        left, strength, _ = np.linalg.svd(matrix)
        return left[:, :count], strength[:count]
    left, strength, _ = svds(matrix, k=count, v0=np.ones(len(matrix)))
    order = np.argsort(strength)[::-1]
    return left[:, order], strength[order]


def _floored(matrix: np.ndarray) -> np.ndarray:
    """Positive definite, no direction below a hundredth of the mean variance."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    least = 1e-2 * max(values.clip(0).mean(), 1e-2)
    return positive((vectors * np.maximum(values, least)) @ vectors.T)
