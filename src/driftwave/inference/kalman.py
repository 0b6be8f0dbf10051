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
The functions here take one stretch in which the same channels are seen throughout;
:mod:`driftwave.inference.kalman_segments` joins stretches of different ones.
Source: Anderson & Moore 1979, Optimal Filtering, chapters 4, 5 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from driftwave.inference import kalman_compiled as compiled
from driftwave.inference.kalman_steady import StateSpace, Steady, steady_gains, symmetric

SHORT = 512
LONG = 2000


@dataclass(frozen=True)
class Gains:
    """Covariances of a filter; the leading axis is the sample while they settle.

    Attributes
    ----------
    filtered : ndarray (settling, state, state)
        Covariance of x_t given y_1..t.
    predicted : ndarray (settling + 1, state, state)
        Covariance of x_t given y_1..t-1; the last is that of the sample after.
    backward : ndarray (settling, state, state)
        Smoother gain J_t = filtered_t A' predicted_{t+1}^-1.
    log_determinant : ndarray (settling,)
        log det(I + predicted_t M).
    steady : Steady
        The same of every later sample.
    """

    filtered: np.ndarray
    predicted: np.ndarray
    backward: np.ndarray
    log_determinant: np.ndarray
    steady: Steady

    @property
    def settling(self) -> int:
        """Number of leading samples with covariances of their own."""
        return len(self.filtered)

    def last_filtered(self, samples: int) -> np.ndarray:
        """Filtered covariance of the last of so many samples."""
        return self.steady.filtered if self.settling < samples else self.filtered[samples - 1]


