"""Linear Gaussian state space of decoded behaviour, fitted by least squares, and its filter.

Wu et al. 2006 (10.1162/089976606774841585), equations 3.1 to 3.6: x_t = A x_{t-1} + w_t and
z_t = C x_t + q_t with the state x (behaviour and its derivatives) known in training, so that A and
C are regressions and the covariances W and Q those of their residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.inference.kalman import Gains, filter_gains, run_filter, run_smoother
from driftwave.inference.kalman_steady import StateSpace, steady_gains, symmetric

# Relative to a state of unit variance: keeps covariances regular where states are collinear.
JITTER = 1e-6


@dataclass(frozen=True)
class Observed:
    """A state space in units of the states' standard deviation.

    Attributes
    ----------
    space : StateSpace
    reduction : ndarray (component, state)
        C' R^-1, transposed: reduced observations are ``(z - offset) @ reduction``.
    offset : ndarray (component,)
        Observation at the mean state.
    centre, scale : ndarray (state,)
        Mean and standard deviation of the training states.
    """

    space: StateSpace
    reduction: np.ndarray
    offset: np.ndarray
    centre: np.ndarray
    scale: np.ndarray


def with_derivatives(targets: np.ndarray, derivatives: int) -> np.ndarray:
    """Behaviour and its derivatives per bin (time, state); NaN where behaviour is missing.

    Central differences within stretches without missing bins; a stretch too short for them has
    none, and is left out of the fit.
    """
    states = np.full((len(targets), targets.shape[1] * (derivatives + 1)), np.nan)
    there = np.isfinite(targets).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if derivatives and stop - start < 3:
            continue
        parts = [targets[start:stop]]
        for _ in range(derivatives):
            parts.append(np.gradient(parts[-1], axis=0))
        states[start:stop] = np.concatenate(parts, axis=1)
    return states


def fit_state_space(
    targets: np.ndarray, seen: np.ndarray, sequences: list[np.ndarray], derivatives: int
) -> Observed:
    """Least squares for dynamics and observation.

    Parameters
    ----------
    targets : ndarray (trial, time, target)
        NaN where not used.
    seen : ndarray (trial, time, component)
        Observations, centred.
    sequences : list of ndarray of int
        Positions of trials that follow one another without a break.
    derivatives : int

    Returns
    -------
    Observed
        Without dynamics (A = 0) where there are no more transitions than states.
    """
    columns = targets.shape[-1]
    parts = [with_derivatives(targets[s].reshape(-1, columns), derivatives) for s in sequences]
    if not any(np.isfinite(part).any() for part in parts):
        derivatives = 0
        parts = [with_derivatives(targets[s].reshape(-1, columns), 0) for s in sequences]
    state = np.concatenate(parts)
    observed = np.concatenate([seen[s].reshape(-1, seen.shape[-1]) for s in sequences])
    there = np.isfinite(state).all(axis=1)
    centre, scale = state[there].mean(axis=0), state[there].std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    state = (state - centre) / scale
    follows = there[:-1] & there[1:]
    follows[np.cumsum([len(part) for part in parts])[:-1] - 1] = False
    size = state.shape[1]
    covariance = np.cov(state[there].T, bias=True).reshape(size, size)
    transition, noise = np.zeros((size, size)), covariance
    if follows.sum() > 2 * size:
        before, after = state[:-1][follows], state[1:][follows]
        transition, noise = _least_squares(before, after)
    transition, noise = _stable(transition, noise)
    offset = observed[there].mean(axis=0)
    emission, residual = _least_squares(state[there], observed[there] - offset)
    variance = np.trace(residual) / len(residual)
    residual = residual + 1e-6 * max(variance, 1e-12) * np.eye(len(residual))
    reduction = np.linalg.solve(residual, emission)
    eye = np.eye(size)
    space = StateSpace(
        transition=transition,
        noise=symmetric(noise) + JITTER * eye,
        information=symmetric(emission.T @ reduction),
        initial=symmetric(covariance) + JITTER * eye,
    )
    return Observed(space, reduction, offset, centre, scale)


def _least_squares(given: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix M of wanted = M given + e, and the covariance of e."""
    gram = given.T @ given
    matrix = np.linalg.solve(gram + JITTER * len(given) * np.eye(len(gram)), given.T @ wanted).T
    residual = wanted - given @ matrix.T
    return matrix, residual.T @ residual / len(residual)


def _stable(transition: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dynamics drawn in where least squares made them grow, which would never settle."""
    radius = np.abs(np.linalg.eigvals(transition)).max()
    limit = 0.9999
    return (transition * (limit / radius) if radius > limit else transition), noise


class Filter:
    """The filter (or smoother) of one state space; gains are computed once per length."""

    def __init__(self, model: Observed, *, smoother: bool) -> None:
        self.model, self.smoother = model, smoother
        self.steady = steady_gains(model.space)
        self.gains: dict[int, Gains] = {}

    def __call__(self, seen: np.ndarray) -> np.ndarray:
        """Mean state (time, state) about its training mean, in its own units, of one stretch.

        Parameters
        ----------
        seen : ndarray (time, component)
        """
        space, samples = self.model.space, len(seen)
        if samples not in self.gains:
            self.gains[samples] = filter_gains(space, samples, steady=self.steady)
        gains = self.gains[samples]
        reduced = (seen - self.model.offset) @ self.model.reduction
        mean = run_filter(reduced, space, gains).mean
        if self.smoother:
            mean = run_smoother(mean, space, gains).mean
        return mean * self.model.scale
