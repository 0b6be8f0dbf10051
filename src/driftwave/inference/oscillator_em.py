"""Parameter-expanded EM for linear stochastic oscillators: the M-step.

The M-step leaves each factor's stationary variance free and afterwards moves its square root into
the loadings (parameter expansion; Liu, Rubin & Wu 1998, Biometrika 85:755), without which EM stalls
long before the damping is right. With the exact E-step the likelihood never falls.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from driftwave.inference.oscillator_likelihood import Moments
from driftwave.inference.oscillator_model import Bounds, Oscillators

NOISE_FLOOR = 1e-6
LARGEST_DAMPING = 1 - 1e-6


def _best_damping(
    sums: tuple[float, float, float, float],
    counts: tuple[int, int],
    width: int,
    bounds: tuple[float, float],
    current: float,
) -> tuple[float, float]:
    """Damping and stationary variance that maximise the expected log-likelihood of one factor.

    With x_1 ~ N(0, v I) and x_t ~ N(a R x_{t-1}, v (1 - a^2) I) in ``width`` dimensions, the
    variance has a closed form for each a, which leaves one bounded search.

    Parameters
    ----------
    sums : tuple of float
        Expected |x_1|^2; sums of |x_t|^2 over t >= 2 and over t < T; sum of x_t' R x_{t-1}.
    counts : tuple of int
        Samples, and steps from one to the next.
    width : int
    bounds : tuple of float
        Smallest and largest damping.
    current : float
        The damping so far, kept where the search finds nothing better.
    """
    first, later, earlier, product = sums
    samples, steps = counts

    def variance(a: float) -> float:
        innovation = (later - 2 * a * product + a * a * earlier) / (1 - a * a)
        return (first + innovation) / (width * samples)

    def cost(a: float) -> float:
        return samples * np.log(variance(a)) + steps * np.log1p(-a * a)

    def damping(logit: float) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) / (1 + np.exp(-logit))

    found = minimize_scalar(
        lambda logit: cost(damping(logit)),
        bounds=(-20, 20),
        method="bounded",
        options={"xatol": 1e-9},
    )
    best = float(damping(found.x))
    if bounds[0] <= current <= bounds[1] and cost(current) < found.fun:
        best = current
    return best, variance(best)


def _best_angle(cosine: float, sine: float, bounds: tuple[float, float]) -> float:
    """Angle within bounds that maximises cosine * cos(w) + sine * sin(w)."""
    free = float(np.arctan2(sine, cosine))
    if bounds[0] <= free <= bounds[1]:
        return free
    return max(bounds, key=lambda w: cosine * np.cos(w) + sine * np.sin(w))


def _best_loading(moments: Moments) -> np.ndarray:
    squares, crossed = moments.seen_squares, moments.crossed
    if squares.ndim == 2:
        return np.linalg.solve(squares, crossed.T).T
    return np.linalg.solve(squares, crossed[:, :, None])[:, :, 0]


def _best_noise(loading: np.ndarray, moments: Moments) -> np.ndarray:
    if moments.energy.ndim == 1:
        left = moments.energy - np.einsum("ns,ns->n", loading, moments.crossed)
        return np.maximum(left, NOISE_FLOOR * moments.energy) / moments.seen_samples
    left = moments.energy - loading @ moments.crossed.T
    floor = NOISE_FLOOR * np.diag(np.diag(moments.energy))
    return ((left + left.T) / 2 + floor) / moments.seen_samples


def maximise(model: Oscillators, moments: Moments, bounds: Bounds) -> Oscillators:
    """M-step: regression for loadings and noise, one bounded search per factor for its dynamics."""
    loading = _best_loading(moments)
    noise = _best_noise(loading, moments)
    later, earlier = moments.squares - moments.first, moments.squares - moments.last
    angle, damping = model.angle.copy(), model.damping.copy()
    slow_damping, scale = model.slow_damping.copy(), np.empty(loading.shape[1])

    def dynamics(part: slice, product: float, least: float, current: float) -> tuple[float, float]:
        first, after, before = (np.trace(m[part, part]) for m in (moments.first, later, earlier))
        width, bounds = part.stop - part.start, (least, LARGEST_DAMPING)
        sums = (float(first), float(after), float(before), product)
        counts = moments.samples, moments.samples - moments.pieces
        return _best_damping(sums, counts, width, bounds, current)

    for k in range(len(angle)):
        pair = slice(2 * k, 2 * k + 2)
        lagged = moments.lagged[pair, pair]
        cosine, sine = float(np.trace(lagged)), float(lagged[1, 0] - lagged[0, 1])
        angle[k] = _best_angle(cosine, sine, bounds.angle)
        product = float(cosine * np.cos(angle[k]) + sine * np.sin(angle[k]))
        damping[k], scale[pair] = dynamics(pair, product, bounds.least_damping, damping[k])
    for j in range(len(slow_damping)):
        state = slice(2 * len(angle) + j, 2 * len(angle) + j + 1)
        product = float(moments.lagged[state, state].item())
        slow_damping[j], scale[state] = dynamics(state, product, 0.0, slow_damping[j])
    return Oscillators(angle, damping, slow_damping, loading * np.sqrt(scale), noise)
