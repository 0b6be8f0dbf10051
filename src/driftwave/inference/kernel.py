"""Gaussian smoothing of trials, corrected at their edges."""

from __future__ import annotations

import numpy as np


def smoothing_matrix(bins: int, width: float) -> np.ndarray:
    """Gaussian weights between bins, (bin out, bin in), each row summing to one.

    Renormalising each row keeps a constant signal constant up to the edges of a trial.

    Parameters
    ----------
    bins : int
    width : float
        Standard deviation, bins.
    """
    lag = np.arange(bins)[:, None] - np.arange(bins)
    weights = np.exp(-0.5 * (lag / width) ** 2)
    return weights / weights.sum(1, keepdims=True)


def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Smooth (trial, time, ...) along time; ``width`` is the standard deviation in bins."""
    return np.einsum("st,nt...->ns...", smoothing_matrix(values.shape[1], width), values)


def last_bins(features: np.ndarray, lag: int) -> np.ndarray:
    """Features at the last bin and ``lag`` bins before it, side by side: (trial, 2 feature).

    Two moments tell where the activity is and where it goes. A trial shorter than the lag gives
    its first bin.
    """
    last = features.shape[1] - 1
    return np.concatenate([features[:, last], features[:, max(0, last - lag)]], axis=-1)
