"""Finish of the oscillators' fit: quasi-Newton ascent of the exact marginal likelihood.

EM approaches a maximum slowly where noise hides much of the state. L-BFGS (Liu & Nocedal 1989,
Mathematical Programming 45:503) takes over with the gradient of Fisher's identity, in coordinates
in which the information of complete data is about one, and never returns a lower likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from driftwave.inference.oscillator_em import LARGEST_DAMPING
from driftwave.inference.oscillator_likelihood import Moments, Observations, gradient
from driftwave.inference.oscillator_model import Bounds, Oscillators
from driftwave.progress import Progress

TOO_FAR = 1e12
# A step may change the noise's standard deviation by this factor at most.
MOST = 1e3


class Coordinates:
    """Unconstrained coordinates around a model, zero at the model itself.

    Angles and dampings are shifted and scaled (their bounds are boxes), loadings are scaled by the
    Cholesky factor of the state's second moment, noise is R = L T T' L' with L the start's factor
    and T lower triangular (diagonal for independent noise) with the logarithm of its diagonal.
    """

    def __init__(self, model: Oscillators, moments: Moments, bounds: Bounds) -> None:
        self.model, self.bounds = model, bounds
        steps, a, b = moments.samples, model.damping, model.slow_damping
        self.scale = np.concatenate(
            [
                np.sqrt((1 - a**2) / (2 * steps)) / a,
                (1 - a**2) / np.sqrt(2 * steps * (1 + a**2)),
                (1 - b**2) / np.sqrt(steps * (1 + b**2)),
            ]
        )
        self.full = model.noise.ndim == 2
        squares = moments.seen_squares
        self.spread = np.linalg.inv(np.linalg.cholesky(squares))
        if self.full:
            self.root = np.linalg.cholesky(model.noise)
            self.lower = np.tril_indices(len(model.noise))
        self.noise_scale = np.sqrt(1 / (2 * np.asarray(moments.seen_samples)))

    @property
    def _edges(self) -> list[int]:
        k, j = len(self.model.angle), len(self.model.slow_damping)
        return [k, 2 * k, 2 * k + j, 2 * k + j + self.model.loading.size]

    def boxes(self) -> list[tuple[float | None, float | None]]:
        """Bounds of every coordinate."""
        model, count = self.model, len(self.model.angle)
        centre = np.concatenate([model.angle, model.damping, model.slow_damping])
        limits = [self.bounds.angle] * count
        limits += [(self.bounds.least_damping, LARGEST_DAMPING)] * count
        limits += [(0.0, LARGEST_DAMPING)] * len(model.slow_damping)
        boxes: list[tuple[float | None, float | None]] = [
            (min(0.0, (low - c) / s), max(0.0, (high - c) / s))
            for (low, high), c, s in zip(limits, centre, self.scale, strict=True)
        ]
        noise = len(self.lower[0]) if self.full else len(model.noise)
        return boxes + [(None, None)] * (model.loading.size + noise)

    def _loading(self, flat: np.ndarray) -> np.ndarray:
        shaped = flat.reshape(self.model.loading.shape)
        if not self.full:
            units = np.einsum("ns,nsr->nr", shaped, self.spread)
            return np.sqrt(self.model.noise)[:, None] * units
        return self.root @ shaped @ self.spread

    def _triangle(self, flat: np.ndarray) -> np.ndarray:
        scaled = flat * self.noise_scale
        triangle = np.zeros_like(self.root)
        triangle[self.lower] = scaled * np.sqrt(2)
        np.fill_diagonal(triangle, np.exp(np.diag(triangle) / np.sqrt(2)))
        return triangle

    def beyond(self, place: np.ndarray) -> bool:
        """Whether noise is so far from the start's that a likelihood would be all rounding."""
        logarithm = np.split(place, self._edges)[-1] * self.noise_scale
        if self.full:
            logarithm = logarithm[self.lower[0] == self.lower[1]]
        return bool(np.abs(logarithm).max() > np.log(MOST))

    def model_at(self, place: np.ndarray) -> Oscillators:
        """The model at coordinates (coordinate,)."""
        angle, damping, slow, loading, noise = np.split(place, self._edges)
        scales, start = np.split(self.scale, self._edges[:2]), self.model
        if self.full:
            factor = self.root @ self._triangle(noise)
            variance = factor @ factor.T
        else:
            variance = start.noise * np.exp(2 * noise * self.noise_scale)
        return Oscillators(
            start.angle + angle * scales[0],
            start.damping + damping * scales[1],
            start.slow_damping + slow * scales[2],
            start.loading + self._loading(loading),
            variance,
        )

    def pulled_back(self, place: np.ndarray, model: Oscillators, slope: Oscillators) -> np.ndarray:
        """The gradient in coordinates, from that in parameters."""
        dynamics = np.concatenate([slope.angle, slope.damping, slope.slow_damping])
        if self.full:
            loading = self.root.T @ slope.loading @ self.spread.T
            triangle = self._triangle(np.split(place, self._edges)[-1])
            by_triangle = 2 * self.root.T @ slope.noise @ self.root @ triangle
            diagonal = np.diag(by_triangle) * np.diag(triangle) / np.sqrt(2)
            np.fill_diagonal(by_triangle, diagonal)
            noise = by_triangle[self.lower] * np.sqrt(2) * self.noise_scale
        else:
            slopes = slope.loading * np.sqrt(self.model.noise)[:, None]
            loading = np.einsum("nr,nsr->ns", slopes, self.spread)
            noise = 2 * slope.noise * model.noise * self.noise_scale
        return np.concatenate([dynamics * self.scale, loading.ravel(), noise])


