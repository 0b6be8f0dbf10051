"""Representational similarity analysis with crossnobis distances, by rsatoolbox.

Walther et al. 2016 (10.1016/j.neuroimage.2015.12.012); Diedrichsen et al. 2021 (2007.02789).
"""

from __future__ import annotations

import numpy as np

from driftwave.alignment.halves import Halved, grouped_means


def crossnobis(patterns: np.ndarray, residuals: np.ndarray, freedom: int) -> np.ndarray:
    """Cross-validated Mahalanobis distances between patterns: 0 on average where they are equal.

    Parameters
    ----------
    patterns : ndarray (fold, pattern, dim)
        Averages over the trials of each fold. Dims that do not vary between trials of a
        condition are left out.
    residuals : ndarray (row, dim)
        Single trials about their condition; their covariance is shrunk towards its diagonal.
    freedom : int
        Degrees of freedom of the residuals.

    Returns
    -------
    ndarray (pair,)
        Upper triangle, row by row.
    """
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import prec_from_residuals
    from rsatoolbox.rdm import calc_rdm

    spread = residuals.std(axis=0)
    noisy = spread > 1e-6 * spread.max()  # the noise of the other dims is unknown
    patterns, residuals = patterns[..., noisy], residuals[:, noisy]
    folds, count, dims = patterns.shape
    data = Dataset(
        patterns.reshape(-1, dims),
        obs_descriptors={
            "pattern": np.tile(np.arange(count, dtype=float), folds),
            "fold": np.repeat(np.arange(folds, dtype=float), count),
        },
    )
    noise = prec_from_residuals(residuals, dof=freedom, method="shrinkage_diag")
    found = calc_rdm(
        data, method="crossnobis", descriptor="pattern", cv_descriptor="fold", noise=noise
    )
    (rdm,) = found if isinstance(found, list) else (found,)
    return np.asarray(rdm.dissimilarities[0])


def session_rdm(
    halved: Halved, windows: np.ndarray, split: int, half: int, conditions: np.ndarray
) -> np.ndarray:
    """Distances between conditions and windows of one half of a session's trials.

    Parameters
    ----------
    halved : Halved
    windows : ndarray (sample, window, dim)
    split, half : int
    conditions : ndarray of int (condition,)
        Positions among the session's kept conditions.

    Returns
    -------
    ndarray (pair,)
        Between patterns in the order condition, window.
    """
    fold = halved.folds(split, half)
    dims = windows.shape[-1]
    patterns = np.stack(
        [
            grouped_means(windows, halved.position, fold == k, conditions).reshape(-1, dims)
            for k in range(fold.max() + 1)
        ]
    )
    chosen = halved.chosen(split, half) & np.isin(halved.position, conditions)
    own = grouped_means(windows, halved.position, chosen, np.arange(len(halved.labels)))
    residuals = windows[chosen] - own[halved.position[chosen]]
    freedom = windows.shape[1] * (int(chosen.sum()) - len(conditions))
    return crossnobis(patterns, residuals.reshape(-1, dims), freedom)


def rdm_similarity(
    first: np.ndarray, second: np.ndarray, windows: int, permutations: np.ndarray, method: str
) -> np.ndarray:
    """Similarity (permutation,) of two RDMs, the conditions of the second permuted.

    Parameters
    ----------
    first, second : ndarray (pair,)
        Between patterns in the order condition, window.
    windows : int
    permutations : ndarray of int (permutation, condition)
    method : str
        As in rsatoolbox: ``corr_cov`` and ``cosine_cov`` are whitened for the covariance of
        distances that share a pattern.
    """
    from rsatoolbox.rdm import RDMs, compare
    from scipy.spatial.distance import squareform

    square = squareform(second, checks=False)
    row = permutations[:, :, None] * windows + np.arange(windows)
    upper = np.triu_indices(len(square), 1)
    shuffled = np.stack([square[np.ix_(r, r)][upper] for r in row.reshape(len(row), -1)])
    found = compare(RDMs(first[None]), RDMs(shuffled), method=method)
    return np.asarray(found)[0]
