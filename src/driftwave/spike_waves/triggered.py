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


def about_cycles(
    counts: np.ndarray,
    triggers: np.ndarray,
    lags: np.ndarray,
    width: float,
    *,
    least: int,
    draws: int,
    rng: np.random.Generator,
) -> Triggered | None:
    """Rate about many triggers, and about the same triggers all shifted by one and the same time.

    Shifting all triggers by s moves the correlogram by s: the null is the correlogram elsewhere.
    It keeps the triggers' spacing. Deviations are from the mean over lags, so that slow changes
    of the unit's rate do not count.

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
    shifts = rng.integers(first, last, size=draws)
    null = course[(lags + shifts[:, None]) % total]
    return _compared(course[lags % total], null, centred=True)


def about_events(
    counts: np.ndarray,
    places: np.ndarray,
    lags: np.ndarray,
    width: float,
    *,
    jitter: int,
    draws: int,
    rng: np.random.Generator,
) -> Triggered | None:
    """Rate about few events, and about the same events, each moved a little on its own.

    Each event moves by up to ``jitter`` bins either way, so that changes of the unit's rate that
    are slower than that stay in the null.

    Parameters
    ----------
    counts : ndarray (bin,)
        Spikes per bin of ``width`` s.
    places : ndarray of int (event,)
        Bins of the events, whose lags lie within the recording.
    lags : ndarray of int (lag,)
        Ascending, in bins.
    width : float
        s.
    jitter, draws : int
    rng : Generator

    Returns
    -------
    Triggered or None
        None without events or spikes.
    """
    if not len(places) or not counts.any():
        return None
    low = np.maximum(places - jitter, -lags[0])
    high = np.minimum(places + jitter, len(counts) - 1 - lags[-1])
    null = np.zeros((draws, len(lags)))
    for first, last in zip(low, high, strict=True):
        moved = rng.integers(first, last + 1, size=draws)
        null += counts[moved[:, None] + lags]
    scale = 1 / (len(places) * width)
    observed = counts[places[:, None] + lags].sum(axis=0)
    return _compared(observed * scale, null * scale, centred=False)


def _compared(observed: np.ndarray, null: np.ndarray, *, centred: bool) -> Triggered:
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    here, there = observed, null
    if centred:
        here, there = observed - observed.mean(), null - null.mean(axis=1, keepdims=True)
    mean, spread = there.mean(axis=0), there.std(axis=0)
    spread = np.maximum(spread, 1e-9 + 1e-6 * np.abs(null.mean(axis=0)))
    largest = np.abs((there - mean) / spread).max(axis=1)
    beyond = int((largest >= np.abs((here - mean) / spread).max()).sum())
    return Triggered(observed, low, high, (1 + beyond) / (len(null) + 1))
