"""Chance: the same decoder with the labels of other trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def shift_margin(gap: int) -> int:
    """Smallest circular shift (windows) that parts labels from the activity they belong to.

    Not more than it takes: shifts near the true pairing share its luck. The more of them are left
    out, the oftener a pairing that is good by chance, and its neighbours with it, has no equal
    among those that are left.
    """
    return gap + 1


def possible_shuffles(trials: int, *, contiguous: bool, gap: int) -> float:
    """How many different shuffles there are: few shifts, but as many permutations as wanted."""
    if not contiguous:
        return np.inf if trials > 1 else 0
    return max(0, trials - 2 * shift_margin(gap) + 1)


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
        margin = shift_margin(gap)
        shifts = np.arange(margin, len(trials) - margin + 1)
        for row, shift in enumerate(rng.permutation(shifts)[:count], start=1):
            rows[row, trials] = np.roll(trials, shift)
    else:
        for row in range(1, count + 1):
            rows[row, trials] = rng.permutation(trials)
    return rows


@dataclass(frozen=True)
class BinShifts:
    """Labels shifted circularly by bins along the abutting windows that take part.

    Attributes
    ----------
    usable : ndarray of bool (trial,)
        Windows that take part, laid end to end; the others keep their own label.
    shifts : ndarray of int (label,)
        Bins by which each label is late; the first is 0, the true label.
    """

    usable: np.ndarray
    shifts: np.ndarray

    def __len__(self) -> int:
        return len(self.shifts)

    def rows(self, trials: np.ndarray, bins: int, labels: slice) -> np.ndarray:
        """Rows (label, trial, time) of the flattened (trial, time) axis that labels come from."""
        order = np.flatnonzero(self.usable)
        place = np.cumsum(self.usable) - 1
        time = np.arange(bins)
        own = trials[:, None] * bins + time
        late = (place[trials] * bins)[:, None] + time - self.shifts[labels][:, None, None]
        late %= len(order) * bins
        shifted = order[late // bins] * bins + late % bins
        return np.where(self.usable[trials][:, None], shifted, own)


# Whose label each trial is given (label, trial), or shifts by bins; label 0 is the true one.
Labels = np.ndarray | BinShifts


def label_rows(labels: Labels, trials: np.ndarray, bins: int, chosen: slice) -> np.ndarray:
    """Rows (label, trial, time) of the flattened (trial, time) axis that labels come from."""
    if isinstance(labels, BinShifts):
        return labels.rows(trials, bins, chosen)
    return labels[chosen][:, trials][..., None] * bins + np.arange(bins)


def possible_shifts(trials: int, bins: int, gap: int) -> int:
    """How many circular shifts by bins keep the margin of :func:`shift_margin`."""
    return max(0, (trials - 2 * shift_margin(gap)) * bins + 1)


def shifted_bins(
    usable: np.ndarray, count: int, bins: int, *, gap: int, rng: np.random.Generator
) -> BinShifts:
    """The true labels, then ``count`` different circular shifts by bins.

    No shift is smaller than the gap and one window: labels that are late by less than the
    behaviour's autocorrelation still belong to the activity.

    Parameters
    ----------
    usable : ndarray of bool (trial,)
    count : int
        At most :func:`possible_shifts`; fewer are drawn where there are fewer.
    bins : int
        Bins per window.
    gap : int
        Windows left out around a held fold.
    rng : Generator
    """
    windows = int(usable.sum())
    least = shift_margin(gap) * bins
    number = min(count, possible_shifts(windows, bins, gap))
    shifts = least + rng.permutation(possible_shifts(windows, bins, gap))[:number]
    return BinShifts(usable, np.concatenate([[0], shifts]))


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
