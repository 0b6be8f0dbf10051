"""How well a loading is known: from a model's standard errors, and from the number of cycles."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.latent_waves.loading_intervals import LoadingErrors

FLOOR = 1e-2


def cycle_covariance(
    cross: np.ndarray, loading: np.ndarray, samples: float, noise: np.ndarray | None = None
) -> np.ndarray:
    """Error covariance of a loading, as a pattern of a cross-spectrum of finitely many cycles.

    In coordinates in which noise is white, a loading is in effect an eigenvector of the
    cross-spectrum about its frequency. Two oscillations of power l_1 and l_j that share no signal
    have a chance correlation of variance 1 / n over n independent cycles, which turns the first's
    pattern towards the other's by sqrt(l_1 l_j / n) / (l_1 - l_j) (Anderson 1963, Annals of
    Mathematical Statistics 34:122). With standing patterns of like power, any complex mixture of
    them, a wave among them, may come out. A loading that is itself a mixture of eigenvectors (slow
    factors or other oscillators took part of its pattern) is certain in its largest part only: the
    others count as errors of their own size. A model's standard errors hold neither.

    Parameters
    ----------
    cross : ndarray, complex (electrode, electrode)
        Cross-spectrum about the oscillator's frequency, on any scale.
    loading : ndarray, complex (electrode,)
    samples : float
        n, independent complex samples of the oscillation.
    noise : ndarray (electrode, electrode), optional
        Covariance of the model's noise, on any scale; default the identity.

    Returns
    -------
    ndarray, complex (electrode, electrode)
        E[e e*], in the loading's unit squared.
    """
    count = len(loading)
    root = np.eye(count) if noise is None else np.linalg.cholesky(noise)
    white = np.linalg.solve(root, np.linalg.solve(root, cross).conj().T)
    pattern = np.linalg.solve(root, loading.astype(complex))
    power = float(np.sum(np.abs(pattern) ** 2))
    unit = pattern / np.sqrt(power)
    own = float(np.real(unit.conj() @ white @ unit))
    rest = np.eye(count) - np.outer(unit, unit.conj())
    value, vector = np.linalg.eigh(rest @ white @ rest)
    value = np.maximum(value, FLOOR * np.trace(white).real / count)
    turned = own * value
    mixed = turned / (turned + samples * (own - value) ** 2)
    spread = rest @ ((vector * mixed) @ vector.conj().T) @ rest
    spread += np.outer(unit, unit.conj()) / samples + _lesser_parts(white, unit)
    return power * root @ spread @ root.conj().T


def _lesser_parts(white: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Power that a pattern has along each eigenvector but the one it is nearest to."""
    _, vector = np.linalg.eigh(white)
    part = np.abs(vector.conj().T @ unit) ** 2
    part[np.argmax(part)] = 0
    return (vector * part) @ vector.conj().T


def independent_samples(bandwidth: float, seconds: float, width: float) -> float:
    """Independent complex samples of an oscillation over a stretch.

    A Lorentzian peak of ``bandwidth`` Hz (full width at half maximum) has the autocorrelation
    e^{-pi bandwidth t}, whose square's integral gives pi bandwidth ``seconds``; analysed within
    ``width`` Hz of its frequency it has at most 2 ``width`` ``seconds``.
    """
    return max(2.0, seconds * min(np.pi * bandwidth, 2 * width))


def standard_errors(latents: xr.Dataset, index: np.ndarray) -> list[LoadingErrors] | None:
    """Standard errors of each oscillator's loading, and how they go together over electrodes.

    Without a covariance of their own, errors count as those of a regression on the same
    oscillation, which are correlated between electrodes as the noise.

    Parameters
    ----------
    latents : Dataset
        With ``loading_re_sd`` and ``loading_im_sd`` (oscillator, electrode), ``frequency_sd``
        (oscillator); ``loading_covariance`` (oscillator, part, electrode, part_other,
        electrode_other), or ``noise_covariance`` (electrode, electrode_other) where noise is
        correlated.
    index : ndarray of int (electrode,)
        Electrodes used.

    Returns
    -------
    list of LoadingErrors or None
        None where the latents carry no standard errors.
    """
    if any(name not in latents for name in ("loading_re_sd", "loading_im_sd", "frequency_sd")):
        return None
    dims = ("oscillator", "electrode")
    real = latents["loading_re_sd"].transpose(*dims).values[:, index]
    imaginary = latents["loading_im_sd"].transpose(*dims).values[:, index]
    noise = noise_of(latents, index)
    deviation = np.sqrt(np.diag(noise))
    correlation = noise / np.outer(deviation, deviation)
    factor = np.linalg.cholesky(correlation + 1e-9 * np.eye(len(index)))
    hertz = latents["frequency_sd"].values
    joint = _joint(latents, index)
    return [
        LoadingErrors(a, b, factor, float(c), g)
        for a, b, c, g in zip(real, imaginary, hertz, joint, strict=True)
    ]


def _joint(latents: xr.Dataset, index: np.ndarray) -> list[np.ndarray | None]:
    """Factor of each oscillator's covariance of errors; None where it is not known."""
    if "loading_covariance" not in latents:
        return [None] * latents.sizes["oscillator"]
    factors: list[np.ndarray | None] = []
    for whole in latents["loading_covariance"].values[:, :, index][..., index].astype(float):
        flat = whole.reshape(2 * len(index), 2 * len(index))
        if not np.isfinite(flat).all():
            factors.append(None)
            continue
        # The phase's gauge leaves one direction without error: no Cholesky factor.
        value, vector = np.linalg.eigh((flat + flat.T) / 2)
        factors.append(vector * np.sqrt(np.maximum(value, 0.0)))
    return factors


def noise_of(latents: xr.Dataset, index: np.ndarray) -> np.ndarray:
    """Noise covariance of the electrodes used: full, diagonal or, not given, the identity."""
    if "noise_covariance" in latents:
        full = latents["noise_covariance"].transpose("electrode", "electrode_other").values
        return full[np.ix_(index, index)].astype(float)
    if "noise_variance" in latents:
        return np.diag(latents["noise_variance"].values[index].astype(float))
    return np.eye(len(index))
