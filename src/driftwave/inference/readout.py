"""Log-linear Poisson readout from features to spike counts, all units at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

_LARGEST_BLOCK = 20_000_000  # samples x targets held at once


@dataclass(frozen=True)
class PoissonReadout:
    """Log rates as a linear map of standardised features.

    Attributes
    ----------
    weights : ndarray (feature, target)
    intercept : ndarray (target,)
    centre, scale : ndarray (feature,)
        Mean and standard deviation of the features in training.
    lowest, highest : ndarray (target,)
        Bounds of the log rate: half a spike in the whole training set, and one spike more than the
        largest training count. They keep silent units finite and extrapolation sane.
    """

    weights: np.ndarray
    intercept: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    def log_rate(self, features: np.ndarray) -> np.ndarray:
        """Log of the rate in spikes/bin, (..., target), for features (..., feature)."""
        drive = (features - self.centre) / self.scale @ self.weights + self.intercept
        return np.clip(drive, self.lowest, self.highest)

    def rate(self, features: np.ndarray) -> np.ndarray:
        """Rate in spikes/bin, (..., target)."""
        return np.exp(self.log_rate(features))

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays under prefixed names, for saving."""
        return {f"{prefix}_{name}": value for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> PoissonReadout:
        """The inverse of :meth:`arrays`."""
        return cls(**{name: arrays[f"{prefix}_{name}"] for name in cls.__dataclass_fields__})

    @classmethod
    def from_arrays_or_none(
        cls, arrays: Mapping[str, np.ndarray], prefix: str
    ) -> PoissonReadout | None:
        """The readout saved under that prefix, if there is one."""
        return cls.from_arrays(arrays, prefix) if f"{prefix}_weights" in arrays else None


def fit_readout(
    features: np.ndarray, counts: np.ndarray, penalty: float, base: np.ndarray | None = None
) -> PoissonReadout:
    """Fit by penalised maximum likelihood.

    Minimises, for each target, ``sum_n exp(eta_n) - y_n eta_n + penalty / 2 * |w|^2`` with
    ``eta = w x + b`` on standardised features and an unpenalised intercept, or, with ``base``,
    ``eta = log(base) + w x + b`` with the penalty on ``b`` as well.

    Parameters
    ----------
    features : ndarray (sample, feature)
    counts : ndarray (sample, target)
        Spikes per bin.
    penalty : float
        Positive; the prior precision of a weight (nats).
    base : ndarray (target,), optional
        A known mean of each target, spikes/bin, that few samples had better not estimate anew.
    """
    features = np.asarray(features, dtype=float)
    samples, targets = counts.shape
    centre, scale = features.mean(0), features.std(0)
    # A feature that hardly varies in training must not be blown up at evaluation.
    scale = np.where(scale > 1e-8 * (1 + np.abs(centre)), scale, 1.0)
    design = (features - centre) / scale
    strength, basis = np.linalg.eigh(design.T @ design)
    rotated = np.column_stack([design @ basis, np.ones(samples)])
    strength = np.append(np.maximum(strength, 0), samples)
    penalties = np.append(
        np.full(design.shape[1], float(penalty)), 0.0 if base is None else penalty
    )
    solution = np.zeros((rotated.shape[1], targets))
    lowest = np.full(targets, np.log(0.5 / samples))
    # Without spikes the best rate is zero and its logarithm minus infinity.
    active = np.flatnonzero(counts.any(0) | (base is not None))
    if base is None:
        level = np.log(np.maximum(counts.mean(0, dtype=float), np.exp(lowest)))
    else:
        level = np.log(base)
    block = max(1, _LARGEST_BLOCK // samples)
    for start in range(0, active.size, block):
        columns = active[start : start + block]
        solution[:, columns] = _minimise(
            rotated, counts[:, columns].astype(float), level[columns], strength, penalties
        )
    return PoissonReadout(
        weights=basis @ solution[:-1],
        intercept=level + solution[-1],
        centre=centre,
        scale=scale,
        lowest=np.minimum(lowest, level),
        highest=np.log(counts.max(0) + 1.0),
    )


def _minimise(
    design: np.ndarray,
    counts: np.ndarray,
    level: np.ndarray,
    strength: np.ndarray,
    penalties: np.ndarray,
) -> np.ndarray:
    """L-BFGS over all targets jointly, in coordinates where the Hessian is near the identity.

    In the eigenbasis of the design the Hessian of target u is about ``exp(level_u) * strength``
    plus the penalty, so dividing by its root makes one step length fit all weights of all targets.
    """
    root = np.sqrt(np.exp(level) * strength[:, None] + penalties[:, None] + 1e-12)
    drive = design.T @ counts

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(root.shape) / root
        # The cap is far above any rate; it keeps a bold line search from overflowing.
        rate = np.exp(np.minimum(design @ weights + level, 30.0))
        shrink = penalties[:, None] * weights
        cost = rate.sum() - (weights * drive).sum() + 0.5 * (shrink * weights).sum()
        gradient = design.T @ rate - drive + shrink
        return cost, (gradient / root).ravel()

    found = minimize(
        objective,
        np.zeros(root.size),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 200, "gtol": 1e-2, "ftol": 1e-12, "maxcor": 12},
    )
    return found.x.reshape(root.shape) / root


def poisson_cost(log_rate: np.ndarray, counts: np.ndarray) -> float:
    """Mean Poisson negative log likelihood without its constant, nats per entry."""
    return float(np.mean(np.exp(log_rate) - counts * log_rate))


def choose_readout(
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    penalties: Iterable[float],
    base: np.ndarray | None = None,
) -> tuple[PoissonReadout, list[float]]:
    """Fit one readout per penalty and keep the one that is best on validation.

    Parameters
    ----------
    train, valid : (features (sample, feature), counts (sample, target))
    penalties : iterable of float
    base : ndarray (target,), optional
        As in :func:`fit_readout`.

    Returns
    -------
    PoissonReadout
    list of float
        Validation cost (nats per entry) for each penalty.
    """
    fits = [fit_readout(*train, penalty, base) for penalty in penalties]
    costs = [poisson_cost(fitted.log_rate(valid[0]), valid[1]) for fitted in fits]
    return fits[int(np.argmin(costs))], costs


@dataclass(frozen=True)
class Choice:
    """The best of several candidate features for predicting hidden counts.

    Attributes
    ----------
    index : int
        The chosen candidate.
    penalty : float
        The chosen penalty.
    readout : PoissonReadout
        Fitted with both on the training trials.
    costs : ndarray (candidate,)
        Validation cost of each candidate, nats per entry, at the middle penalty.
    """

    index: int
    penalty: float
    readout: PoissonReadout
    costs: np.ndarray


def choose_features(
    candidates: Callable[[int], np.ndarray],
    count: int,
    targets: np.ndarray,
    train: np.ndarray,
    valid: np.ndarray,
    penalties: Sequence[float],
    base: np.ndarray | None = None,
) -> Choice:
    """Choose among candidate features, then among penalties, by validation cost.

    Parameters
    ----------
    candidates : callable
        Features (trial, ..., feature) of candidate ``i``; called once more for the chosen one.
    count : int
        Number of candidates.
    targets : ndarray (trial, ..., target)
        Counts to predict, with the features' leading dims.
    train, valid : ndarray of bool (trial,)
    penalties : sequence of float
    base : ndarray (target,), optional
        As in :func:`fit_readout`.
    """
    goals = flat(targets[train]), flat(targets[valid])
    middle = penalties[len(penalties) // 2]

    def sets(index: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        features = candidates(index)
        return (flat(features[train]), goals[0]), (flat(features[valid]), goals[1])

    costs = np.array([choose_readout(*sets(index), [middle], base)[1][0] for index in range(count)])
    best = int(np.argmin(costs))
    readout, by_penalty = choose_readout(*sets(best), penalties, base)
    return Choice(best, float(penalties[int(np.argmin(by_penalty))]), readout, costs)


def flat(values: np.ndarray) -> np.ndarray:
    """All leading dims as one: (sample, last dim)."""
    return values.reshape(-1, values.shape[-1])


def unit_means(counts: np.ndarray) -> np.ndarray:
    """Mean count of each unit (last dim), spikes/bin, with half a spike added to keep it above 0.

    Parameters
    ----------
    counts : ndarray (..., unit)
    """
    return (counts.sum(tuple(range(counts.ndim - 1)), dtype=float) + 0.5) / counts[..., 0].size
