"""Chance: the same decoder with the labels of other trials."""

from __future__ import annotations

import numpy as np


def shift_margin(trials: int, gap: int) -> int:
    """Smallest circular shift (windows) that parts labels from the activity they belong to."""
    return max(gap + 1, trials // 10)


def possible_shuffles(trials: int, *, contiguous: bool, gap: int) -> float:
    """How many different shuffles there are: few shifts, but as many permutations as wanted."""
    if not contiguous:
        return np.inf if trials > 1 else 0
    return max(0, trials - 2 * shift_margin(trials, gap) + 1)


def shuffled_trials(
    usable: np.ndarray, count: int, *, contiguous: bool, gap: int, rng: np.random.Generator
) -> np.ndarray:
    """Whose label each trial is given: row 0 its own, then ``count`` shuffles.

    Whole trials are permuted, so that the autocorrelation within a trial and the mean time course
    stay; abutting windows are shifted circularly, so that the autocorrelation across them stays.

    Parameters
    ----------
    usable : ndarray of bool (trial,)
        Trials that take part; the others keep their own label.
    count : int
        At most :func:`possible_shuffles`.
    contiguous : bool
        Trials are abutting windows.
    gap : int
        Windows left out around a held fold.
    rng : Generator

    Returns
    -------
    ndarray of int (1 + count, trial)
    """
    rows = np.tile(np.arange(len(usable)), (count + 1, 1))
    trials = np.flatnonzero(usable)
    if contiguous:
        margin = shift_margin(len(trials), gap)
        shifts = np.arange(margin, len(trials) - margin + 1)
        for row, shift in enumerate(rng.permutation(shifts)[:count], start=1):
            rows[row, trials] = np.roll(trials, shift)
    else:
        for row in range(1, count + 1):
            rows[row, trials] = rng.permutation(trials)
    return rows


def p_value(observed: np.ndarray, null: np.ndarray, *, smaller: bool = False) -> np.ndarray:
    """Permutation p-value (1 + #{null at least as extreme}) / (B + 1).

    Phipson & Smyth 2010 (10.2202/1544-6115.1585), equation 2: never zero.

    Parameters
    ----------
    observed : ndarray (...)
    null : ndarray (..., shuffle)
    smaller : bool
        Small values are the extreme ones (an error instead of an R2).

    Returns
    -------
    ndarray (...)
        NaN where nothing was observed.
    """
    at_least = null <= observed[..., None] if smaller else null >= observed[..., None]
    values = (1 + at_least.sum(-1)) / (null.shape[-1] + 1)
    return np.where(np.isnan(observed), np.nan, values)
