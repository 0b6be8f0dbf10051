"""Linear centred kernel alignment, with and without its bias."""

from __future__ import annotations

import numpy as np


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA as first published (Kornblith et al. 2019, 1905.00414): biased upwards.

    Parameters
    ----------
    x, y : ndarray (row, dim)
        The same rows; dims may differ. With fewer rows than dims it tends to 1 for independent
        representations.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    across = ((x.T @ y) ** 2).sum()
    return float(across / np.sqrt(((x.T @ x) ** 2).sum() * ((y.T @ y) ** 2).sum()))


def debiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA from unbiased HSIC: 0 on average for independent representations.

    Song et al. 2012 (JMLR 13, 1393), equation 5; Murphy et al. 2024 (2405.01012).

    Parameters
    ----------
    x, y : ndarray (row, dim)
        The same rows, at least four; dims may differ.

    Returns
    -------
    float
        At most about 1; may be negative. NaN where all rows of a representation are
        equally far from one another.
    """
    k, m = _centred(x), _centred(y)
    return _ratio(np.array((k * m).sum()), float((k**2).sum()), float((m**2).sum())).item()


def permuted_cka(a: np.ndarray, b: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Debiased CKA (permutation,) with the conditions of one session permuted as blocks.

    Parameters
    ----------
    a, b : ndarray (condition, window, dim)
        Each condition and window is a row.
    permutations : ndarray of int (permutation, condition)
    """
    conditions, windows = a.shape[:2]
    k = _centred(a.reshape(conditions * windows, -1))
    m = _centred(b.reshape(conditions * windows, -1))
    row = permutations[:, :, None] * windows + np.arange(windows)
    across = np.array([(k * m[np.ix_(order, order)]).sum() for order in row.reshape(len(row), -1)])
    return _ratio(across, float((k**2).sum()), float((m**2).sum()))


def _centred(x: np.ndarray) -> np.ndarray:
    """U-centred Gram matrix (row, row): sums of products are n (n - 3) times the unbiased HSIC.

    Szekely & Rizzo 2014 (10.1214/14-AOS1255), definition 2. Song's estimator of HSIC is the sum.
    """
    # About the mean the estimator is the same and its sums lose no digits.
    x = x - x.mean(axis=0)
    gram = x @ x.T
    np.fill_diagonal(gram, 0)
    n = len(gram)
    rows = gram.sum(axis=0) / (n - 2)
    centred = gram - rows[:, None] - rows[None] + gram.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    return centred


def _ratio(across: np.ndarray, own_x: float, own_y: float) -> np.ndarray:
    return (
        across / np.sqrt(own_x * own_y) if own_x > 0 and own_y > 0 else np.full_like(across, np.nan)
    )
