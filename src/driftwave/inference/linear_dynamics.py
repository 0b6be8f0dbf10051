"""Linear-Gaussian dynamics as the prior of a trial: precision, maximum likelihood, coordinates.

x_1 ~ N(m_0, V_0),   x_{t+1} = A x_t + w_t,   w_t ~ N(0, Q)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGEST_RADIUS = 0.999
# Covariances are kept this far (relative to their mean variance) from singular.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Dynamics:
    """Parameters of the linear dynamics.

    Attributes
    ----------
    transition : ndarray (state, state)
        A, per bin.
    noise : ndarray (state, state)
        Q.
    start : ndarray (state,)
        m_0.
    start_covariance : ndarray (state, state)
        V_0.
    """

    transition: np.ndarray
    noise: np.ndarray
    start: np.ndarray
    start_covariance: np.ndarray

    @property
    def spectral_radius(self) -> float:
        """Largest modulus of the eigenvalues of A."""
        return float(np.abs(np.linalg.eigvals(self.transition)).max())

    def transformed(self, matrix: np.ndarray) -> Dynamics:
        """The same process in coordinates ``matrix @ x``; matrix (state, state)."""
        inverse = np.linalg.inv(matrix)
        return Dynamics(
            matrix @ self.transition @ inverse,
            symmetric(matrix @ self.noise @ matrix.T),
            matrix @ self.start,
            symmetric(matrix @ self.start_covariance @ matrix.T),
        )

    def precision(self, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Prior precision of a trial.

        Returns
        -------
        ndarray (bin, state, state)
            Blocks on the diagonal.
        ndarray (state, state)
            Block below the diagonal, the same everywhere.
        ndarray (state,)
            V_0^-1 m_0: the linear term, which the first bin alone has.
        float
            Log determinant.
        """
        inverse = symmetric(np.linalg.inv(self.noise))
        first = symmetric(np.linalg.inv(self.start_covariance))
        diagonal = np.zeros((bins, *self.noise.shape))
        diagonal[0] = first
        diagonal[1:] += inverse
        diagonal[:-1] += symmetric(self.transition.T @ inverse @ self.transition)
        logarithm = np.linalg.slogdet(first)[1] + (bins - 1) * np.linalg.slogdet(inverse)[1]
        return diagonal, -inverse @ self.transition, first @ self.start, float(logarithm)


@dataclass(frozen=True)
class DynamicsMoments:
    """Posterior sums that the maximum-likelihood dynamics depend on.

    Attributes
    ----------
    trials, steps : int
        Number of trials, and of pairs of neighbouring bins.
    first : ndarray (state,)
        Sum over trials of E[x_1].
    first_square : ndarray (state, state)
        Sum over trials of E[x_1 x_1'].
    before, after : ndarray (state, state)
        Sums over pairs of E[x_t x_t'] and E[x_{t+1} x_{t+1}'].
    across : ndarray (state, state)
        Sum over pairs of E[x_{t+1} x_t'].
    """

    trials: int
    steps: int
    first: np.ndarray
    first_square: np.ndarray
    before: np.ndarray
    after: np.ndarray
    across: np.ndarray


def dynamics_moments(
    mean: np.ndarray, covariance: np.ndarray, lagged: np.ndarray
) -> DynamicsMoments:
    """Sums over the posterior of all trials.

    Parameters
    ----------
    mean : ndarray (trial, bin, state)
    covariance : ndarray (trial, bin, state, state)
    lagged : ndarray (trial, bin - 1, state, state)
        Cov(x_{t+1}, x_t).
    """
    trials, bins, states = mean.shape
    old, new = mean[:, :-1].reshape(-1, states), mean[:, 1:].reshape(-1, states)
    return DynamicsMoments(
        trials=trials,
        steps=trials * (bins - 1),
        first=mean[:, 0].sum(0),
        first_square=mean[:, 0].T @ mean[:, 0] + covariance[:, 0].sum(0),
        before=old.T @ old + covariance[:, :-1].sum((0, 1)),
        after=new.T @ new + covariance[:, 1:].sum((0, 1)),
        across=new.T @ old + lagged.sum((0, 1)),
    )


def fit_dynamics(moments: DynamicsMoments, *, radius: float = LARGEST_RADIUS) -> Dynamics:
    """Dynamics of highest expected log-likelihood (Shumway & Stoffer 1982, eq. 12 to 14).

    Parameters
    ----------
    moments : DynamicsMoments
    radius : float
        Eigenvalues of the transition beyond this modulus are moved onto it, and Q is the best for
        that transition: a forecast must not explode.
    """
    transition = stable(np.linalg.solve(moments.before, moments.across.T).T, radius)
    crossed = transition @ moments.across.T
    square = moments.after - crossed - crossed.T + transition @ moments.before @ transition.T
    start = moments.first / moments.trials
    spread = moments.first_square / moments.trials - np.outer(start, start)
    return Dynamics(transition, positive(square / moments.steps), start, positive(spread))


def expected_log_likelihood(dynamics: Dynamics, moments: DynamicsMoments) -> float:
    """E[log p(x)] under the posterior, nats, less its constants."""
    a = dynamics.transition
    crossed = a @ moments.across.T
    square = moments.after - crossed - crossed.T + a @ moments.before @ a.T
    shifted = np.outer(moments.first, dynamics.start)
    first = (
        moments.first_square
        - shifted
        - shifted.T
        + moments.trials * np.outer(dynamics.start, dynamics.start)
    )
    parts = (
        (dynamics.noise, square, moments.steps),
        (dynamics.start_covariance, first, moments.trials),
    )
    return -0.5 * sum(
        float(np.trace(np.linalg.solve(c, s))) + n * float(np.linalg.slogdet(c)[1])
        for c, s, n in parts
    )


def stable(transition: np.ndarray, radius: float = LARGEST_RADIUS) -> np.ndarray:
    """The transition (state, state) with larger eigenvalues moved in to modulus ``radius``."""
    values, vectors = np.linalg.eig(transition)
    size = np.abs(values)
    if size.max() <= radius:
        return transition
    moved = (vectors * (values * np.minimum(1, radius / size))) @ np.linalg.pinv(vectors)
    moved = moved.real
    # Nearly parallel eigenvectors make that inaccurate; shrinking everything always works.
    return moved * min(1.0, radius / np.abs(np.linalg.eigvals(moved)).max())


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Its symmetric part."""
    return (matrix + matrix.swapaxes(-1, -2)) / 2


def positive(matrix: np.ndarray) -> np.ndarray:
    """The symmetric part with eigenvalues raised to a millionth of their mean, at least 1e-9."""
    values, vectors = np.linalg.eigh(symmetric(matrix))
    least = max(_LEAST_VARIANCE * values.clip(0).mean(), 1e-9)
    return symmetric((vectors * np.maximum(values, least)) @ vectors.T)
