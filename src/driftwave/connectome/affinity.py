"""How alike units move in each stretch of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

Kind = Literal["comoving", "correlation"]


@dataclass(frozen=True)
class Affinities:
    """Affinities of all pairs of units in Gaussian windows.

    Attributes
    ----------
    time : ndarray (window,)
        Centres, s.
    values : ndarray (window, pair)
        In [0, 1]; pairs in the order of ``numpy.triu_indices(units, 1)``.
    units : int
    """

    time: np.ndarray
    values: np.ndarray
    units: int


def affinities(
    time: np.ndarray,
    traces: np.ndarray,
    *,
    window: float,
    smoothing: float,
    kind: Kind = "comoving",
) -> Affinities:
    r"""Affinity of each pair of units around each of a series of moments.

    ``comoving``: with :math:`d_i` the derivative of the smoothed trace over its root mean square
    in the whole recording, and :math:`\langle \cdot \rangle_t` a Gaussian window around ``t``,

    .. math:: a_{ij}(t) = \left[\frac{\langle d_i d_j \rangle_t}
        {\sqrt{\langle d_i^2 \rangle_t \langle d_j^2 \rangle_t}}\right]_+
        \sqrt{\min(1, \langle d_i^2 \rangle_t) \min(1, \langle d_j^2 \rangle_t)}

    so that units have an affinity while they change, and change alike; slow drifts and common
    baselines have none. The idea of affinities from derivatives is that of Dyballa et al. 2024
    (arXiv 2402.14102, section 3). ``correlation`` is the positive part of the correlation of the
    traces in the window.

    Parameters
    ----------
    time : ndarray (frame,)
        Even, s.
    traces : ndarray (frame, unit)
    window : float
        Standard deviation of the window, s; windows follow each other at this distance.
    smoothing : float
        Standard deviation of the Gaussian that smooths the traces, s; 0 for none.
    kind : {"comoving", "correlation"}
    """
    step = float(time[1] - time[0])
    if smoothing > 0:
        traces = gaussian_filter1d(traces, smoothing / step, axis=0, mode="nearest")
    moving = kind == "comoving"
    signal = np.gradient(traces, step, axis=0) if moving else traces
    if moving:
        signal = signal / np.maximum(np.sqrt((signal**2).mean(axis=0)), 1e-300)
    centres = np.arange(time[0] + window, time[-1] - window + 1e-9, window)
    first, second = np.triu_indices(signal.shape[1], 1)
    values = np.empty((len(centres), len(first)), np.float32)
    for row, centre in enumerate(centres):
        near = slice(*np.searchsorted(time, [centre - 3 * window, centre + 3 * window]))
        weight = np.exp(-0.5 * ((time[near] - centre) / window) ** 2)
        values[row] = _in_window(signal[near], weight / weight.sum(), moving)[first, second]
    return Affinities(centres, values, signal.shape[1])


def _in_window(signal: np.ndarray, weight: np.ndarray, moving: bool) -> np.ndarray:
    if not moving:
        signal = signal - weight @ signal
    weighted = signal * np.sqrt(weight)[:, None]
    product = weighted.T @ weighted
    power = np.sqrt(np.maximum(np.diag(product), 1e-300))
    alike = np.clip(product / np.outer(power, power), 0, 1)
    if moving:
        share = np.minimum(1, power)
        alike *= np.outer(share, share)
    return alike


def square(pairs: np.ndarray, units: int) -> np.ndarray:
    """Symmetric matrices (..., unit, unit) of pairs (..., pair), with zeros on the diagonal."""
    first, second = np.triu_indices(units, 1)
    full = np.zeros((*pairs.shape[:-1], units, units), pairs.dtype)
    full[..., first, second] = pairs
    full[..., second, first] = pairs
    return full
