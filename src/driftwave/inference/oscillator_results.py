"""What fitted oscillators say, labelled: loadings in microvolt, spectra, shares of variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from driftwave.inference.oscillator_data import Prepared
from driftwave.inference.oscillator_likelihood import Moments
from driftwave.inference.oscillator_model import Oscillators
from driftwave.inference.whitening import Whitening


def spread(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Values (..., good electrode) at their place among all electrodes; NaN elsewhere."""
    full = np.full((*values.shape[:-1], len(good)), np.nan, dtype=values.dtype)
    full[..., good] = values
    return full


def loadings_dataset(model: Oscillators, whitening: Whitening, good: np.ndarray) -> xr.Dataset:
    """Frequencies, dampings and loadings of the field before it was whitened.

    Parameters
    ----------
    model : Oscillators
        Of the whitened good electrodes, microvolt.
    whitening : Whitening
    good : ndarray of bool (electrode,)

    Returns
    -------
    Dataset
        The field of oscillator k is Re(c_k z_k), with c_k of amplitude ``loading_amplitude`` and
        argument ``loading_phase`` and z_k = latent ``osc<k>_re`` + i latent ``osc<k>_im``.
    """
    count, slow = len(model.angle), len(model.slow_damping)
    frequency = model.angle * whitening.rate / (2 * np.pi)
    loading = spread(model.complex_loading / whitening.gain(frequency)[:, None], good)
    noise = model.noise if model.noise.ndim == 1 else np.diag(model.noise)
    amplitude = {"units": "microvolt", "long_name": "standard deviation of the oscillation"}
    innovations = {"units": "microvolt^2", "long_name": "variance of the background's innovations"}
    width = -np.log(model.damping) * whitening.rate / np.pi
    maps = ("oscillator", "electrode")
    variables: dict[str, Any] = {
        "frequency": ("oscillator", frequency, {"units": "Hz"}),
        "damping": ("oscillator", model.damping, {"units": "1"}),
        "bandwidth": ("oscillator", width, {"units": "Hz"}),
        "loading_amplitude": (maps, np.abs(loading), amplitude),
        "loading_phase": (maps, np.angle(loading), {"units": "radian"}),
        "noise_variance": ("electrode", spread(noise, good), innovations),
    }
    if slow:
        of = "recorded" if whitening.identity else "whitened"
        whitened = {"units": "microvolt", "long_name": f"standard deviation in the {of} field"}
        slow_loading = spread(model.slow_loading, good)
        variables["slow_damping"] = ("slow", model.slow_damping, {"units": "1"})
        variables["slow_loading"] = (("slow", "electrode"), slow_loading, whitened)
    labels = [f"osc{k}_{part}" for k in range(count) for part in ("re", "im")]
    labels += [f"slow{j}" for j in range(slow)]
    coords: dict[str, Any] = {
        # Not named `latent`: xarray would mistake the variable of that name for the labels.
        "label": ("latent", np.array(labels)),
        "oscillator": np.arange(count),
        "good": ("electrode", good),
    }
    return xr.Dataset(variables, coords=coords)


def oscillation_spectrum(
    frequency: np.ndarray, centre: float, damping: float, rate: float
) -> np.ndarray:
    """One-sided power density (1/Hz) of an oscillator of unit variance, at the frequencies given.

    Half the sum of a complex AR(1) spectrum at f and at -f (Matsuda & Komaki 2017, section 2).

    Parameters
    ----------
    frequency : ndarray (frequency,)
        Hz.
    centre, damping, rate : float
        Frequency of the oscillator (Hz), its damping per sample, sampling rate (Hz).
    """
    density = np.zeros(len(frequency))
    for sign in (1, -1):
        turn = np.exp(2j * np.pi * (centre - sign * frequency) / rate)
        density += (1 - damping**2) / np.abs(1 - damping * turn) ** 2
    return density / rate


def variance_shares(
    model: Oscillators, moments: Moments, prepared: Prepared, rate: float
) -> dict[str, np.ndarray]:
    """Shares of variance (summed over electrodes, microvolt^2) by oscillator or slow factor.

    ``variance_share`` is what the model attributes to an oscillator of the recorded field, and
    ``slow_variance_share`` to a slow factor of the field as the model sees it;
    ``residual_explained`` is the share of what all the others leave unexplained, of the field as
    the model sees it (whitened), that its smoothed course explains.
    """
    power = prepared.scale**2
    total = float(np.sum(prepared.deviation**2))
    gain = prepared.whitening.gain(model.angle * rate / (2 * np.pi))
    energy = moments.energy if moments.energy.ndim == 1 else np.diag(moments.energy)

    def unexplained(loading: np.ndarray) -> float:
        crossed = 2 * np.einsum("ns,ns->n", loading, moments.crossed)
        fitted = np.einsum("ns,sr,nr->n", loading, moments.mean_squares, loading)
        return float((energy - crossed + fitted) @ power)

    with_all = unexplained(model.loading)
    gained = []
    for k in range(len(model.angle)):
        without = model.loading.copy()
        without[:, 2 * k : 2 * k + 2] = 0
        gained.append(1 - with_all / unexplained(without))
    shares = {
        "variance_share": np.abs(model.complex_loading) ** 2 @ power / gain**2 / total,
        "residual_explained": np.array(gained),
    }
    if len(model.slow_damping):
        shares["slow_variance_share"] = model.slow_loading**2 @ power / float(np.sum(power))
    return shares
