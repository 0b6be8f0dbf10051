"""Trajectory tangling: whether similar states go different ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.geometry.dimension import principal_components

# Rates are divided by their range plus this (Hz): units that hardly fire count less.
SOFTENING = 5.0
# Share of the mean squared state that keeps the denominator from zero.
EPSILON = 0.1
QUANTILE = 0.9
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Flow:
    """States and their derivatives.

    Attributes
    ----------
    state : ndarray (condition, time, dim)
        Centred over conditions and times.
    derivative : ndarray (condition, time, dim)
        Per second.
    """

    state: np.ndarray
    derivative: np.ndarray


def soft_normalised(averages: np.ndarray, softening: float) -> np.ndarray:
    """Averages (condition, time, dim), each dim divided by its range plus a constant."""
    spread = np.ptp(averages, axis=(0, 1)) + softening
    return averages / np.where(spread > 0, spread, 1)


def flow_of(averages: np.ndarray, *, components: int, bin_width: float) -> Flow:
    """Leading principal components of averages (condition, time, dim) and their derivatives.

    Raises
    ------
    ValueError
        Fewer than three times, or averages that do not vary.
    """
    conditions, times, dims = averages.shape
    if times < 3:
        raise ValueError("fewer than three times")
    rows = averages.reshape(-1, dims)
    state = principal_components(rows, components).project(rows).reshape(conditions, times, -1)
    return Flow(state, np.gradient(state, bin_width, axis=1))


def tangling(flow: Flow, *, step: int = 1) -> np.ndarray:
    r"""Tangling Q (condition, time) of states among all conditions and times, s^-2.

    Russo et al. 2018 (10.1016/j.neuron.2018.01.004), equation 1:
    :math:`Q(t) = \max_{t'} \|\dot x_t - \dot x_{t'}\|^2 / (\|x_t - x_{t'}\|^2 + \epsilon)`, with
    :math:`\epsilon` a tenth of the mean squared state. A circle run through at angular velocity
    :math:`\omega` has :math:`Q = \omega^2 4 / 4.1` everywhere.

    Parameters
    ----------
    flow : Flow
    step : int
        Every so many times are compared.
    """
    state, derivative = flow.state[:, ::step], flow.derivative[:, ::step]
    shape = state.shape[:2]
    x, v = state.reshape(-1, state.shape[-1]), derivative.reshape(-1, state.shape[-1])
    epsilon = EPSILON * (x**2).sum(axis=1).mean()
    found = np.empty(len(x))
    for start in range(0, len(x), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found[part] = (_squared(v[part], v) / (_squared(x[part], x) + epsilon)).max(axis=1)
    return found.reshape(shape)


def _squared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    norm = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    return np.maximum(norm - 2 * first @ second.T, 0)


def time_step(flow: Flow, most: int) -> int:
    """Every how many times are compared so that there are at most about ``most`` states."""
    return max(1, int(np.ceil(flow.state.shape[0] * flow.state.shape[1] / most)))


def shifted_flow(flow: Flow, rng: np.random.Generator) -> Flow:
    """Each component with its conditions permuted and its times shifted circularly by itself.

    States keep their derivatives, so that no jump arises where the end meets the start. The
    spectrum, the dimension and every component's own dynamics stay; that they go together does
    not.
    """
    state, derivative = np.empty_like(flow.state), np.empty_like(flow.derivative)
    conditions, times, dims = flow.state.shape
    for dim in range(dims):
        order, shift = rng.permutation(conditions), int(rng.integers(times))
        for out, values in ((state, flow.state), (derivative, flow.derivative)):
            out[..., dim] = np.roll(values[order, :, dim], shift, axis=1)
    return Flow(state, derivative)
