"""Gaussian approximation of latents seen through Poisson counts, and the loadings given it.

Counts are ``y_tn ~ Poisson(exp(c_n x_t + d_n))`` of latents with a linear-Gaussian prior; Gaussian
observations of the same latents may stand beside them. The log posterior is concave: Newton's
method finds its mode, and the negative Hessian there is the precision of the Laplace approximation
(Paninski et al. 2010, J Comput Neurosci 29:107; Macke et al. 2011, NIPS 24). All trials are one
banded system (:mod:`driftwave.inference.block_tridiagonal`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.inference.block_tridiagonal import BandCholesky, factorise
from driftwave.inference.linear_dynamics import Dynamics

_LARGEST_BLOCK = 8_000_000  # numbers of the band matrix, or of the rates, held at once


@dataclass(frozen=True)
class Loadings:
    """How latents drive units: log rate = weights x + offset.

    Attributes
    ----------
    weights : ndarray (unit, state)
        C.
    offset : ndarray (unit,)
        d, log spikes/bin.
    """

    weights: np.ndarray
    offset: np.ndarray

    def of(self, units: np.ndarray) -> Loadings:
        """Those of some units (a mask or indices)."""
        return Loadings(self.weights[units], self.offset[units])

    def log_rate(self, mean: np.ndarray, covariance: np.ndarray | None = None) -> np.ndarray:
        """Log of E[exp(C x + d)] for Gaussian x: ``C m + d + diag(C S C') / 2``, (..., unit).

        Parameters
        ----------
        mean : ndarray (..., state)
        covariance : ndarray (..., state, state), optional
            Without it, the log rate at the mean.
        """
        drive = mean @ self.weights.T + self.offset
        if covariance is not None:
            drive += covariance.reshape(*covariance.shape[:-2], -1) @ (outer(self.weights).T / 2)
        return drive


@dataclass(frozen=True)
class GaussianEvidence:
    """What Gaussian observations ``y = B x + e``, ``e ~ N(0, R)`` tell about each bin's latents.

    Attributes
    ----------
    linear : ndarray (trial, bin, state)
        B' R^-1 y, over the observations there are; zero in bins without any.
    precision : ndarray (trial, bin, state, state)
        B' R^-1 B, over the same.
    cost : ndarray (trial,)
        Minus log p(y | x = 0), nats.
    """

    linear: np.ndarray
    precision: np.ndarray
    cost: np.ndarray

    def of(self, trials: slice) -> GaussianEvidence:
        """That of some trials."""
        return GaussianEvidence(self.linear[trials], self.precision[trials], self.cost[trials])


@dataclass(frozen=True)
class Posterior:
    """Gaussian posterior of the latents of each trial.

    Attributes
    ----------
    mean : ndarray (trial, bin, state)
        The mode.
    covariance : ndarray (trial, bin, state, state)
    lagged : ndarray (trial, bin - 1, state, state)
        Cov(x_{t+1}, x_t).
    log_evidence : ndarray (trial,)
        Laplace approximation of log p(counts), nats, without the counts' factorials.
    """

    mean: np.ndarray
    covariance: np.ndarray
    lagged: np.ndarray
    log_evidence: np.ndarray


def outer(rows: np.ndarray) -> np.ndarray:
    """All products of two elements of each row: (row, state x state)."""
    return (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), rows.shape[1] ** 2)


def infer(
    counts: np.ndarray,
    loadings: Loadings,
    dynamics: Dynamics,
    *,
    bins: int | None = None,
    start: np.ndarray | None = None,
    tolerance: float = 1e-6,
    gaussian: GaussianEvidence | None = None,
    spread: np.ndarray | None = None,
) -> Posterior:
    """Laplace approximation of each trial's posterior; exact where there are no counts.

    Parameters
    ----------
    counts : ndarray (trial, seen bin, unit)
    loadings : Loadings
        Of these units.
    dynamics : Dynamics
    bins : int, optional
        Length of the trial; bins after the seen ones follow from the dynamics alone.
    start : ndarray (trial, bin, state), optional
        Where Newton's method starts; default the prior mean.
    tolerance : float
        A trial is done when a Newton step promises less than this gain, nats.
    gaussian : GaussianEvidence, optional
        Of ``bins`` bins of the same trials, beside the counts.
    spread : ndarray (trial, bin, state, state), optional
        Covariance of the latents, from an earlier call. Rates are then expected ones,
        exp(C m + d + diag(C S C') / 2), in mode, covariance and evidence: repeated calls converge
        on the Gaussian of highest evidence lower bound (Opper & Archambeau 2009, Neural Computation
        21:786, equations 9 and 10), ``mean`` its mean and ``log_evidence`` the bound.
    """
    bins = counts.shape[1] if bins is None else bins
    states = len(dynamics.start)
    trials = max(1, _LARGEST_BLOCK // (bins * max(2 * states**2, counts.shape[2])))
    parts = [
        _infer(
            counts[i : i + trials],
            loadings,
            dynamics,
            bins,
            None if start is None else start[i : i + trials],
            tolerance,
            None if gaussian is None else gaussian.of(slice(i, i + trials)),
            None if spread is None else spread[i : i + trials],
        )
        for i in range(0, len(counts), trials)
    ]
    names = Posterior.__dataclass_fields__
    return Posterior(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def _infer(
    counts: np.ndarray,
    loadings: Loadings,
    dynamics: Dynamics,
    bins: int,
    start: np.ndarray | None,
    tolerance: float,
    gaussian: GaussianEvidence | None,
    spread: np.ndarray | None,
) -> Posterior:
    target = _Target(counts, loadings, dynamics, bins, gaussian, spread)
    mean = np.empty((len(counts), bins, len(dynamics.start)))
    mean[:] = target.prior_mean() if start is None else start
    cost, rate = target.cost(mean)
    factor = target.newton(mean, cost, rate, tolerance)
    covariance, lagged = factor.inverse_blocks()
    evidence = 0.5 * (target.log_determinant - factor.log_determinant()) - cost
    evidence += target.bound(rate)
    return Posterior(mean, covariance, lagged, evidence)


class _Target:
    """Negative log posterior of some trials, and its minimisation."""

    def __init__(
        self,
        counts: np.ndarray,
        loadings: Loadings,
        dynamics: Dynamics,
        bins: int,
        gaussian: GaussianEvidence | None = None,
        spread: np.ndarray | None = None,
    ) -> None:
        self.dynamics = dynamics
        self.loadings = loadings
        self.products = outer(loadings.weights)
        self.seen = counts.shape[1]
        counts = np.asarray(counts, dtype=float)
        self.diagonal, self.below, first, self.log_determinant = dynamics.precision(bins)
        self.drive = np.zeros((len(counts), bins, len(dynamics.start)))
        self.drive[:, : self.seen] = counts @ loadings.weights
        self.drive[:, 0] += first
        self.constant = 0.5 * dynamics.start @ first - (counts @ loadings.offset).sum(1)
        self.further = None if gaussian is None else gaussian.precision
        if gaussian is not None:
            self.drive += gaussian.linear
            self.constant += gaussian.cost
        self.widening = None
        if spread is not None:
            flat = spread[:, : self.seen].reshape(*counts.shape[:2], -1)
            self.widening = flat @ (self.products.T / 2)

    def bound(self, rate: np.ndarray) -> np.ndarray | float:
        """What the lower bound has more than Laplace's formula with expected rates, (trial,)."""
        return 0.0 if self.widening is None else (rate * self.widening).sum((1, 2))

    def prior_mean(self) -> np.ndarray:
        mean = np.empty(self.drive.shape[1:])
        mean[0] = self.dynamics.start
        for t in range(1, len(mean)):
            mean[t] = self.dynamics.transition @ mean[t - 1]
        return mean

    def cost(self, mean: np.ndarray, use: np.ndarray | slice = slice(None)) -> tuple:
        """Cost (trial,) and rates (trial, seen bin, unit) of the trials ``use``."""
        with np.errstate(over="ignore"):  # an infinite cost is what makes a step too long
            log_rate = self.loadings.log_rate(mean[:, : self.seen])
            if self.widening is not None:
                log_rate += self.widening[use]
            rate = np.exp(log_rate)
            total = rate.sum((1, 2))
        prior = self._precision_times(mean, use)
        total += ((0.5 * prior - self.drive[use]) * mean).sum((1, 2)) + self.constant[use]
        return total, rate

    def _precision_times(self, mean: np.ndarray, use: np.ndarray | slice) -> np.ndarray:
        # All blocks but the first and the last are the same.
        product = mean @ self.diagonal[len(self.diagonal) // 2]
        product[:, 0] = mean[:, 0] @ self.diagonal[0]
        product[:, -1] = mean[:, -1] @ self.diagonal[-1]
        product[:, 1:] += mean[:, :-1] @ self.below.T
        product[:, :-1] += mean[:, 1:] @ self.below
        if self.further is not None:
            product += (self.further[use] @ mean[..., None])[..., 0]
        return product

    def _factor(self, rate: np.ndarray, use: np.ndarray | slice = slice(None)) -> BandCholesky:
        trials, bins, states = len(rate), *self.diagonal.shape[:2]
        blocks = np.empty((trials, bins, states, states))
        blocks[:] = self.diagonal
        if self.further is not None:
            blocks += self.further[use]
        seen = rate @ self.products
        blocks[:, : self.seen] += seen.reshape(trials, self.seen, states, states)
        return factorise(blocks, self.below)

    def newton(
        self, mean: np.ndarray, cost: np.ndarray, rate: np.ndarray, tolerance: float
    ) -> BandCholesky:
        """Minimise in place (mean, cost and rate); the factor at the mode."""
        active = np.arange(len(mean))
        for _ in range(100):
            here = mean[active]
            gradient = self._precision_times(here, active) - self.drive[active]
            gradient[:, : self.seen] += rate[active] @ self.loadings.weights
            step = self._factor(rate[active], active).solve(gradient)
            gain = 0.5 * (step * gradient).sum((1, 2))
            self._move(mean, cost, rate, active, here, step, gain)
            active = active[gain > tolerance]
            if not active.size:
                break
        return self._factor(rate)

    def _move(
        self,
        mean: np.ndarray,
        cost: np.ndarray,
        rate: np.ndarray,
        trials: np.ndarray,
        here: np.ndarray,
        step: np.ndarray,
        gain: np.ndarray,
    ) -> None:
        """Go down ``step``, halved until a trial's cost falls by a tenth of what it should."""
        length = np.ones(len(trials))
        left = np.arange(len(trials))
        for _ in range(40):
            moved = here[left] - length[left, None, None] * step[left]
            new_cost, new_rate = self.cost(moved, trials[left])
            allowed = cost[trials[left]] - 0.2 * length[left] * gain[left]
            # Rounding in sums of thousands of nats must not stop a step at the mode.
            allowed += 1e-10 * np.abs(cost[trials[left]])
            good = new_cost <= allowed
            chosen = trials[left[good]]
            mean[chosen], cost[chosen], rate[chosen] = moved[good], new_cost[good], new_rate[good]
            left = left[~good]
            if not left.size:
                return
            length[left] /= 2


def fit_loadings(
    counts: np.ndarray,
    posterior: Posterior,
    loadings: Loadings,
    *,
    penalty: float,
    steps: int = 2,
) -> Loadings:
    """Newton steps from ``loadings`` towards the highest expected log-likelihood of the counts.

    For unit n it is ``sum_s y_s (c m_s + d) - exp(c m_s + d + c S_s c / 2) - penalty |c|^2 / 2``
    over all bins s of all trials; a step is halved until it does not fall.

    Parameters
    ----------
    counts : ndarray (trial, bin, unit)
    posterior : Posterior
    loadings : Loadings
        The start. Units without a spike keep theirs.
    penalty : float
        Prior precision of a weight.
    steps : int
        Newton steps of every unit.
    """
    states = posterior.mean.shape[-1]
    mean = posterior.mean.reshape(-1, states)
    covariance = np.ascontiguousarray(posterior.covariance).reshape(-1, states, states)
    task = _LoadingTask(mean, covariance, counts.reshape(-1, counts.shape[-1]), penalty)
    weights, offset = loadings.weights.copy(), loadings.offset.copy()
    active = np.flatnonzero(task.total > 0)
    for start in range(0, active.size, task.block):
        units = active[start : start + task.block]
        weights[units], offset[units] = task.improve(units, weights[units], offset[units], steps)
    return Loadings(weights, offset)


def expected_cost(
    counts: np.ndarray, posterior: Posterior, loadings: Loadings, *, penalty: float
) -> np.ndarray:
    """What :func:`fit_loadings` minimises, nats of each unit, (unit,)."""
    drive = loadings.log_rate(posterior.mean)
    rate = np.exp(loadings.log_rate(posterior.mean, posterior.covariance))
    shrink = 0.5 * penalty * (loadings.weights**2).sum(1)
    return (rate - counts * drive).sum((0, 1)) + shrink


class _LoadingTask:
    """Newton's method for the loadings of many units given the posterior of all samples."""

    def __init__(
        self, mean: np.ndarray, covariance: np.ndarray, counts: np.ndarray, penalty: float
    ) -> None:
        self.mean, self.covariance, self.penalty = mean, covariance, penalty
        self.flat = covariance.reshape(len(mean), -1)
        self.total = counts.sum(0, dtype=float)
        self.block = max(1, _LARGEST_BLOCK // len(mean))
        blocks = [slice(i, i + self.block) for i in range(0, counts.shape[1], self.block)]
        self.sums = np.concatenate([counts[:, b].astype(float).T @ mean for b in blocks])

    def improve(
        self, units: np.ndarray, weights: np.ndarray, offset: np.ndarray, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        cost, rate = self._cost(units, weights, offset)
        for _ in range(steps):
            step = self._newton_step(units, weights, rate)
            length = np.ones(len(units))
            for _ in range(30):
                new_weights = weights - length[:, None] * step[:, :-1]
                new_offset = offset - length * step[:, -1]
                new_cost, rate = self._cost(units, new_weights, new_offset)
                worse = ~(new_cost <= cost + 1e-12 * np.abs(cost))
                if not worse.any():
                    break
                length[worse] /= 2
            else:
                return weights, offset
            weights, offset, cost = new_weights, new_offset, new_cost
        return weights, offset

    def _cost(
        self, units: np.ndarray, weights: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        drive = self.mean @ weights.T
        drive += self.flat @ (outer(weights).T / 2)
        drive += offset
        with np.errstate(over="ignore"):
            rate = np.exp(drive, out=drive)
            cost = rate.sum(0)
        cost = cost - (self.sums[units] * weights).sum(1) - self.total[units] * offset
        return cost + 0.5 * self.penalty * (weights**2).sum(1), rate

    def _newton_step(self, units: np.ndarray, weights: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """Inverse Hessian times gradient, (unit, state + 1)."""
        states = weights.shape[1]
        gradient = np.empty((len(units), states + 1))
        hessian = np.empty((len(units), states + 1, states + 1))
        spread = (rate.T @ self.flat).reshape(-1, states, states)
        for i, row in enumerate(weights):
            tilted = self.mean + self.covariance.reshape(-1, states).dot(row).reshape(-1, states)
            weighted = tilted * rate[:, i, None]
            hessian[i, :-1, :-1] = tilted.T @ weighted + spread[i]
            hessian[i, :-1, -1] = hessian[i, -1, :-1] = weighted.sum(0)
            hessian[i, -1, -1] = rate[:, i].sum()
        gradient[:, :-1] = hessian[:, :-1, -1] - self.sums[units] + self.penalty * weights
        gradient[:, -1] = hessian[:, -1, -1] - self.total[units]
        hessian[:, np.arange(states), np.arange(states)] += self.penalty
        # Rarely active units can leave the offset nearly undetermined.
        hessian[:, np.arange(states + 1), np.arange(states + 1)] += 1e-9
        return np.linalg.solve(hessian, gradient[..., None])[..., 0]
