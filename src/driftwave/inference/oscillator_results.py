"""What fitted oscillators say, labelled: loadings in microvolt, spectra, shares of variance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from driftwave.inference.oscillator_data import Prepared
from driftwave.inference.oscillator_errors import StandardErrors, standard_errors
from driftwave.inference.oscillator_gradient import Finished
from driftwave.inference.oscillator_likelihood import Moments, Observations
from driftwave.inference.oscillator_model import Oscillators, fix_gauge
from driftwave.inference.oscillator_selection import Candidates
from driftwave.inference.oscillator_training import Trained
from driftwave.inference.whitening import Whitening


def spread(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Values (..., good electrode) at their place among all electrodes; NaN elsewhere."""
    full = np.full((*values.shape[:-1], len(good)), np.nan, dtype=values.dtype)
    full[..., good] = values
    return full


def _spread_pairs(covariance: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Covariances (oscillator, part, channel, part, channel) over all electrodes, float32."""
    whole = np.full((len(covariance), 2, len(good), 2, len(good)), np.nan, np.float32)
    place = np.flatnonzero(good)
    part = np.arange(2)
    whole[np.ix_(np.arange(len(covariance)), part, place, part, place)] = covariance
    return whole


def loadings_dataset(
    model: Oscillators, errors: StandardErrors, whitening: Whitening, good: np.ndarray
) -> xr.Dataset:
    """Frequencies, dampings and loadings of the field before it was whitened.

    Parameters
    ----------
    model : Oscillators
        Of the whitened good electrodes, microvolt.
    errors : StandardErrors
        Of ``model``.
    whitening : Whitening
    good : ndarray of bool (electrode,)

    Returns
    -------
    Dataset
        The field of oscillator k is Re(c_k z_k), with c_k of amplitude ``loading_amplitude`` and
        argument ``loading_phase`` and z_k = latent ``osc<k>_re`` + i latent ``osc<k>_im``. Names
        that end in ``_sd`` are standard errors; those of loadings are of Re c and Im c, with each
        oscillator's phase fixed as it is given.
    """
    count, slow = len(model.angle), len(model.slow_damping)
    frequency = model.angle * whitening.rate / (2 * np.pi)
    gain = whitening.gain(frequency)[:, None]
    loading = spread(model.complex_loading / gain, good)
    pairs = errors.loading[:, : 2 * count].T / np.repeat(np.abs(gain), 2, axis=0)
    noise = model.noise if model.noise.ndim == 1 else np.diag(model.noise)
    amplitude = {"units": "microvolt", "long_name": "standard deviation of the oscillation"}
    innovations = {"units": "microvolt^2", "long_name": "variance of the background's innovations"}
    width = -np.log(model.damping) * whitening.rate / np.pi
    maps = ("oscillator", "electrode")
    variables: dict[str, Any] = {
        "frequency": ("oscillator", frequency, {"units": "Hz"}),
        "damping": ("oscillator", model.damping, {"units": "1"}),
        "bandwidth": ("oscillator", width, {"units": "Hz"}),
        "frequency_sd": (
            "oscillator",
            errors.angle * whitening.rate / (2 * np.pi),
            {"units": "Hz", "long_name": "standard error of frequency"},
        ),
        "damping_sd": (
            "oscillator",
            errors.damping,
            {"units": "1", "long_name": "standard error of damping"},
        ),
        "loading_re_sd": (
            maps,
            spread(pairs[0::2], good),
            {"units": "microvolt", "long_name": "standard error of Re c"},
        ),
        "loading_im_sd": (
            maps,
            spread(pairs[1::2], good),
            {"units": "microvolt", "long_name": "standard error of Im c"},
        ),
        "loading_covariance": (
            ("oscillator", "part", "electrode", "part_other", "electrode_other"),
            _spread_pairs(errors.covariance / gain[:, :, None, None, None] ** 2, good),
            {"units": "microvolt^2", "long_name": "covariance of the errors of Re c and Im c"},
        ),
        "loading_amplitude": (maps, np.abs(loading), amplitude),
        "loading_phase": (maps, np.angle(loading), {"units": "radian"}),
        "noise_variance": ("electrode", spread(noise, good), innovations),
    }
    if model.noise.ndim == 2:
        covariance = np.full((len(good), len(good)), np.nan)
        covariance[np.ix_(good, good)] = model.noise
        named = {"units": "microvolt^2", "long_name": "covariance of the background's innovations"}
        variables["noise_covariance"] = (("electrode", "electrode_other"), covariance, named)
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


def figures_of_fit(
    shares: dict[str, np.ndarray], curves: dict[str, np.ndarray], candidates: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Shares of variance, losses and candidates as labelled variables."""
    loss = "nats per sample and channel"
    units = {"candidate_count": "1", "candidate_bic": "nats"}
    variables: dict[str, Any] = {}
    for name, values in shares.items():
        dim = "slow" if name.startswith("slow") else "oscillator"
        variables[name] = (dim, values, {"units": "1"})
    for name, curve in curves.items():
        variables[name] = ("epoch", curve, {"units": loss})
    for name, values in candidates.items():
        variables[name] = ("candidate", values, {"units": units.get(name, loss)})
    return variables


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
        # With missing values, the state's moments over all samples stand for those over the seen.
        crossed = 2 * np.einsum("ns,ns->n", loading, moments.crossed)
        fitted = np.einsum("ns,sr,nr->n", loading, moments.mean_squares, loading)
        fitted *= np.asarray(moments.seen_samples) / moments.samples
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


@dataclass(frozen=True)
class Summary:
    """A fit in microvolt, with its standard errors and figures.

    Attributes
    ----------
    model : Oscillators
    errors : StandardErrors
    shares : dict of ndarray (oscillator,) or (slow,)
    curves : dict of ndarray (epoch,)
        Losses, nats per sample and channel.
    candidates : dict of ndarray (candidate,)
        Empty unless the number of oscillators was selected.
    facts : dict
        Log-likelihoods (nats), BIC, steps.
    """

    model: Oscillators
    errors: StandardErrors
    shares: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    candidates: dict[str, np.ndarray]
    facts: dict[str, float]


def summarise(
    trained: Trained,
    finished: Finished,
    observations: Observations,
    prepared: Prepared,
    rate: float,
    candidates: Candidates | None,
) -> Summary:
    """Lead everything back to microvolt, fix the gauge there and take standard errors."""
    standard, scale = fix_gauge(finished.model), prepared.scale
    moments = observations.moments(standard)
    counts, patterns = observations.counts, observations.segments.patterns
    twice = scale**2 if standard.noise.ndim == 1 else np.outer(scale, scale)
    # Phases weighted by standardised amplitudes would depend on the electrodes' noise.
    model = fix_gauge(
        replace(standard, loading=standard.loading * scale[:, None], noise=standard.noise * twice)
    )
    # Densities are per microvolt: standardising multiplies them by the scales.
    logarithm = np.log(scale)
    shift = float(counts @ patterns @ logarithm)
    later_shift = float(observations.later_counts @ patterns @ logarithm)
    nats = float(moments.fitted) - shift
    values, later = observations.values, observations.later_values
    penalty = float(np.log(moments.samples))
    table: dict[str, np.ndarray] = {}
    if candidates is not None:
        table = {
            "candidate_count": candidates.count,
            "candidate_log_likelihood": (candidates.fitted - shift) / values,
            "candidate_log_likelihood_validation": (candidates.validation - later_shift) / later,
            "candidate_bic": candidates.parameters * penalty - 2 * (candidates.fitted - shift),
        }
    facts = {
        "log_likelihood": nats,
        "log_likelihood_validation": float(moments.validation) - later_shift,
        "bic": standard.count * penalty - 2 * nats,
        "best_epoch": trained.best,
        "gradient_steps": finished.steps,
        "gradient_kept": int(finished.kept),
        "fitted_seconds": moments.samples / rate,
        "validation_seconds": (len(prepared.data) - prepared.fitted) / rate,
    }
    return Summary(
        model=model,
        errors=standard_errors(model, counts, patterns),
        shares=variance_shares(standard, moments, prepared, rate),
        curves={
            "train_loss": trained.train_loss + shift / values,
            "valid_loss": trained.valid_loss + later_shift / later,
        },
        candidates=table,
        facts=facts,
    )
