"""Kalman filter and Rauch-Tung-Striebel smoother for long recordings with constant dynamics.

The model is, with S states and N channels,

    x_t = A x_{t-1} + w_t,  w ~ N(0, Q),  x_1 ~ N(0, P_1)
    y_t = C x_t + e_t,      e ~ N(0, R),  R diagonal,

and everything here works on the reduced observations ``b_t = C' R^-1 y_t`` (S numbers a sample
instead of N) and the information ``M = C' R^-1 C``: filtering, smoothing and, but for terms that
need only the channels' energies, the likelihood depend on y through b alone.

Covariances do not depend on the data and settle within a few hundred samples. They are computed
exactly while they settle and are constant from there on (the stabilising solution of the discrete
algebraic Riccati equation), so that the mean is a linear recursion with constant coefficients.
Source: Anderson & Moore 1979, Optimal Filtering, chapters 4, 5 and 7.
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
class Gains:
    """Covariances of a filter; the leading axis is the sample while they settle.

    Attributes
    ----------
    filtered : ndarray (settling, state, state)
        Covariance of x_t given y_1..t.
    predicted : ndarray (settling, state, state)
        Covariance of x_t given y_1..t-1.
    backward : ndarray (settling, state, state)
        Smoother gain J_t = filtered_t A' predicted_{t+1}^-1.
    log_determinant : ndarray (settling,)
        log det(I + predicted_t M).
    The attributes named ``steady_*`` hold the same for every later sample.
    """

    filtered: np.ndarray
    predicted: np.ndarray
    backward: np.ndarray
    log_determinant: np.ndarray
    steady_filtered: np.ndarray
    steady_predicted: np.ndarray
    steady_backward: np.ndarray
    steady_log_determinant: float

    @property
    def settling(self) -> int:
        """Number of leading samples with covariances of their own."""
        return len(self.filtered)


@dataclass(frozen=True)
class Filtered:
    """Filtered means and each sample's part of the likelihood.

    Attributes
    ----------
    mean : ndarray (time, state)
    energy : ndarray (time,)
        Minus twice the log-likelihood of sample t given the earlier ones, less
        ``N log(2 pi) + log det R + y_t' R^-1 y_t``.
    """

    mean: np.ndarray
    energy: np.ndarray


@dataclass(frozen=True)
class Smoothed:
    """Posterior means, and the covariances summed over time that EM needs.

    Attributes
    ----------
    mean : ndarray (time, state)
    covariance_sum : ndarray (state, state)
        Sum over t of Cov(x_t | y).
    lagged_sum : ndarray (state, state)
        Sum over t >= 2 of Cov(x_t, x_{t-1} | y).
    first, last : ndarray (state, state)
        Cov(x_1 | y) and Cov(x_T | y).
    """

    mean: np.ndarray
    covariance_sum: np.ndarray
    lagged_sum: np.ndarray
    first: np.ndarray
    last: np.ndarray


def _symmetric(matrix: np.ndarray) -> np.ndarray:
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
        gain, step = _symmetric(gain + step @ inverse @ gain @ step.T), step @ inverse @ step
        solution = _symmetric(solution + change)
        if np.abs(change).max() <= 1e-15 * np.abs(solution).max():
            break
    return solution


def _update(predicted: np.ndarray, information: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance after an observation, and log det(I + predicted M)."""
    weight = np.eye(len(predicted)) + predicted @ information
    filtered = _symmetric(np.linalg.solve(weight, predicted))
    return filtered, float(np.linalg.slogdet(weight)[1])


