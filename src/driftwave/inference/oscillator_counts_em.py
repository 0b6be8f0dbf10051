"""Parameter-expanded EM for oscillators seen through spike counts and field.

The E-step is the Laplace approximation (:mod:`driftwave.inference.laplace`). The M-step takes a
Newton step for the units' loadings, regresses the field on the latents, and leaves each factor's
stationary variance free; its square root then moves into the loadings (parameter expansion; Liu,
Rubin & Wu 1998, Biometrika 85:755), without which EM stalls long before the damping is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.inference.laplace import Posterior, fit_loadings
from driftwave.inference.linear_dynamics import DynamicsMoments, dynamics_moments
from driftwave.inference.oscillator_counts_model import CountsModel
from driftwave.inference.oscillator_em import LARGEST_DAMPING
from driftwave.inference.oscillator_model import Bounds

# An electrode that one factor explains wholly would make that factor its copy.
LEAST_NOISE = 1e-3
SLOWEST_DAMPING = 0.0


@dataclass(frozen=True)
class Observed:
    """What a fit observes of some trials.

    Attributes
    ----------
    counts : ndarray (trial, bin, unit)
    field : ndarray (trial, bin, electrode) or None
        Standardised, NaN where missing.
    """

    counts: np.ndarray
    field: np.ndarray | None = None

    @property
    def entries(self) -> int:
        """Number of counts and of known samples of the field."""
        known = 0 if self.field is None else int(np.isfinite(self.field).sum())
        return self.counts.size + known


def best_damping(
    sums: tuple[float, float, float, float],
    trials: int,
    bins: int,
    width: int,
    bounds: tuple[float, float],
) -> tuple[float, float]:
    """Damping and stationary variance of highest expected log-likelihood of one factor.

    With x_1 ~ N(0, v I) and x_t ~ N(a R x_{t-1}, v (1 - a^2) I) in ``width`` dimensions, on R
    trials of N bins in all, the best v for an a leaves ``N log q(a) - R log(1 - a^2)`` to minimise
    (q quadratic in a), whose stationary points are the roots of a cubic.

    Parameters
    ----------
    sums : tuple of float
        Expected sum over trials of |x_1|^2; over pairs of neighbouring bins of |x_{t+1}|^2,
        |x_t|^2, and of x_{t+1}' R x_t.
    trials, bins : int
        R and N.
    width : int
    bounds : tuple of float
        Smallest and largest damping.
    """
    first, later, earlier, product = sums
    square, constant = earlier - first, first + later

    def energy(a: np.ndarray) -> np.ndarray:
        return constant - 2 * a * product + a * a * square

    cubic = [
        2 * (trials - bins) * square,
        (2 * bins - 4 * trials) * product,
        2 * bins * square + 2 * trials * constant,
        -2 * bins * product,
    ]
    roots = np.roots(cubic)
    real = roots.real[np.abs(roots.imag) < 1e-7]
    options = np.append(real[(real > bounds[0]) & (real < bounds[1])], bounds)
    cost = bins * np.log(energy(options)) - trials * np.log1p(-options * options)
    best = float(options[np.argmin(cost)])
    variance = float(energy(np.array(best))) / ((1 - best * best) * width * bins)
    return best, variance


def best_angle(cosine: float, sine: float, bounds: tuple[float, float]) -> float:
    """Angle within bounds that maximises cosine * cos(w) + sine * sin(w)."""
    free = float(np.arctan2(sine, cosine))
    if bounds[0] <= free <= bounds[1]:
        return free
    return max(bounds, key=lambda w: cosine * np.cos(w) + sine * np.sin(w))


def best_dynamics(
    model: CountsModel, moments: DynamicsMoments, bounds: Bounds
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Angle, damping, slow damping, and stationary variance of each state (state,)."""
    angle, damping = model.angle.copy(), model.damping.copy()
    slow_damping, scale = model.slow_damping.copy(), np.empty(model.states)
    bins = moments.trials + moments.steps

    def best(part: slice, product: float, least: float) -> tuple[float, float]:
        parts = (moments.first_square, moments.after, moments.before)
        first, later, earlier = (float(np.trace(m[part, part])) for m in parts)
        sums = (first, later, earlier, product)
        width = part.stop - part.start
        return best_damping(sums, moments.trials, bins, width, (least, LARGEST_DAMPING))

    for k in range(len(angle)):
        pair = slice(2 * k, 2 * k + 2)
        across = moments.across[pair, pair]
        cosine, sine = float(np.trace(across)), float(across[1, 0] - across[0, 1])
        angle[k] = best_angle(cosine, sine, bounds.angle)
        product = cosine * float(np.cos(angle[k])) + sine * float(np.sin(angle[k]))
        damping[k], scale[pair] = best(pair, product, bounds.least_damping)
    for j in range(len(slow_damping)):
        state = slice(2 * len(angle) + j, 2 * len(angle) + j + 1)
        product = float(moments.across[state, state].item())
        slow_damping[j], scale[state] = best(state, product, SLOWEST_DAMPING)
    return angle, damping, slow_damping, scale


