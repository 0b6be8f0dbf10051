"""A sampled signal at the bins: averaged where it is sampled finer, interpolated where not."""

from __future__ import annotations

import numpy as np

# Missing samples up to this long (s), or two and a half sampling intervals, are bridged.
LONGEST_BRIDGE = 0.25


def resample(
    times: np.ndarray, values: np.ndarray, starts: np.ndarray, bin_width: float, bins: int
) -> np.ndarray:
    """Bring a sampled signal to the bins of trials.

    A series stamped at the bins' own starts, at their width, is taken as binned already. A series
    with two samples per bin or more is low-pass filtered: the value of a bin is the mean of the
    samples around its centre c, weighted by the raised cosine ``(1 + cos(pi (t - c) / w)) / 2``
    for ``|t - c| < w``, w the bin width. Its response is zero at multiples of 1/w and stays below
    -31 dB beyond (a plain mean over the bin: -13 dB), so little folds back into the band of the
    bins. A slower series, and a faster one beside a gap, is interpolated linearly at the bins'
    centres.

    Bins whose centre lies in a gap longer than :data:`LONGEST_BRIDGE`, or outside the series,
    are NaN.

    Parameters
    ----------
    times : ndarray (sample,)
        s, ascending; they need not be regular.
    values : ndarray (sample, column)
        A sample counts as missing if any of its columns is NaN.
    starts : ndarray (trial,)
        Start of the first bin of each trial, s.
    bin_width : float
        s.
    bins : int

    Returns
    -------
    ndarray (trial, time, column)
    """
    valid = np.isfinite(values).all(axis=1)
    shape = (len(starts), bins, values.shape[1])
    if not valid.any():
        return np.full(shape, np.nan)
    step = float(np.median(np.diff(times))) if len(times) > 1 else np.inf
    t, y = times[valid], values[valid]
    lefts = (np.asarray(starts)[:, None] + np.arange(bins) * bin_width).ravel()
    if _binned_already(times, step, starts, bin_width):
        found = _nearest(t, y, lefts, bin_width / 2)
    else:
        centres = lefts + bin_width / 2
        found = np.stack([np.interp(centres, t, column) for column in y.T], axis=1)
        if step <= bin_width / 2 * (1 + 1e-6):
            averaged = _raised_cosine_mean(t, y, centres, step, bin_width)
            found = np.where(np.isfinite(averaged), averaged, found)
        found[~_reached(t, centres, step, bin_width)] = np.nan
    return found.reshape(shape)


def _binned_already(times: np.ndarray, step: float, starts: np.ndarray, bin_width: float) -> bool:
    if abs(step - bin_width) > 1e-3 * bin_width:
        return False
    nearest = times[np.clip(np.searchsorted(times, starts - step / 2), 0, len(times) - 1)]
    return bool(np.median(np.abs(nearest - starts)) < 1e-2 * bin_width)


def _nearest(t: np.ndarray, y: np.ndarray, wanted: np.ndarray, within: float) -> np.ndarray:
    after = np.clip(np.searchsorted(t, wanted), 0, len(t) - 1)
    before = np.maximum(after - 1, 0)
    index = np.where(np.abs(t[before] - wanted) <= np.abs(t[after] - wanted), before, after)
    found = y[index].copy()
    found[np.abs(t[index] - wanted) > within] = np.nan
    return found


def _raised_cosine_mean(
    t: np.ndarray, y: np.ndarray, centres: np.ndarray, step: float, bin_width: float
) -> np.ndarray:
    """Weighted means around the centres, from running sums: cost linear in samples and bins.

    NaN where the samples around a centre have a hole. The identity
    cos(a - b) = cos a cos b + sin a sin b turns each weighted sum into three differences of
    running sums, whatever the sampling.
    """
    low = np.searchsorted(t, centres - bin_width, side="left")
    high = np.searchsorted(t, centres + bin_width, side="right")
    middle = y.mean(axis=0)
    columns = np.concatenate([np.ones((len(t), 1)), y - middle], axis=1)
    angle = np.pi * (t - t[0]) / bin_width
    at = np.pi * (centres - t[0]) / bin_width

    def between(weights: np.ndarray) -> np.ndarray:
        running = np.concatenate([np.zeros((1, columns.shape[1])), columns * weights[:, None]])
        np.cumsum(running, axis=0, out=running)
        return running[high] - running[low]

    sums = between(np.ones(len(t)))
    sums += between(np.cos(angle)) * np.cos(at)[:, None]
    sums += between(np.sin(angle)) * np.sin(at)[:, None]
    # Beside a gap, or at the ends, the weights would lean to one side.
    hole = max(bin_width / 2, 1.5 * step) * (1 + 1e-6)
    holes = np.cumsum(np.diff(t, prepend=-np.inf, append=np.inf) > hole)
    whole = holes[high] == np.where(low > 0, holes[low - 1], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole[:, None], sums[:, 1:] / sums[:, :1], np.nan) + middle


def _reached(t: np.ndarray, centres: np.ndarray, step: float, bin_width: float) -> np.ndarray:
    """Whether a centre lies between two samples no further apart than a bridge, or near one."""
    after = np.searchsorted(t, centres)
    right = t[np.minimum(after, len(t) - 1)]
    left = t[np.maximum(after - 1, 0)]
    bridged = (right - left <= max(LONGEST_BRIDGE, 2.5 * step)) & (left <= centres)
    bridged &= centres <= right
    near = np.minimum(np.abs(left - centres), np.abs(right - centres))
    return bridged | (near <= max(bin_width / 2, 0.75 * step))
