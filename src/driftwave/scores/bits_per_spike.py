"""Bits per spike as the Neural Latents Benchmark defines it, and its expectation given the truth.

Definition: Pei, Ye et al. 2021, "Neural Latents Benchmark '21", section 3 (co-smoothing).
"""

from __future__ import annotations

import numpy as np

from driftwave.scores.trial_sums import TrialSums

# A rate of zero would make one spike infinitely surprising; the benchmark puts this in its place.
ZERO_RATE = 1e-9


def bits_per_spike(rates: np.ndarray, counts: np.ndarray) -> float:
    """Gain of predicted rates over each unit's mean rate, in bits per spike.

    ``(NLL_null - NLL_model) / (total spikes * ln 2)`` with Poisson likelihoods; the null model is
    each unit's mean over the evaluation counts themselves. A unit without a spike in the
    evaluation has a null rate of 1e-9 and costs whatever the model predicted for it.

    Parameters
    ----------
    rates : ndarray (..., unit)
        Predicted rates, spikes/bin; zeros become 1e-9. The array is not changed.
    counts : ndarray (..., unit)
        Spikes per bin; NaN entries are left out.

    Returns
    -------
    float
        bits/spike; NaN if there is no spike at all.

    Raises
    ------
    ValueError
        On different shapes, or a negative, NaN or infinite rate where there is a count.
    """
    return float(bps_sums(rates[None], counts[None]).value())


def expected_bits_per_spike(rates: np.ndarray, true_rates: np.ndarray) -> float:
    """Bits per spike that predicted rates reach on a fresh repeat, given the true rates.

    The score is linear in the counts except for its null model and normalisation, which take their
    expected counts: the closed form is :func:`bits_per_spike` with true rates in the counts' place.

    Parameters
    ----------
    rates, true_rates : ndarray (..., unit)
        spikes/bin.
    """
    return bits_per_spike(rates, true_rates)


def bps_sums(rates: np.ndarray, counts: np.ndarray) -> TrialSums:
    """Per-trial sums from which bits per spike of any set of trials follows.

    Where counts are missing, the shuffled score needs rates all the same, and is NaN without.

    Parameters
    ----------
    rates, counts : ndarray (trial, ..., unit)
        spikes/bin, as in :func:`bits_per_spike`.
    """
    rates, counts, seen = _checked(rates, counts)
    log_rates = np.log(rates)
    inner = tuple(range(1, rates.ndim - 1))
    cost = np.where(seen, rates - counts * log_rates, 0.0).sum(inner)
    spikes, bins = counts.sum(inner), seen.sum(inner, dtype=float)
    # Sum over all ordered pairs of different trials: everything minus each trial with itself.
    pairs = (seen.sum(0) * rates.sum(0) - counts.sum(0) * log_rates.sum(0)).sum(
        tuple(range(rates.ndim - 2))
    )
    return TrialSums(
        sums=np.stack([cost, spikes, bins], 1),
        formula=_bps,
        other_trials=pairs - cost.sum(0),
    )


def _checked(rates: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates without zeros (NaN where impossible), counts without NaN, where there are counts."""
    rates, counts = np.asarray(rates, dtype=float), np.asarray(counts, dtype=float)
    if rates.shape != counts.shape:
        raise ValueError(f"rates have shape {rates.shape}, counts {counts.shape}")
    seen = ~np.isnan(counts)
    if not np.isfinite(rates[seen]).all():
        raise ValueError("rates hold NaN or infinite values")
    if (rates[seen] < 0).any():
        raise ValueError("rates hold negative values")
    usable = np.isfinite(rates) & (rates >= 0)
    rates = np.where(usable, rates, np.nan)
    return np.where(rates == 0, ZERO_RATE, rates), np.where(seen, counts, 0.0), seen


def _bps(sums: np.ndarray) -> np.ndarray:
    """Bits per spike (...) from summed cost, spikes and bins, shape (..., 3, unit)."""
    cost, spikes, bins = np.moveaxis(sums, -2, 0)
    mean = np.divide(spikes, bins, out=np.zeros_like(spikes), where=bins > 0)
    mean = np.where(mean == 0, ZERO_RATE, mean)
    null = bins * mean - spikes * np.log(mean)
    total = spikes.sum(-1)
    gain = (null - cost).sum(-1)
    return np.divide(gain, total * np.log(2), out=np.full_like(total, np.nan), where=total > 0)
