"""Distances between conditions and speed over time, unbiased by noise."""

from __future__ import annotations

import numpy as np

from driftwave.geometry.repeats import Repeats


def _sums(values: np.ndarray, of: np.ndarray, conditions: int) -> tuple[np.ndarray, np.ndarray]:
    """Average (condition, time, dim), and how far noise inflates its squared length (condition,
    time): the variance over repeats, summed over dims, divided by their number.
    """
    chosen = (of == np.arange(conditions)[:, None]).astype(float)
    number = chosen.sum(axis=1)
    flat = values.reshape(len(values), -1)
    mean = (chosen @ flat / number[:, None]).reshape(conditions, *values.shape[1:])
    squared = chosen @ (values**2).sum(axis=2)
    about = squared - number[:, None] * (mean**2).sum(axis=2)
    return mean, about / (number * (number - 1))[:, None]


def pairwise_distances(repeats: Repeats) -> np.ndarray:
    r"""Squared distance (condition, condition, time) of condition averages, unbiased.

    :math:`\|\bar a - \bar b\|^2 - s_a^2 / n_a - s_b^2 / n_b` with the variances over repeats
    summed over dims: the mean over all pairs of different repeats of
    :math:`(a_i - b_k)^\top (a_j - b_l)`, as leave-one-out cross-validation of every repeat gives
    it (the distance of crossnobis without its whitening). Negative values are noise about zero.
    """
    mean, excess = _sums(repeats.values, repeats.of, repeats.conditions)
    inner = np.einsum("atd,btd->abt", mean, mean, optimize=True)
    norm = np.einsum("aat->at", inner)
    found = norm[:, None] + norm[None] - 2 * inner - excess[:, None] - excess[None]
    every = np.arange(repeats.conditions)
    found[every, every] = 0
    return found


def mean_distance(values: np.ndarray, of: np.ndarray, conditions: int) -> np.ndarray:
    """Mean over pairs of conditions (time,) of :func:`pairwise_distances`, without the pairs."""
    mean, excess = _sums(values, of, conditions)
    spread = ((mean - mean.mean(axis=0)) ** 2).sum(axis=(0, 2))
    return 2 * spread / (conditions - 1) - 2 * excess.mean(axis=0)


def shuffled_distances(repeats: Repeats, shuffles: int, rng: np.random.Generator) -> np.ndarray:
    """Mean distances (shuffle, time) with the labels permuted among repeats."""
    found = np.empty((shuffles, repeats.values.shape[1]))
    for row in found:
        row[:] = mean_distance(repeats.values, rng.permutation(repeats.of), repeats.conditions)
    return found


def squared_speed(values: np.ndarray, of: np.ndarray, conditions: int, step: float) -> np.ndarray:
    """Squared speed (condition, time) of condition averages, unbiased by noise, per s^2.

    Of central differences of ``step`` seconds a bin; first and last time as their neighbours.
    """
    velocity = np.gradient(values, step, axis=1)
    mean, excess = _sums(velocity, of, conditions)
    found = (mean**2).sum(axis=2) - excess
    return found


def unlocked_speeds(
    repeats: Repeats, step: float, shuffles: int, rng: np.random.Generator
) -> np.ndarray:
    """Mean squared speeds over conditions (shuffle, time) with every trial's time shifted.

    Every repeat is shifted circularly by its own amount, its velocity with it: its own dynamics
    stay, that they are locked to the alignment event does not.
    """
    velocity = np.gradient(repeats.values, step, axis=1)
    times = velocity.shape[1]
    index = np.arange(times)
    found = np.empty((shuffles, times))
    for row in found:
        shift = rng.integers(times, size=len(velocity))
        rolled = velocity[np.arange(len(velocity))[:, None], (index + shift[:, None]) % times]
        mean, excess = _sums(rolled, repeats.of, repeats.conditions)
        row[:] = ((mean**2).sum(axis=2) - excess).mean(axis=0)
    return found


def signed_root(squared: np.ndarray) -> np.ndarray:
    """Square root that keeps the sign: of unbiased squares, which may be negative."""
    return np.sign(squared) * np.sqrt(np.abs(squared))
