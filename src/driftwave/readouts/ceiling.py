r"""Noise ceiling: how well two halves of the recorded units agree on what they decode.

Decoders are fitted to two disjoint random halves of the units; r is the correlation of their
held-out predictions. With Spearman and Brown's formula (Spearman 1910, 10.1111/j.2044-8295.1910.
tb00206.x) the prediction from all N units, halves of n each, has the reliability

    rho = k r / (1 + (k - 1) r),   k = N / n.

Write a prediction d = s + e with e independent between the halves: rho = var(s) / var(d). A target
y that e knows nothing of has corr(d, y)^2 = cov(s, y)^2 / (var(d) var(y)) <= var(s) / var(d) = rho
(Cauchy and Schwarz), and R2 <= corr(d, y)^2: rho bounds the R2 that a prediction with this much
noise can reach. Noise that the halves share counts as signal, so the bound need not be attained.

Halves must be interchangeable for this. Where few units tell different things (three head-direction
units a half), halves disagree for want of coverage rather than for noise, rho is too low, and a
decoder of all units exceeds it; an R2 above its ceiling says that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftwave.readouts.regression import Moments, Ridge

LEAST_UNITS = 4

# Correlation (half split, target) of the two predictions in one fold, with the factor k.
Agreement = tuple[np.ndarray, float]


@dataclass(frozen=True)
class Ceiling:
    """Noise ceiling of one set of features.

    Attributes
    ----------
    reliability : ndarray (target,) or None
        Mean correlation of the two halves' held-out predictions; None where not computed.
    r2 : ndarray (target,) or None
        Bound on R2, by Spearman and Brown; 0 where the halves do not agree.
    sd : ndarray (target,) or None
        Its standard deviation over random halves.
    """

    reliability: np.ndarray | None = None
    r2: np.ndarray | None = None
    sd: np.ndarray | None = None

    @classmethod
    def of(cls, folds: list[Agreement]) -> Ceiling:
        """From the agreement in each fold."""
        correlation = np.array([found for found, _ in folds])
        if not folds or not correlation.size:
            return cls()
        there = np.isfinite(correlation)
        total = np.where(there, correlation, 0).sum(axis=0)
        by_half = total / np.maximum(there.sum(axis=0), 1)
        by_half[there.sum(axis=0) == 0] = np.nan
        factor = folds[0][1]
        whole = spearman_brown(by_half, factor)
        mean = by_half.mean(axis=0)
        return cls(mean, spearman_brown(mean, factor), whole.std(axis=0))


NoCeiling = Ceiling()


def spearman_brown(correlation: np.ndarray, factor: float = 2.0) -> np.ndarray:
    """Reliability of ``factor`` times as many units; 0 where the correlation is negative."""
    positive = np.where(correlation < 0, 0.0, correlation)
    return factor * positive / (1 + (factor - 1) * positive)


def random_halves(
    units: int, count: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Disjoint random halves (positions) of the units; none of fewer than ``LEAST_UNITS``."""
    if units < LEAST_UNITS:
        return []
    half = units // 2
    orders = [rng.permutation(units) for _ in range(count)]
    return [(np.sort(order[:half]), np.sort(order[half : 2 * half])) for order in orders]


def halves_factor(units: int) -> float:
    """How many times larger the population is than a half of it."""
    return units / (units // 2)


def correlation_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation (column,) of two predictions (row, column); NaN where one is constant."""
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(scale > 0, (a * b).sum(axis=0) / np.where(scale > 0, scale, 1), np.nan)


def halves_agreement(
    train: Sequence[Moments],
    held: Sequence[Moments],
    penalty: np.ndarray,
    view: np.ndarray,
    halves: Sequence[tuple[np.ndarray, np.ndarray]],
    units: int,
) -> Agreement:
    """Correlation of two ridge decoders' held-out predictions, from moments alone.

    Parameters
    ----------
    train, held : sequence of Moments
        Of each view; the true labels are the first columns.
    penalty : ndarray (target,)
    view : ndarray of int (target,)
        Penalty and view of the decoder from all units, chosen on the training trials.
    halves : sequence of (ndarray, ndarray)
        Unit positions.
    units : int
        Of the whole population.
    """
    targets = len(penalty)
    found = np.full((len(halves), targets), np.nan)
    if not halves:
        return found, 2.0
    if all(part.count for part in (*train, *held)):
        for k in np.unique(view):
            mine = np.flatnonzero(view == k)
            for row, pair in enumerate(halves):
                found[row, mine] = _agree(train[k], held[k], penalty[mine], mine, pair, units)
    return found, halves_factor(units)


def _agree(
    train: Moments,
    held: Moments,
    penalty: np.ndarray,
    targets: np.ndarray,
    pair: tuple[np.ndarray, np.ndarray],
    units: int,
) -> np.ndarray:
    lags = len(train.sum_x) // units
    columns = [(np.arange(lags)[:, None] * units + half).ravel() for half in pair]
    weights = [Ridge(_part(train, chosen, targets)).weights(penalty)[0] for chosen in columns]
    gram = held.gram - np.outer(held.sum_x, held.sum_x) / held.count

    def product(i: int, j: int) -> np.ndarray:
        block = gram[np.ix_(columns[i], columns[j])]
        return np.einsum("pt,pt->t", weights[i], block @ weights[j])

    scale = np.sqrt(np.maximum(product(0, 0) * product(1, 1), 0))
    return np.where(scale > 0, product(0, 1) / np.where(scale > 0, scale, 1), np.nan)


def _part(sums: Moments, chosen: np.ndarray, targets: np.ndarray) -> Moments:
    return Moments(
        sums.count,
        sums.sum_x[chosen],
        sums.gram[np.ix_(chosen, chosen)],
        sums.sum_y[targets],
        sums.sum_yy[targets],
        sums.cross[np.ix_(chosen, targets)],
    )
