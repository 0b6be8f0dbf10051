"""Sets of disjoint time intervals, and whether a trial lies inside one."""

from __future__ import annotations

import numpy as np

# Intervals that overlap by less than this (s) abut: their edges are rounded apart in the file.
ABUT = 1e-6


def merge(intervals: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Union of intervals as sorted, disjoint ones.

    Parameters
    ----------
    intervals : ndarray (interval, 2)
        Start and stop, s; they may overlap and repeat.
    tolerance : float
        Intervals this close (s) become one.

    Returns
    -------
    ndarray (interval, 2)
    """
    ordered = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1])
    begins = np.concatenate([[True], ordered[1:, 0] > reach[:-1] + tolerance])
    ends = np.concatenate([begins[1:], [True]])
    return np.stack([ordered[begins, 0], reach[ends]], axis=1)


def covered(
    intervals: np.ndarray, starts: np.ndarray, stops: np.ndarray, tolerance: float
) -> np.ndarray:
    """Which trials lie wholly inside one of the intervals, give or take ``tolerance`` (s).

    Parameters
    ----------
    intervals : ndarray (interval, 2)
        Sorted and disjoint, as :func:`merge` returns them.
    starts, stops : ndarray (trial,)
        s.

    Returns
    -------
    ndarray of bool (trial,)
    """
    at = np.searchsorted(intervals[:, 0], starts + tolerance, side="right") - 1
    inside = stops <= intervals[np.maximum(at, 0), 1] + tolerance
    return (at >= 0) & inside


def within(intervals: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which times lie in one of sorted, disjoint intervals, both ends included; bool (time,)."""
    at = np.searchsorted(intervals[:, 0], times, side="right") - 1
    return (at >= 0) & (times <= intervals[np.maximum(at, 0), 1])


def minus(intervals: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What of sorted, disjoint intervals (interval, 2) the others, of the same kind, leave."""
    if not len(others):
        return intervals
    left: list[list[float]] = []
    for start, stop in intervals:
        for begin, end in others[(others[:, 1] > start) & (others[:, 0] < stop)]:
            if begin > start:
                left.append([start, begin])
            start = max(start, end)
        if start < stop:
            left.append([start, stop])
    return np.array(left).reshape(-1, 2)