@dataclass(frozen=True)
class Finished:
    """Outcome of the ascent.

    Attributes
    ----------
    model : Oscillators
    moments : Moments
        Of ``model``.
    steps : int
    kept : bool
        Whether ``model`` is the maximum found; else it is the model the ascent began with.
    """

    model: Oscillators
    moments: Moments
    steps: int
    kept: bool


def finish(
    observations: Observations,
    model: Oscillators,
    bounds: Bounds,
    steps: int,
    *,
    label: str | None = None,
) -> Finished:
    """Climb to the maximum of the fitted stretch's exact likelihood.

    The maximum is kept unless it predicts the validation stretch worse than the start by more than
    twice what estimating so many parameters costs (p T_valid / T_fit nats for p parameters): the
    data then do not follow the model, and the iterate that EM stopped at is the better one.

    Parameters
    ----------
    observations : Observations
    model : Oscillators
    bounds : Bounds
    steps : int
        At most so many steps; 0 for none.
    label : str, optional
        Of the progress bar; None shows none.
    """
    moments = observations.moments(model)
    if not steps:
        return Finished(model, moments, 0, False)
    coordinates = Coordinates(model, moments, bounds)
    best: list[tuple[Oscillators, Moments]] = [(model, moments)]

    def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
        turn_back = TOO_FAR * (1 + place @ place), 2 * TOO_FAR * place
        if coordinates.beyond(place):
            return turn_back
        # A line search may try parameters at which numbers overflow; it then turns back.
        with np.errstate(all="ignore"):
            try:
                at = coordinates.model_at(place)
                found = observations.moments(at)
                slope = coordinates.pulled_back(place, at, gradient(at, found))
            except (np.linalg.LinAlgError, ValueError):
                slope = np.full(len(place), np.nan)
        if not (np.isfinite(slope).all() and np.isfinite(found.fitted)):
            return turn_back
        if found.fitted > best[0][1].fitted:
            best[0] = at, found
        return -(found.fitted - moments.fitted), -slope

    boxes = coordinates.boxes()
    with Progress(steps, label) as bar:
        result = minimize(
            loss,
            np.zeros(len(boxes)),
            jac=True,
            method="L-BFGS-B",
            bounds=boxes,
            callback=lambda _: bar.step(loss=-float(best[0][1].fitted) / observations.values),
            options={"maxiter": steps, "maxcor": 20, "ftol": 0.0, "gtol": 2e-3, "maxls": 30},
        )
    found_model, found_moments = best[0]
    allowed = model.count * observations.later_values / observations.values
    kept = found_moments.validation > moments.validation - allowed
    if not kept:
        return Finished(model, moments, int(result.nit), False)
    return Finished(found_model, found_moments, int(result.nit), True)
