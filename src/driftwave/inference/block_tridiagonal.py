"""Block-tridiagonal precision matrices of many trials at once: factor, solve, invert in part.

A Gaussian Markov chain x_1..x_T of K states has a precision matrix that is block tridiagonal. The
trials' matrices, one after the other on the diagonal, are one symmetric band matrix of T x trials
x K rows and 2K - 1 sub-diagonals, so one LAPACK call factorises all trials: cost linear in bins
and trials. The blocks of the inverse that smoothing needs (each bin and each pair of neighbours)
follow by the backward recursion of Rauch, Tung & Striebel 1965 written for the Cholesky factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpbtrf, dpbtrs


@dataclass(frozen=True)
class BandCholesky:
    """Cholesky factors of block-tridiagonal matrices.

    Attributes
    ----------
    band : ndarray (trial, bin, column, 2 state)
        Each column of the factor from its diagonal downwards.
    """

    band: np.ndarray

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Solution x (trial, bin, state) of matrix x = right."""
        solution, info = dpbtrs(self._lapack(), right.reshape(-1, 1), lower=1)
        if info:
            raise ValueError(f"dpbtrs: argument {-info}")
        return solution.reshape(right.shape)

    def log_determinant(self) -> np.ndarray:
        """Log determinant of each trial's matrix, (trial,)."""
        return 2 * np.log(self.band[..., 0]).sum((1, 2))

    def inverse_blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Blocks of the inverse on the diagonal and beside it.

        Returns
        -------
        ndarray (trial, bin, state, state)
            Covariance of x_t.
        ndarray (trial, bin - 1, state, state)
            Covariance of x_{t+1} (rows) with x_t (columns).
        """
        diagonal, below = self._blocks()
        inverse = np.linalg.inv(diagonal)
        turned = inverse.swapaxes(-1, -2)
        covariance = turned @ inverse
        gain = turned[:, :-1] @ below.swapaxes(-1, -2)
        lagged = np.empty_like(gain)
        for t in range(gain.shape[1] - 1, -1, -1):
            crossed = gain[:, t] @ covariance[:, t + 1]
            lagged[:, t] = -crossed.swapaxes(-1, -2)
            covariance[:, t] += crossed @ gain[:, t].swapaxes(-1, -2)
        return covariance, lagged

    def _lapack(self) -> np.ndarray:
        return self.band.reshape(-1, self.band.shape[-1]).T

    def _blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Factor's blocks (trial, bin, K, K) on the diagonal and (trial, bin - 1, K, K) below."""
        trials, bins, states, _ = self.band.shape
        diagonal = np.zeros((trials, bins, states, states))
        below = np.empty((trials, bins - 1, states, states))
        for column in range(states):
            diagonal[..., column:, column] = self.band[..., column, : states - column]
            below[..., column] = self.band[:, :-1, column, states - column : 2 * states - column]
        return diagonal, below


def factorise(diagonal: np.ndarray, below: np.ndarray) -> BandCholesky:
    """Cholesky factors of symmetric positive definite block-tridiagonal matrices.

    Parameters
    ----------
    diagonal : ndarray (trial, bin, state, state)
        Blocks on the diagonal; only their lower triangles are read.
    below : ndarray (state, state)
        The block below the diagonal, the same at every bin: row of bin t + 1, column of bin t.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    """
    trials, bins, states, _ = diagonal.shape
    band = np.zeros((trials, bins, states, 2 * states))
    for column in range(states):
        band[..., column, : states - column] = diagonal[..., column:, column]
        band[:, :-1, column, states - column : 2 * states - column] = below[:, column]
    factor, info = dpbtrf(band.reshape(-1, 2 * states).T, lower=1, overwrite_ab=1)
    if info:
        raise np.linalg.LinAlgError(f"row {info - 1} of the chain is not positive definite")
    return BandCholesky(factor.T.reshape(band.shape))
