"""R2 of predicted rates or states against the truth of a simulation."""

from __future__ import annotations

import numpy as np

from driftwave.scores.trial_sums import TrialSums


def mean_r2(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Uniform mean over units (last dim) of R2 over all other dims.

    A unit whose truth does not vary has no R2 and is left out.

    Parameters
    ----------
    predicted, truth : ndarray (..., unit)
    """
    return r2_sums(predicted[None], truth[None]).value()


def r2_sums(predicted: np.ndarray, truth: np.ndarray) -> TrialSums:
    """Per-trial sums from which :func:`mean_r2` of any set of trials follows.

    Parameters
    ----------
    predicted, truth : ndarray (trial, ..., unit)
        NaN entries of the truth are left out.
    """
    predicted, truth = np.asarray(predicted, dtype=float), np.asarray(truth, dtype=float)
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction has shape {predicted.shape}, truth {truth.shape}")
    there = ~np.isnan(truth)
    inner = tuple(range(1, truth.ndim - 1))
    outer = tuple(range(truth.ndim - 1))
    bins = there.sum(inner, dtype=float)
    # Sums of squares of values far from zero lose digits; each unit's mean is of no consequence.
    level = np.where(there, truth, 0.0).sum(outer) / np.maximum(bins.sum(0), 1)
    predicted, truth = predicted - level, np.where(there, truth - level, 0.0)
    error = np.where(there, (truth - predicted) ** 2, 0.0).sum(inner)
    first, second = truth.sum(inner), (truth**2).sum(inner)
    trials = truth.shape[0]
    others = there.sum(0) * (predicted**2).sum(0) - 2 * truth.sum(0) * predicted.sum(0)
    pairs = trials * second.sum(0) + others.sum(tuple(range(truth.ndim - 2)))
    return TrialSums(
        sums=np.stack([error, first, second, bins], 1),
        formula=_mean_r2,
        other_trials=pairs - error.sum(0),
    )


def _mean_r2(sums: np.ndarray) -> np.ndarray:
    """Mean R2 (...) from squared error, sum, sum of squares and bins, shape (..., 4, unit)."""
    error, first, second, bins = np.moveaxis(sums, -2, 0)
    spread = second - first**2 / np.maximum(bins, 1)
    varies = spread > 1e-12 * np.maximum(second, np.finfo(float).tiny)
    r2 = 1 - np.divide(error, spread, out=np.zeros_like(error), where=varies)
    count = varies.sum(-1)
    total = np.where(varies, r2, 0.0).sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