def filter_gains(
    model: StateSpace, samples: int, *, tolerance: float = 1e-11, longest: int = 5000
) -> Gains:
    """Covariances of the filter and gains of the smoother.

    Parameters
    ----------
    model : StateSpace
    samples : int
        Length of the recording.
    tolerance : float
        Covariances count as settled once no element is further than this, relative to the largest
        element, from the steady solution.
    longest : int
        Settling is cut off after so many samples.
    """
    transition, information = model.transition, model.information
    steady = steady_covariance(model)
    limit = tolerance * np.abs(steady).max()
    predicted: list[np.ndarray] = []
    filtered: list[np.ndarray] = []
    log_determinant: list[float] = []
    current = model.initial
    while len(filtered) < min(samples, longest) and np.abs(current - steady).max() > limit:
        after, logarithm = _update(current, information)
        predicted.append(current)
        filtered.append(after)
        log_determinant.append(logarithm)
        current = _symmetric(transition @ after @ transition.T + model.noise)
    steady_filtered, steady_logarithm = _update(steady, information)
    shape = (-1, *transition.shape)
    before = np.array([*predicted[1:], current]) if predicted else np.empty((0, *shape[1:]))
    crossed = np.array(filtered).reshape(shape) @ transition.T
    return Gains(
        filtered=np.array(filtered).reshape(shape),
        predicted=np.array(predicted).reshape(shape),
        backward=np.linalg.solve(before, crossed.swapaxes(-1, -2)).swapaxes(-1, -2),
        log_determinant=np.array(log_determinant),
        steady_filtered=steady_filtered,
        steady_predicted=steady,
        steady_backward=np.linalg.solve(steady, transition @ steady_filtered).T,
        steady_log_determinant=steady_logarithm,
    )


