"""Speed of the population's activity against the interval an animal produces (tp correlation).

Definition: Pei, Ye et al. 2021, "Neural Latents Benchmark '21" (DMFC_RSG): the mean step of the
predicted rates from bin to bin, correlated with the produced interval over the trials of a
condition; the mean over conditions. The faster the activity, the shorter the interval: the more
negative, the better.
"""

from __future__ import annotations

import numpy as np

from driftwave.scores.trial_sums import TrialSums


def speeds(rates: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Mean Euclidean distance of the rates of one bin and the next, (trial,).

    Parameters
    ----------
    rates : ndarray (trial, time, unit)
    scored : ndarray of bool (trial, time)
        Bins between which the distance is taken; NaN for trials with fewer than two.
    """
    found = np.full(len(rates), np.nan)
    for trial, (own, bins) in enumerate(zip(rates, scored, strict=True)):
        if bins.sum() > 1:
            found[trial] = np.linalg.norm(np.diff(own[bins], axis=0), axis=1).mean()
    return found


def interval_correlation(speed: np.ndarray, interval: np.ndarray, labels: np.ndarray) -> float:
    """Mean over conditions of Pearson's r of speed and interval, as the benchmark computes it.

    Parameters
    ----------
    speed, interval : ndarray (trial,)
    labels : ndarray (trial, column)
        Trials of equal rows are of one condition; rows of NaN throughout are of none.

    Returns
    -------
    float
        NaN where a condition's speeds or intervals do not vary. Conditions of a single trial have
        no correlation and are left out.
    """
    correlations = []
    for members in _conditions(labels):
        x, y = speed[members], interval[members]
        if len(x) < 2:
            continue
        x, y = x - x.mean(), y - y.mean()
        scale = np.linalg.norm(x) * np.linalg.norm(y)
        correlations.append(float(x @ y / scale) if scale > 0 else np.nan)
    return float(np.mean(correlations)) if correlations else float("nan")


def interval_sums(speed: np.ndarray, interval: np.ndarray, labels: np.ndarray) -> TrialSums:
    """Per-trial sums from which the mean correlation of any set of trials follows.

    Conditions without a correlation are left out. A shuffle deals speeds within a condition.
    """
    groups = _conditions(labels)
    sums = np.zeros((len(speed), 6, len(groups)))
    pairs = np.full(len(groups), np.nan)
    for k, members in enumerate(groups):
        x, y = speed[members] - speed[members].mean(), interval[members] - interval[members].mean()
        sums[members, :, k] = np.stack([x * y, x, y, x**2, y**2, np.ones_like(x)], axis=1)
        if len(x) > 1:
            # Normalised by all trials later on, where the condition's own would be right.
            pairs[k] = (x.sum() * y.sum() - x @ y) * (len(speed) - 1) / (len(x) - 1)
    return TrialSums(sums=sums, formula=_mean_correlation, other_trials=pairs)


def _conditions(labels: np.ndarray) -> list[np.ndarray]:
    """Trials of each distinct row, bool (trial,)."""
    rows = np.unique(labels, axis=0)
    rows = rows[~np.isnan(rows).all(axis=1)]
    return [members for row in rows if (members := (labels == row).all(axis=1)).any()]


def _mean_correlation(sums: np.ndarray) -> np.ndarray:
    """Mean correlation (...) from sums of xy, x, y, xx, yy and trials, (..., 6, condition)."""
    product, x, y, xx, yy, number = np.moveaxis(sums, -2, 0)
    trials = np.maximum(number, 1)
    spread = np.maximum(xx - x**2 / trials, 0) * np.maximum(yy - y**2 / trials, 0)
    varies = (number > 1) & (spread > 1e-20 * np.maximum(xx * yy, np.finfo(float).tiny))
    r = np.divide(
        product - x * y / trials,
        np.sqrt(spread),
        out=np.zeros_like(spread),
        where=varies & np.isfinite(product),
    )
    count = varies.sum(-1)
    return np.divide(r.sum(-1), count, out=np.full(r.shape[:-1], np.nan), where=count > 0)
