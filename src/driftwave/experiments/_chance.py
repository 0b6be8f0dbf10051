"""Shares of data sets with their intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import beta


def binomial_interval(
    hits: npt.ArrayLike, trials: npt.ArrayLike, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval of a probability (Clopper & Pearson 1934, Biometrika 26:404).

    Parameters
    ----------
    hits : array_like of int
    trials : array_like of int
        Of the shape of ``hits``, or one number; at least 1.
    level : float
        The interval holds the probability at least this often.

    Returns
    -------
    low, high : ndarray
        Of the shape of ``hits``.
    """
    k, n = np.broadcast_arrays(np.asarray(hits, float), np.asarray(trials, float))
    tail = (1 - level) / 2
    # The beta distribution degenerates where nothing, or everything, was hit.
    low = np.where(k > 0, beta.ppf(tail, np.maximum(k, 1), n - k + 1), 0.0)
    high = np.where(k < n, beta.ppf(1 - tail, k + 1, np.maximum(n - k, 1)), 1.0)
    return low, high
