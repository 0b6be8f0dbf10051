"""The Bayes factor travelling against standing of each oscillator's loading."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from driftwave.latent_waves.loading_errors import cycle_covariance, independent_samples
from driftwave.latent_waves.loading_prior import travelling_evidence
from driftwave.phase.electrodes import Electrodes

UNITS = {
    "log_bayes_factor": ("nats", "log Bayes factor of travelling against standing"),
    "travelling_probability": ("1", "posterior probability of travelling at prior odds of one"),
    "wavevector_x": ("rad/mm", "posterior mean if travelling"),
    "wavevector_y": ("rad/mm", "posterior mean if travelling"),
    "wavevector_x_sd": ("rad/mm", "posterior standard deviation if travelling"),
    "wavevector_y_sd": ("rad/mm", "posterior standard deviation if travelling"),
    "prior_length": ("mm", "most probable length of the amplitude and phase map about the wave"),
    "prior_variance": ("microvolt^2", "most probable variance of that map"),
    "cycles": ("1", "independent samples of the oscillation over the fitted stretch"),
}


def travelling_table(
    electrodes: Electrodes,
    loading: np.ndarray,
    cross: Sequence[np.ndarray | None],
    noise: np.ndarray,
    *,
    bandwidth: np.ndarray | None,
    seconds: float,
    width: float,
) -> xr.Dataset:
    """Evidence that each oscillator travels, beyond what finitely many cycles feign.

    A field of several standing patterns without any lag gives loadings that mix them with complex
    weights by chance: their error covariance is that of
    :func:`driftwave.latent_waves.loading_errors.cycle_covariance`. An oscillator broader than the
    band analysed takes its loading from elsewhere too, of which ``cross`` knows nothing, and is not
    judged (NaN); such are those that a fit has left at the edge of what it allows.

    Parameters
    ----------
    electrodes : Electrodes
    loading : ndarray, complex (oscillator, electrode)
        Microvolt.
    cross : sequence of ndarray (electrode, electrode) or None
        The field's cross-spectrum about each oscillator's frequency; None gives NaN.
    noise : ndarray (electrode, electrode)
        Covariance of the model's noise, on any scale.
    bandwidth : ndarray (oscillator,), optional
        Full width at half maximum, Hz; default as wide as the band analysed.
    seconds : float
        Length of the fitted stretch.
    width : float
        Half-width of the band that ``cross`` is of, Hz.

    Returns
    -------
    Dataset
        Dim ``oscillator``; positive ``log_bayes_factor`` speaks for travelling.
    """
    wide = np.full(len(loading), 2 * width) if bandwidth is None else np.atleast_1d(bandwidth)
    rows = [
        _row(
            electrodes,
            c,
            None if b > 2 * width else s,
            noise,
            independent_samples(float(b), seconds, width),
        )
        for c, s, b in zip(loading, cross, wide, strict=True)
    ]
    table = xr.Dataset()
    for name, (unit, meaning) in UNITS.items():
        values = np.array([row[name] for row in rows])
        table[name] = ("oscillator", values, {"units": unit, "long_name": meaning})
    return table


def _row(
    electrodes: Electrodes,
    loading: np.ndarray,
    cross: np.ndarray | None,
    noise: np.ndarray,
    cycles: float,
) -> dict[str, float]:
    if cross is None or not np.abs(loading).any():
        return dict.fromkeys(UNITS, np.nan) | {"cycles": cycles}
    found = travelling_evidence(
        electrodes.position,
        loading,
        cycle_covariance(cross, loading, cycles, noise),
        pitch=electrodes.pitch,
        nyquist=electrodes.nyquist,
    )
    return {
        "log_bayes_factor": found.log_bayes_factor,
        "travelling_probability": found.probability,
        "wavevector_x": float(found.wavevector[0]),
        "wavevector_y": float(found.wavevector[1]),
        "wavevector_x_sd": float(found.wavevector_sd[0]),
        "wavevector_y_sd": float(found.wavevector_sd[1]),
        "prior_length": found.best.length,
        "prior_variance": found.best.variance,
        "cycles": cycles,
    }
