"""Factor analysis of binned activity: fit from a covariance, infer from any subset of units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Factors:
    """``x = mean + z @ components + noise`` with ``z ~ N(0, I)`` and independent noise per unit.

    Attributes
    ----------
    mean : ndarray (unit,)
    components : ndarray (factor, unit)
    noise : ndarray (unit,)
        Noise variance.
    """

    mean: np.ndarray
    components: np.ndarray
    noise: np.ndarray

    def infer(self, values: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
        """Posterior mean of the factors, (..., factor), from values (..., unit).

        ``(I + L' Psi^-1 L)^-1 L' Psi^-1 (x - mean)`` over the units that are shown; the others
        are treated as not recorded.

        Parameters
        ----------
        values : ndarray (..., unit)
        shown : ndarray of bool (unit,), optional
            Default: all units.
        """
        use = np.ones(self.mean.size, dtype=bool) if shown is None else shown
        loading = self.components[:, use]
        scaled = loading / self.noise[use]
        precision = np.eye(len(loading)) + scaled @ loading.T
        return (values[..., use] - self.mean[use]) @ np.linalg.solve(precision, scaled).T


def fit_factors(
    mean: np.ndarray, covariance: np.ndarray, count: int, *, samples: int, iterations: int
) -> Factors:
    """Maximum-likelihood factor analysis (scikit-learn's EM) from a mean and a covariance.

    The likelihood depends on the data through these only, so 2 x unit points that share them
    stand in for all samples: the same fit, hundreds of times faster.

    Parameters
    ----------
    mean : ndarray (unit,)
    covariance : ndarray (unit, unit)
        Divided by the number of samples, not by one less.
    count : int
        Number of factors.
    samples : int
        Number of samples behind the covariance; it scales the stopping rule.
    iterations : int
        Largest number of EM iterations.
    """
    from sklearn.decomposition import FactorAnalysis

    units = len(mean)
    # Silent units have no variance at all.
    stable = covariance + 1e-6 * np.eye(units)
    root = np.linalg.cholesky(stable).T * np.sqrt(units)
    points = np.concatenate([root, -root])
    fitted = FactorAnalysis(
        n_components=count,
        svd_method="lapack",
        max_iter=iterations,
        tol=1e-2 * len(points) / samples,
    ).fit(points)
    components = fitted.components_
    # A factor's sign is arbitrary; its largest loading is made positive.
    peak = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    return Factors(mean, components * np.where(peak < 0, -1.0, 1.0), fitted.noise_variance_)
