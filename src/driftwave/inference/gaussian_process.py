"""Gaussian-process factor analysis: exact posterior, likelihood and EM over trials of equal length.

    y_t = C x_t + d + e_t,  e_t ~ N(0, R), R diagonal,
    x_k ~ GP(0, K_k),  K_k(s, t) = (1 - n) exp(-(s - t)^2 / (2 tau_k^2)) + n [s = t],  n = .001

(Yu et al. 2009, J Neurophysiol 102:614, eq. 1 to 5). The posterior covariance depends only on the
trial's length, so that all trials share one factorisation of latents x bins rows and their means
are one matrix product with ``b_t = C' R^-1 (y_t - d)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize_scalar

from driftwave.inference.readout import flat

NUGGET = 1e-3
# A unit's noise variance stays above this share of its variance (as in the authors' code).
_LEAST_NOISE = 0.01
_SHORTEST, _LONGEST = 0.3, 1e4  # timescales, bins


@dataclass(frozen=True)
class GpFactors:
    """Parameters of the model.

    Attributes
    ----------
    weights : ndarray (unit, latent)
        C.
    offset : ndarray (unit,)
        d.
    noise : ndarray (unit,)
        Diagonal of R.
    timescale : ndarray (latent,)
        tau, bins.
    """

    weights: np.ndarray
    offset: np.ndarray
    noise: np.ndarray
    timescale: np.ndarray

    @property
    def latents(self) -> int:
        """Number of latents."""
        return len(self.timescale)

    def of(self, units: np.ndarray) -> GpFactors:
        """The model of some units (a mask or indices)."""
        return GpFactors(self.weights[units], self.offset[units], self.noise[units], self.timescale)

    def reduced(self, values: np.ndarray) -> np.ndarray:
        """b (trial, bin, latent) of values (trial, bin, unit)."""
        return (values - self.offset) @ (self.weights / self.noise[:, None])

    def arrays(self) -> dict[str, np.ndarray]:
        """All parameters by name, for saving."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> GpFactors:
        """The inverse of :meth:`arrays`."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Smoother:
    """Posterior of trials of one length: everything that does not depend on their values.

    Attributes
    ----------
    gain : ndarray (latent x bin, latent x seen bin)
        Posterior mean from b, latent by latent.
    covariance : ndarray (latent, bin, latent, bin)
    log_determinant : float
        log det(I + K W), with W the information of the seen bins.
    """

    gain: np.ndarray
    covariance: np.ndarray
    log_determinant: float

    def mean(self, reduced: np.ndarray) -> np.ndarray:
        """Posterior means (trial, bin, latent) from b (trial, seen bin, latent)."""
        trials, _, latents = reduced.shape
        means = reduced.swapaxes(1, 2).reshape(trials, -1) @ self.gain.T
        return means.reshape(trials, latents, -1).swapaxes(1, 2)

    def marginal(self) -> np.ndarray:
        """Posterior covariance of each bin, (bin, latent, latent)."""
        return np.einsum("ktlt->tkl", self.covariance)


def kernel(bins: int, timescale: float) -> np.ndarray:
    """Prior covariance of one latent, (bin, bin); timescale in bins."""
    lag = np.arange(bins)[:, None] - np.arange(bins)
    return (1 - NUGGET) * np.exp(-0.5 * (lag / timescale) ** 2) + NUGGET * np.eye(bins)


def smoother(model: GpFactors, seen: int, bins: int | None = None) -> Smoother:
    """Posterior covariance and gain.

    With K = L L' and A = I + L' W L the covariance is L A^-1 L', in which nothing is inverted
    that could be near singular.

    Parameters
    ----------
    model : GpFactors
    seen : int
        Leading bins with values.
    bins : int, optional
        Length of the trial; default ``seen``. Later bins are predicted.
    """
    bins = seen if bins is None else bins
    roots = np.stack([cholesky(kernel(bins, t), lower=True) for t in model.timescale])
    information = model.weights.T @ (model.weights / model.noise[:, None])
    latents = model.latents
    matrix = np.empty((latents, bins, latents, bins))
    for k in range(latents):
        for l in range(k + 1):
            block = information[k, l] * (roots[k, :seen].T @ roots[l, :seen])
            matrix[k, :, l], matrix[l, :, k] = block, block.T
    square = matrix.reshape(latents * bins, -1)
    square[np.diag_indices_from(square)] += 1
    factor = cholesky(square, lower=True, overwrite_a=True)
    # (factor^-1 L')' (factor^-1 L') with L block diagonal.
    turned = np.zeros((latents, bins, latents, bins))
    turned[np.arange(latents), :, np.arange(latents)] = roots.swapaxes(1, 2)
    half = solve_triangular(factor, turned.reshape(latents * bins, -1), lower=True)
    covariance = (half.T @ half).reshape(latents, bins, latents, bins)
    return Smoother(
        gain=np.ascontiguousarray(covariance[..., :seen]).reshape(latents * bins, -1),
        covariance=covariance,
        log_determinant=2 * float(np.log(np.diag(factor)).sum()),
    )


def log_likelihood(model: GpFactors, values: np.ndarray, found: Smoother) -> np.ndarray:
    """Exact log-likelihood of each trial, nats, (trial,).

    Parameters
    ----------
    model : GpFactors
    values : ndarray (trial, seen bin, unit)
    found : Smoother
        Of this model and number of seen bins.
    """
    reduced = model.reduced(values)
    return _log_likelihood(model, values, reduced, found.mean(reduced), found.log_determinant)


def _log_likelihood(
    model: GpFactors,
    values: np.ndarray,
    reduced: np.ndarray,
    mean: np.ndarray,
    log_determinant: float,
) -> np.ndarray:
    bins = values.shape[1]
    energy = ((values - model.offset) ** 2 / model.noise).sum((1, 2))
    energy -= (reduced * mean[:, :bins]).sum((1, 2))
    constant = bins * np.log(2 * np.pi * model.noise).sum() + log_determinant
    return -0.5 * (energy + constant)


def first_guess(values: np.ndarray, latents: int) -> GpFactors:
    """Start of EM from covariances at lags of one and two bins, which hold no noise.

    Loadings are the leading eigenvectors of the first. A squared-exponential kernel falls from
    ``exp(-1 / (2 tau^2))`` to ``exp(-4 / (2 tau^2))`` between them, which gives the timescale, and
    with it the variance, of each.

    Parameters
    ----------
    values : ndarray (trial, bin, unit)
    latents : int
    """
    mean = values.mean((0, 1), dtype=float)
    variance = values.var((0, 1), dtype=float)
    scale = np.sqrt(np.maximum(variance, _least_noise(variance)))
    centred = (values - mean) / scale
    lags = min(2, values.shape[1] - 1)
    one, two = _lagged(centred, 1), _lagged(centred, lags)
    strength, axes = np.linalg.eigh(one)
    order = np.argsort(strength)[::-1][:latents]
    axes = axes[:, order]
    first = np.maximum(strength[order], 0.01 * max(strength.max(), 1e-6))
    second = np.einsum("uk,uv,vk->k", axes, two, axes)
    drop = np.log(first / np.clip(second, 1e-3 * first, 0.999 * first))
    timescale = np.clip(np.sqrt(1.5 / drop), 0.7, 10.0)
    shared = np.minimum(first * np.exp(0.5 / timescale**2), 2 * first)
    weights = axes * np.sqrt(shared)
    noise = np.maximum(1 - (weights**2).sum(1), 0.1)
    return GpFactors(weights * scale[:, None], mean, noise * scale**2, timescale)


def _lagged(centred: np.ndarray, lag: int) -> np.ndarray:
    """Symmetrised covariance (unit, unit) between bins ``lag`` apart."""
    late, early = flat(centred[:, lag:]), flat(centred[:, : centred.shape[1] - lag])
    covariance = late.T @ early / len(late)
    return (covariance + covariance.T) / 2


def em_step(model: GpFactors, values: np.ndarray) -> tuple[GpFactors, float]:
    """One iteration of EM (Yu et al. 2009, appendix A).

    Parameters
    ----------
    model : GpFactors
    values : ndarray (trial, bin, unit)

    Returns
    -------
    GpFactors
    float
        Log-likelihood of ``model`` (before the step), nats per entry.
    """
    trials, bins, _ = values.shape
    found = smoother(model, bins)
    reduced = model.reduced(values)
    mean = found.mean(reduced)
    likelihood = _log_likelihood(model, values, reduced, mean, found.log_determinant).sum()
    latent, samples = flat(mean), flat(values)
    count = trials * bins
    design = np.empty((model.latents + 1, model.latents + 1))
    design[:-1, :-1] = latent.T @ latent + trials * found.marginal().sum(0)
    design[:-1, -1] = design[-1, :-1] = latent.sum(0)
    design[-1, -1] = count
    crossed = np.column_stack([samples.T @ latent, samples.sum(0)])
    solution = np.linalg.solve(design, crossed.T).T
    square = np.einsum("su,su->u", samples, samples)
    noise = (square - (solution * crossed).sum(1)) / count
    least = _least_noise(square / count - (samples.mean(0)) ** 2)
    timescale = np.array(
        [
            _fit_timescale(
                trials * found.covariance[k, :, k] + mean[..., k].T @ mean[..., k],
                trials,
                model.timescale[k],
            )
            for k in range(model.latents)
        ]
    )
    new = GpFactors(solution[:, :-1], solution[:, -1], np.maximum(noise, least), timescale)
    return new, float(likelihood / values.size)


def _least_noise(variance: np.ndarray) -> np.ndarray:
    """Floor of the noise variance; a silent unit has no variance at all."""
    return np.maximum(_LEAST_NOISE * variance, 1e-4 * max(variance.mean(), 1e-6))


def _fit_timescale(second: np.ndarray, trials: int, before: float) -> float:
    """Timescale (bins) of highest expected log prior, near the one before.

    Parameters
    ----------
    second : ndarray (bin, bin)
        Sum over trials of E[x x'].
    """

    def cost(logarithm: float) -> float:
        prior = kernel(len(second), np.exp(logarithm))
        factor = cho_factor(prior, lower=True, check_finite=False)
        log_determinant = 2 * np.log(np.diag(factor[0])).sum()
        trace = np.trace(cho_solve(factor, second, check_finite=False))
        return 0.5 * (trials * log_determinant + float(trace))

    here = float(np.log(before))
    low, high = max(here - 0.5, np.log(_SHORTEST)), min(here + 0.5, np.log(_LONGEST))
    options = {"xatol": 1e-3}
    found = minimize_scalar(cost, bounds=(low, high), method="bounded", options=options)
    return float(np.exp(found.x if found.fun <= cost(here) else here))


def orthonormal(model: GpFactors) -> np.ndarray:
    """Matrix (latent, latent) that turns latents into those with orthonormal loadings.

    ``C = U S V'`` makes the new latents ``S V' x``, ordered by the variance that they explain (Yu
    et al. 2009, "visualizing trajectories").
    """
    left, strength, axes = np.linalg.svd(model.weights, full_matrices=False)
    peak = np.take_along_axis(left, np.abs(left).argmax(0)[None], 0)[0]
    return np.where(peak < 0, -1.0, 1.0)[:, None] * strength[:, None] * axes