def regress_field(field: np.ndarray, posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Loadings (electrode, state) and noise variances (electrode,) of highest expectation.

    Parameters
    ----------
    field : ndarray (trial, bin, electrode)
        NaN where missing; each electrode's regression is over the bins where it is known.
    posterior : Posterior
    """
    states = posterior.mean.shape[-1]
    mean = posterior.mean.reshape(-1, states)
    second = (mean[:, :, None] * mean[:, None, :]).reshape(-1, states**2)
    second = second + posterior.covariance.reshape(-1, states**2)
    flat = field.reshape(-1, field.shape[-1]).astype(float)
    known = np.isfinite(flat)
    flat = np.where(known, flat, 0.0)
    squares = (known.T.astype(float) @ second).reshape(-1, states, states)
    squares += 1e-9 * np.eye(states) * len(mean)
    crossed = flat.T @ mean
    loading = np.linalg.solve(squares, crossed[..., None])[..., 0]
    energy, number = np.square(flat).sum(0), known.sum(0)
    left = energy - (loading * crossed).sum(1)
    return loading, np.maximum(left / number, LEAST_NOISE * energy / number)


def maximise(
    model: CountsModel, posterior: Posterior, observed: Observed, bounds: Bounds, penalty: float
) -> CountsModel:
    """M-step; ``penalty`` is the prior precision of a unit's loading."""
    moments = dynamics_moments(posterior.mean, posterior.covariance, posterior.lagged)
    angle, damping, slow_damping, scale = best_dynamics(model, moments, bounds)
    loadings = model.loadings
    if observed.counts.shape[-1]:
        loadings = fit_loadings(observed.counts, posterior, loadings, penalty=penalty, steps=1)
    field_weights, field_noise = model.field_weights, model.field_noise
    if observed.field is not None:
        field_weights, field_noise = regress_field(observed.field, posterior)
    return CountsModel(
        angle=angle,
        damping=damping,
        slow_damping=slow_damping,
        weights=loadings.weights * np.sqrt(scale),
        offset=loadings.offset,
        field_weights=field_weights * np.sqrt(scale),
        field_noise=field_noise,
    )


def em_iterations(
    observed: Observed,
    model: CountsModel,
    count: int,
    bounds: Bounds,
    *,
    penalty: float,
    tolerance: float = 1e-3,
) -> tuple[CountsModel, float]:
    """Some iterations; each goes on from the posterior of the one before.

    Returns
    -------
    CountsModel
    float
        Laplace approximation of the log-likelihood before the last M-step, nats per entry, without
        the counts' factorials.
    """
    every = np.ones(observed.counts.shape[-1], dtype=bool)
    posterior, evidence = None, np.nan
    for _ in range(count):
        posterior = model.infer(
            observed.counts,
            every,
            field=observed.field,
            start=posterior,
            tolerance=tolerance,
            refinements=1,
        )
        evidence = posterior.log_evidence.sum() / observed.entries
        model = maximise(model, posterior, observed, bounds, penalty)
    return model, float(evidence)