def linear_recursion(matrix: np.ndarray, drive: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return x with x_t = matrix x_{t-1} + drive_t and x_{-1} = start.

    The series is cut into about sqrt(T) blocks that advance side by side: once from zero, for what
    each block adds by its end, and once more from the true state at its beginning.

    Parameters
    ----------
    matrix : ndarray (state, state)
    drive : ndarray (time, state)
    start : ndarray (state,)

    Returns
    -------
    ndarray (time, state)
    """
    samples, states = drive.shape
    if samples == 0:
        return np.empty((0, states))
    length = int(np.ceil(np.sqrt(samples)))
    blocks = -(-samples // length)
    padded = np.zeros((blocks, length, states))
    padded.reshape(-1, states)[:samples] = drive
    step = np.ascontiguousarray(matrix.T)
    state = np.zeros((blocks, states))
    for i in range(length):
        state = state @ step
        state += padded[:, i]
    across = np.linalg.matrix_power(matrix, length)
    begin = np.empty((blocks, states))
    begin[0] = start
    for block in range(1, blocks):
        begin[block] = across @ begin[block - 1] + state[block - 1]
    state = begin
    for i in range(length):
        state = state @ step
        state += padded[:, i]
        padded[:, i] = state
    return padded.reshape(-1, states)[:samples]


def run_filter(reduced: np.ndarray, model: StateSpace, gains: Gains) -> Filtered:
    """Filter reduced observations.

    Parameters
    ----------
    reduced : ndarray (time, state)
        b_t = C' R^-1 y_t.
    model : StateSpace
    gains : Gains
        From :func:`filter_gains` with at least as many samples.
    """
    transition, information = model.transition, model.information
    settling = min(gains.settling, len(reduced))
    mean = np.empty(reduced.shape)
    state = np.zeros(reduced.shape[1])
    for t in range(settling):
        ahead = transition @ state
        state = ahead + gains.filtered[t] @ (reduced[t] - information @ ahead)
        mean[t] = state
    closed = (np.eye(len(transition)) - gains.steady_filtered @ information) @ transition
    mean[settling:] = linear_recursion(closed, reduced[settling:] @ gains.steady_filtered, state)
    return Filtered(mean, _energy(reduced, mean, model, gains, settling))


def _energy(
    reduced: np.ndarray, mean: np.ndarray, model: StateSpace, gains: Gains, settling: int
) -> np.ndarray:
    ahead = np.zeros_like(mean)
    np.matmul(mean[:-1], model.transition.T, out=ahead[1:])
    surprise = reduced - ahead @ model.information
    energy = -np.einsum("ts,ts->t", ahead, reduced + surprise)
    late = surprise[settling:]
    energy[settling:] -= np.einsum("ts,ts->t", late @ gains.steady_filtered, late)
    energy[settling:] += gains.steady_log_determinant
    early = surprise[:settling]
    energy[:settling] -= np.einsum("ts,tsr,tr->t", early, gains.filtered[:settling], early)
    energy[:settling] += gains.log_determinant[:settling]
    return energy


def run_smoother(filtered: np.ndarray, model: StateSpace, gains: Gains) -> Smoothed:
    """Smooth filtered means.

    Parameters
    ----------
    filtered : ndarray (time, state)
        Filtered means; the last one is the end of the data that the posterior conditions on.
    model : StateSpace
    gains : Gains
    """
    samples, states = filtered.shape
    settling = min(gains.settling, samples - 1)
    backward = gains.steady_backward
    rest = np.eye(states) - backward @ model.transition
    mean = np.empty_like(filtered)
    mean[-1] = filtered[-1]
    drive = filtered[settling:-1][::-1] @ rest.T
    mean[settling:-1] = linear_recursion(backward, drive, filtered[-1])[::-1]
    for t in range(settling - 1, -1, -1):
        ahead = model.transition @ filtered[t]
        mean[t] = filtered[t] + gains.backward[t] @ (mean[t + 1] - ahead)
    return _posterior(mean, gains, settling)


def _posterior(mean: np.ndarray, gains: Gains, settling: int) -> Smoothed:
    """Sum the posterior covariances, by geometric series where the gains are constant."""
    steady = len(mean) - settling
    backward, settled = gains.steady_backward, steady_posterior(gains)
    last = _last_covariance(gains, len(mean))
    # P_t - P_inf = J (P_{t+1} - P_inf) J': from the last sample backwards a geometric series.
    excess = last - settled
    series = solve_discrete_lyapunov(backward, excess)
    power = np.linalg.matrix_power(backward, steady - 1)
    current = settled + power @ excess @ power.T
    total = steady * settled + series - (power @ backward) @ series @ (power @ backward).T
    lagged = (total - current) @ backward.T
    for t in range(settling - 1, -1, -1):
        lagged += current @ gains.backward[t].T
        current = _step_back(current, gains, t)
        total += current
    return Smoothed(mean, _symmetric(total), lagged, current, last)


def steady_posterior(gains: Gains) -> np.ndarray:
    """Posterior covariance (state, state) of a sample far from both ends."""
    backward = gains.steady_backward
    drive = gains.steady_filtered - backward @ gains.steady_predicted @ backward.T
    return _symmetric(solve_discrete_lyapunov(backward, drive))


def posterior_sd(gains: Gains, samples: int) -> np.ndarray:
    """Posterior standard deviation (time, state), exact at both ends."""
    settled = steady_posterior(gains)
    deviation = np.broadcast_to(np.sqrt(np.diag(settled)), (samples, len(settled))).copy()
    settling = min(gains.settling, samples - 1)
    current, backward = _last_covariance(gains, samples), gains.steady_backward
    for t in range(samples - 1, settling - 1, -1):
        if np.abs(current - settled).max() <= 1e-12 * np.abs(settled).max():
            current = settled
            break
        deviation[t] = np.sqrt(np.diag(current))
        if t > settling:
            current = settled + backward @ (current - settled) @ backward.T
    for t in range(settling - 1, -1, -1):
        current = _step_back(current, gains, t)
        deviation[t] = np.sqrt(np.diag(current))
    return deviation


def _last_covariance(gains: Gains, samples: int) -> np.ndarray:
    return gains.steady_filtered if gains.settling < samples else gains.filtered[samples - 1]


def _step_back(after: np.ndarray, gains: Gains, t: int) -> np.ndarray:
    """Cov(x_t | y) from Cov(x_{t+1} | y), for a sample t while the gains settle."""
    gain = gains.backward[t]
    ahead = gains.predicted[t + 1] if t + 1 < gains.settling else gains.steady_predicted
    return _symmetric(gains.filtered[t] + gain @ (after - ahead) @ gain.T)
