"""What is identified of oscillators with the same frequency and damping: a subspace.

Two oscillators with one (a, omega) may be mixed by any unitary matrix, z' = U z, without a change
to the field's distribution. Only the complex subspace that their loadings span can then be compared
between fits, of two halves of a recording or of two seeds: pair the oscillators of one
:func:`equal_groups` label with those of the other fit nearest in frequency, and take the
:func:`principal_angles` between their loadings. Small angles mean that both fits found the same
patterns, however differently each mixed them.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.linalg import subspace_angles
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2

LEVEL = 0.95
NEEDED = ("frequency", "frequency_sd", "damping", "damping_sd")


def principal_angles(loading_a: np.ndarray, loading_b: np.ndarray) -> np.ndarray:
    """Principal angles between the complex subspaces that two sets of loadings span.

    Parameters
    ----------
    loading_a, loading_b : ndarray, complex (oscillator, electrode)
        Of the same electrodes; the numbers of oscillators may differ.

    Returns
    -------
    ndarray (min of the numbers of oscillators,)
        Degrees in [0, 90], the largest first (Bjorck & Golub 1973, Mathematics of Computation
        27:579). Neither a mixture of the oscillators nor their phases or amplitudes change them.

    Raises
    ------
    ValueError
        If the electrodes differ in number, or loadings are not finite or linearly dependent.
    """
    first, second = np.atleast_2d(loading_a), np.atleast_2d(loading_b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"loadings of {first.shape[1]} and of {second.shape[1]} electrodes")
    for loading in (first, second):
        # Checks that values are finite before the rank, whose decomposition would not converge.
        if not np.isfinite(loading).all() or np.linalg.matrix_rank(loading) < len(loading):
            raise ValueError("loadings must be finite and linearly independent")
    return np.degrees(subspace_angles(first.T, second.T))


def equal_groups(
    frequency: np.ndarray,
    frequency_sd: np.ndarray,
    damping: np.ndarray,
    damping_sd: np.ndarray,
) -> np.ndarray:
    """Which oscillators have the same frequency and damping within their standard errors.

    Two belong together if (difference of frequencies)^2 / variance plus the same of dampings is
    below the 95 % point of chi-square with two degrees of freedom, and so do those linked by a
    third.

    Parameters
    ----------
    frequency, frequency_sd : ndarray (oscillator,)
        Any unit.
    damping, damping_sd : ndarray (oscillator,)
        NaN standard errors keep an oscillator by itself.

    Returns
    -------
    ndarray of int (oscillator,)
        Label of each oscillator's group, numbered in order of appearance.
    """

    def apart(value: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        value, deviation = np.asarray(value, float), np.asarray(deviation, float)
        variance = deviation[:, None] ** 2 + deviation[None] ** 2
        square = (value[:, None] - value[None]) ** 2
        return square / np.maximum(variance, np.finfo(float).tiny)

    distance = apart(frequency, frequency_sd) + apart(damping, damping_sd)
    _, label = connected_components(distance < chi2.ppf(LEVEL, 2), directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def groups_of(latents: xr.Dataset) -> np.ndarray:
    """:func:`equal_groups` of a model's latents; each its own where it has no standard errors."""
    if any(name not in latents for name in NEEDED):
        return np.arange(latents["frequency"].size)
    return equal_groups(*(np.atleast_1d(latents[name].values) for name in NEEDED))
