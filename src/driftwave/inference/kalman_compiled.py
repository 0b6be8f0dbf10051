"""Compiled loops of the Kalman filter and smoother over samples whose covariances still change.

All matrices are float64 and C-contiguous; S is the number of states.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def _apart(one: np.ndarray, other: np.ndarray) -> float:
    largest = 0.0
    for i in range(one.shape[0]):
        for j in range(one.shape[1]):
            largest = max(largest, abs(one[i, j] - other[i, j]))
    return largest


@numba.njit(cache=True)
def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2


@numba.njit(cache=True)
def settle(
    initial: np.ndarray,
    transition: np.ndarray,
    noise: np.ndarray,
    information: np.ndarray,
    steady: np.ndarray,
    limit: float,
    most: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and filtered covariances, smoother gains, log det(I + predicted M) while settling.

    Runs until no element of the predicted covariance is further than ``limit`` from ``steady``, at
    most ``most`` samples. The predicted covariance of the sample after comes last.
    """
    states = len(initial)
    room = min(most, 64)
    predicted, filtered = np.empty((room, states, states)), np.empty((room, states, states))
    backward, logarithm = np.empty((room, states, states)), np.empty(room)
    identity, crossing = np.eye(states), np.ascontiguousarray(transition.T)
    current = initial.copy()
    step = 0
    while step < most and _apart(current, steady) > limit:
        if step == room:
            more = min(most, 2 * room)
            wider = np.empty((3, more, states, states))
            wider[0, :room], wider[1, :room], wider[2, :room] = predicted, filtered, backward
            predicted, filtered, backward = wider[0], wider[1], wider[2]
            longer = np.empty(more)
            longer[:room] = logarithm
            logarithm, room = longer, more
        weight = identity + current @ information
        after = _symmetric(np.linalg.solve(weight, current))
        predicted[step], filtered[step] = current, after
        logarithm[step] = np.linalg.slogdet(weight)[1]
        crossed = transition @ after
        current = _symmetric(crossed @ crossing + noise)
        backward[step] = np.linalg.solve(current, crossed).T
        step += 1
    ahead = np.empty((step + 1, states, states))
    ahead[:step], ahead[step] = predicted[:step], current
    return ahead, filtered[:step], backward[:step], logarithm[:step]


@numba.njit(cache=True)
def filter_means(
    reduced: np.ndarray,
    transition: np.ndarray,
    information: np.ndarray,
    filtered: np.ndarray,
    predicted: np.ndarray,
    start: np.ndarray,
) -> np.ndarray:
    """Filtered means (time, S) with one covariance per sample, from the mean before them."""
    mean = np.empty_like(reduced)
    identity, state = np.eye(len(start)), start
    for t in range(len(reduced)):
        ahead = np.linalg.solve(identity + predicted[t] @ information, transition @ state)
        state = ahead + filtered[t] @ reduced[t]
        mean[t] = state
    return mean


@numba.njit(cache=True)
def smooth_means(
    filtered: np.ndarray, transition: np.ndarray, backward: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """Smoothed means (time, S) with one gain per sample, from the smoothed mean after them."""
    mean = np.empty_like(filtered)
    state = after
    for t in range(len(filtered) - 1, -1, -1):
        state = filtered[t] + backward[t] @ (state - transition @ filtered[t])
        mean[t] = state
    return mean


@numba.njit(cache=True)
def recursion(matrix: np.ndarray, drive: np.ndarray, start: np.ndarray) -> np.ndarray:
    """x_t = matrix x_{t-1} + drive_t, x_{-1} = start."""
    out = np.empty_like(drive)
    state = start
    for t in range(len(drive)):
        state = matrix @ state + drive[t]
        out[t] = state
    return out


@numba.njit(cache=True)
def steady_covariances(
    after: np.ndarray, settled: np.ndarray, gain: np.ndarray, count: int, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smoothed covariances back through ``count`` samples with a constant gain.

    Parameters
    ----------
    after : ndarray (S, S)
        Smoothed covariance of the sample after them.
    settled, gain : ndarray (S, S)
        The covariance they tend to, and J.
    count : int
    variance : ndarray (count, S) or (0, S)
        Receives the diagonals, where it has room.

    Returns
    -------
    current, total, lagged : ndarray (S, S)
        Covariance of the first of them; sums of Cov(x_t) and of Cov(x_{t+1}, x_t).
    """
    turned = np.ascontiguousarray(gain.T)
    excess = after - settled
    total, lagged_from = np.zeros_like(after), np.zeros_like(after)
    small, steps = 1e-14 * np.abs(settled).max(), 0
    for t in range(count - 1, -1, -1):
        lagged_from += excess
        excess = gain @ excess @ turned
        total += excess
        if len(variance):
            variance[t] = np.diag(settled + excess)
        steps += 1
        if np.abs(excess).max() <= small:
            excess[:] = 0
            break
    for t in range(count - steps if len(variance) else 0):
        variance[t] = np.diag(settled)
    lagged = (lagged_from + count * settled) @ turned
    return settled + excess, total + count * settled, lagged


@numba.njit(cache=True)
def settling_covariances(
    after: np.ndarray,
    filtered: np.ndarray,
    predicted: np.ndarray,
    backward: np.ndarray,
    variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`steady_covariances`, with gains of their own for every sample.

    ``predicted`` holds the predicted covariance of the sample after each.
    """
    total, lagged = np.zeros_like(after), np.zeros_like(after)
    current = after
    for t in range(len(filtered) - 1, -1, -1):
        gain = backward[t]
        turned = np.ascontiguousarray(gain.T)
        lagged += current @ turned
        current = _symmetric(filtered[t] + gain @ (current - predicted[t]) @ turned)
        total += current
        if len(variance):
            variance[t] = np.diag(current)
    return current, total, lagged