@dataclass(frozen=True)
class Following:
    """Smoothed mean (state,) and covariance (state, state) of the sample after a stretch."""

    mean: np.ndarray
    covariance: np.ndarray


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
        Cov(x_1 | y) and Cov(x_T | y); where a stretch goes on, ``last`` is that of the sample
        after it.
    """

    mean: np.ndarray
    covariance_sum: np.ndarray
    lagged_sum: np.ndarray
    first: np.ndarray
    last: np.ndarray


def filter_gains(
    model: StateSpace,
    samples: int,
    *,
    tolerance: float = 1e-11,
    longest: int = 5000,
    steady: Steady | None = None,
) -> Gains:
    """Covariances of the filter and gains of the smoother.

    Parameters
    ----------
    model : StateSpace
        Its ``initial`` is the predicted covariance of the first sample.
    samples : int
        Length of the stretch.
    tolerance : float
        Covariances count as settled once no element is further than this, relative to the largest
        element, from the steady solution.
    longest : int
        Settling is cut off after so many samples.
    steady : Steady, optional
        Of the same transition, noise and information, if known.
    """
    steady = steady or steady_gains(model)
    limit = tolerance * np.abs(steady.predicted).max()
    predicted, filtered, backward, logarithm = compiled.settle(
        np.ascontiguousarray(model.initial),
        np.ascontiguousarray(model.transition),
        model.noise,
        np.ascontiguousarray(model.information),
        steady.predicted,
        limit,
        min(samples, longest),
    )
    return Gains(filtered, predicted, backward, logarithm, steady)


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
    if samples < SHORT:
        return compiled.recursion(
            np.ascontiguousarray(matrix), np.ascontiguousarray(drive), np.ascontiguousarray(start)
        )
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


def run_filter(
    reduced: np.ndarray, model: StateSpace, gains: Gains, start: np.ndarray | None = None
) -> Filtered:
    """Filter reduced observations.

    Parameters
    ----------
    reduced : ndarray (time, state)
        b_t = C' R^-1 y_t.
    model : StateSpace
    gains : Gains
        From :func:`filter_gains` with at least as many samples.
    start : ndarray (state,), optional
        Filtered mean of the sample before the first; none where the process begins.
    """
    transition, information = model.transition, model.information
    steady, settling = gains.steady, min(gains.settling, len(reduced))
    before = np.zeros(reduced.shape[1]) if start is None else start
    mean = np.empty(reduced.shape)
    mean[:settling] = compiled.filter_means(
        np.ascontiguousarray(reduced[:settling]),
        transition,
        information,
        gains.filtered,
        gains.predicted,
        before,
    )
    state = mean[settling - 1] if settling else before
    # (I - F M) A without the cancellation where observations tell nearly all.
    closed = np.linalg.solve(np.eye(len(transition)) + steady.predicted @ information, transition)
    mean[settling:] = linear_recursion(closed, reduced[settling:] @ steady.filtered, state)
    return Filtered(mean, _energy(reduced, mean, model, gains, before))


def _energy(
    reduced: np.ndarray, mean: np.ndarray, model: StateSpace, gains: Gains, before: np.ndarray
) -> np.ndarray:
    settling = min(gains.settling, len(reduced))
    ahead = np.empty_like(mean)
    ahead[0] = model.transition @ before
    np.matmul(mean[:-1], model.transition.T, out=ahead[1:])
    surprise = reduced - ahead @ model.information
    energy = -np.einsum("ts,ts->t", ahead, reduced + surprise)
    late = surprise[settling:]
    energy[settling:] -= np.einsum("ts,ts->t", late @ gains.steady.filtered, late)
    energy[settling:] += gains.steady.log_determinant
    early = surprise[:settling]
    energy[:settling] -= np.einsum("ts,tsr,tr->t", early, gains.filtered[:settling], early)
    energy[:settling] += gains.log_determinant[:settling]
    return energy


def run_smoother(
    filtered: np.ndarray,
    model: StateSpace,
    gains: Gains,
    following: Following | None = None,
    variance: np.ndarray | None = None,
) -> Smoothed:
    """Smooth filtered means.

    Parameters
    ----------
    filtered : ndarray (time, state)
        Filtered means.
    model : StateSpace
    gains : Gains
    following : Following, optional
        The sample after the last one; none where the data end.
    variance : ndarray (time, state), optional
        Receives the posterior variances.

    Returns
    -------
    Smoothed
        ``lagged_sum`` includes the lag to the sample after the last one, if there is one.
    """
    samples, states = filtered.shape
    mean = np.empty_like(filtered)
    crossing = samples
    if following is None:
        # The last sample's filtered mean is its smoothed one.
        crossing -= 1
        mean[-1] = filtered[-1]
        following = Following(filtered[-1], gains.last_filtered(samples))
    settling = min(gains.settling, crossing)
    backward = gains.steady.backward
    rest = np.eye(states) - backward @ model.transition
    drive = filtered[settling:crossing][::-1] @ rest.T
    mean[settling:crossing] = linear_recursion(backward, drive, following.mean)[::-1]
    after = mean[settling] if settling < samples else following.mean
    mean[:settling] = compiled.smooth_means(
        np.ascontiguousarray(filtered[:settling]),
        model.transition,
        gains.backward[:settling],
        np.ascontiguousarray(after),
    )
    return _posterior(mean, gains, crossing, following.covariance, variance)


def _posterior(
    mean: np.ndarray,
    gains: Gains,
    crossing: int,
    after: np.ndarray,
    variance: np.ndarray | None,
) -> Smoothed:
    """Sum the posterior covariances, from the last sample backwards."""
    settling, steady = min(gains.settling, crossing), gains.steady
    room = np.empty((0, len(after))) if variance is None else variance
    ended = crossing < len(mean)
    if ended and variance is not None:
        variance[-1] = np.diag(after)
    count = crossing - settling
    if count > LONG and variance is None:
        current, total, lagged = _steady_series(after, steady, count)
    else:
        current, total, lagged = compiled.steady_covariances(
            np.ascontiguousarray(after),
            steady.posterior,
            steady.backward,
            count,
            room[settling:crossing],
        )
    before, early, early_lagged = compiled.settling_covariances(
        np.ascontiguousarray(current),
        gains.filtered[:settling],
        gains.predicted[1 : settling + 1],
        gains.backward[:settling],
        room[:settling],
    )
    total, lagged = total + early, lagged + early_lagged
    if ended:
        total = total + after
    return Smoothed(mean, symmetric(total), lagged, before, after)


def _steady_series(
    after: np.ndarray, steady: Steady, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of smoothed covariances over ``count`` samples with constant gains, in closed form.

    P_t - P_inf = J (P_{t+1} - P_inf) J': from the last sample backwards a geometric series.
    """
    backward, settled = steady.backward, steady.posterior
    excess = after - settled
    series = solve_discrete_lyapunov(backward, excess)
    power = np.linalg.matrix_power(backward, count)
    left = power @ excess @ power.T
    from_after = series - power @ series @ power.T
    total = count * settled + from_after - excess + left
    lagged = (count * settled + from_after) @ backward.T
    return settled + left, total, lagged


def posterior_sd(gains: Gains, samples: int) -> np.ndarray:
    """Posterior standard deviation (time, state), exact at both ends."""
    variance = np.empty((samples, len(gains.steady.filtered)))
    last = gains.last_filtered(samples)
    _posterior(np.zeros_like(variance), gains, samples - 1, last, variance)
    return np.sqrt(variance)
