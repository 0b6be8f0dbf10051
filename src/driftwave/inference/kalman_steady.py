"""What a Kalman filter and smoother with constant dynamics and observations settle to.

Source: Anderson & Moore 1979, Optimal Filtering, chapters 4 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_discrete_lyapunov


@dataclass(frozen=True)
class StateSpace:
    """Dynamics and what an observation tells about the state.

    Attributes
    ----------
    transition : ndarray (state, state)
        A; all eigenvalues inside the unit circle.
    noise : ndarray (state, state)
        Q, covariance of the state noise.
    initial : ndarray (state, state)
        P_1, covariance of the first state; the stationary one for a stationary process.
    information : ndarray (state, state)
        M = C' R^-1 C.
    """

    transition: np.ndarray
    noise: np.ndarray
    initial: np.ndarray
    information: np.ndarray


@dataclass(frozen=True)
class Steady:
    """What a filter and smoother settle to, far from both ends of a stretch.

    Attributes
    ----------
    predicted, filtered : ndarray (state, state)
        Covariance of x_t given y up to t-1, and up to t.
    backward : ndarray (state, state)
        Smoother gain J.
    log_determinant : float
        log det(I + predicted M).
    posterior : ndarray (state, state)
        Covariance of x_t given all y.
    """

    predicted: np.ndarray
    filtered: np.ndarray
    backward: np.ndarray
    log_determinant: float
    posterior: np.ndarray


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Mean of a matrix and its transpose."""
    return (matrix + matrix.T) / 2


def steady_covariance(model: StateSpace, *, iterations: int = 60) -> np.ndarray:
    """Covariance of the steady predictor: X = A X (I + M X)^-1 A' + Q.

    Solved by structure-preserving doubling (Chu, Fan, Lin & Wang 2004, Int J Control 77:767), each
    step of which is worth as many Riccati steps as all before it together.

    Returns
    -------
    ndarray (state, state)
    """
    step, gain, solution = model.transition.T, model.information, model.noise
    identity = np.eye(len(step))
    for _ in range(iterations):
        inverse = np.linalg.inv(identity + gain @ solution)
        change = step.T @ solution @ inverse @ step
        gain, step = symmetric(gain + step @ inverse @ gain @ step.T), step @ inverse @ step
        solution = symmetric(solution + change)
        if np.abs(change).max() <= 1e-15 * np.abs(solution).max():
            break
    return solution


def _update(predicted: np.ndarray, information: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance after an observation, and log det(I + predicted M)."""
    weight = np.eye(len(predicted)) + predicted @ information
    filtered = symmetric(np.linalg.solve(weight, predicted))
    return filtered, float(np.linalg.slogdet(weight)[1])


def steady_gains(model: StateSpace) -> Steady:
    """Covariances and gains that a filter and smoother of the model settle to."""
    predicted = steady_covariance(model)
    filtered, logarithm = _update(predicted, model.information)
    backward = np.linalg.solve(predicted, model.transition @ filtered).T
    drive = filtered - backward @ predicted @ backward.T
    posterior = symmetric(solve_discrete_lyapunov(backward, drive))
    return Steady(predicted, filtered, np.ascontiguousarray(backward), logarithm, posterior)
