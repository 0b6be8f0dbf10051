"""Firing rates around events or cycles of a wave, against the same events at other times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft


@dataclass(frozen=True)
class Triggered:
    """Mean rates about triggers.

    Attributes
    ----------
    rate : ndarray (lag,)
        Hz.
    low, high : ndarray (lag,)
        2.5 and 97.5 % of the null at each lag, Hz.
    p : float
        Of the largest deviation over lags, in null standard deviations.
    """

    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: float


def correlogram(counts: np.ndarray, triggers: np.ndarray) -> np.ndarray:
    """Mean count at every circular lag behind the triggers, (bin,).

    Parameters
    ----------
    counts : ndarray (bin,)
        Spikes.
    triggers : ndarray (bin,)
        How many triggers fall in a bin.
    """
    count = len(counts)
    product = fft.rfft(counts.astype(float)) * np.conj(fft.rfft(triggers.astype(float)))
    return fft.irfft(product, n=count) / max(triggers.sum(), 1)


def about_triggers(
    counts: np.ndarray,
    triggers: np.ndarray,
    lags: np.ndarray,
    width: float,
    *,
    least: int,
    draws: int,
    rng: np.random.Generator,
) -> Triggered | None:
    """Rate about triggers, and about the same triggers all shifted by one and the same time.

    Shifting all triggers by s moves the correlogram by s: the null is the correlogram elsewhere.
    It keeps the triggers' spacing and the unit's slow course.

    Parameters
    ----------
    counts, triggers : ndarray (bin,)
        Spikes and triggers per bin of ``width`` s.
    lags : ndarray of int (lag,)
        Ascending, in bins.
    width : float
        s.
    least : int
        Smallest shift, in bins beyond the lags themselves.
    draws : int
    rng : Generator

    Returns
    -------
    Triggered or None
        None without triggers or spikes, or if the recording is too short to shift in.
    """
    total = len(counts)
    first, last = least + int(np.ptp(lags)), total - least - int(np.ptp(lags))
    if not triggers.any() or not counts.any() or last - first < 2:
        return None
    course = correlogram(counts, triggers) / width
    observed = course[lags % total]
    shifts = rng.integers(first, last, size=draws)
    null = course[(lags + shifts[:, None]) % total]
    mean, spread = null.mean(axis=0), null.std(axis=0)
    spread = np.maximum(spread, 1e-9 + 1e-6 * abs(mean))
    largest = np.abs((null - mean) / spread).max(axis=1)
    p = (1 + int((largest >= np.abs((observed - mean) / spread).max()).sum())) / (draws + 1)
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    return Triggered(observed, low, high, float(p))
