"""Scores of decoders given some of the units, or some of the training trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.optimize import curve_fit

from driftwave.readouts.classification import scaled
from driftwave.readouts.classifiers import Classifier
from driftwave.readouts.folds import Plan
from driftwave.readouts.generalisation import class_weights
from driftwave.readouts.jobs import Job
from driftwave.readouts.null import BinShifts
from driftwave.readouts.regression import (
    Moments,
    Problem,
    Ridge,
    combine,
    moments,
    r_squared,
    standardised,
)

INNER_PARTS = 3
# Exponents of the learning curve that a handful of sizes can tell from a straight line or a step.
EXPONENTS = (0.1, 4.0)
UNBENT = 1e-3


class Scorer(Protocol):
    """A decoder of one target, given part of what there is."""

    @property
    def units(self) -> int: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def strata(self) -> np.ndarray: ...
    @property
    def labels(self) -> int: ...

    def score(
        self, units: np.ndarray, train: Sequence[np.ndarray], labels: np.ndarray
    ) -> np.ndarray:
        """Held-out score (label,), from some units and each fold's training trials.

        ``labels`` are positions of labellings; 0 is the true one.
        """
        ...


@dataclass(frozen=True)
class ClassScorer:
    """Balanced accuracy of held-out trials, all folds together.

    Attributes
    ----------
    features : ndarray (trial, dim)
    given : ndarray of int (label, trial)
    plan : Plan
    classifier : Classifier
        In closed form, with one hyper-parameter value.
    classes : int
    """

    features: np.ndarray
    given: np.ndarray
    plan: Plan
    classifier: Classifier
    classes: int

    @property
    def units(self) -> int:
        return self.features.shape[1]

    @property
    def strata(self) -> np.ndarray:
        return self.given[0]

    @property
    def labels(self) -> int:
        return len(self.given)

    def score(
        self, units: np.ndarray, train: Sequence[np.ndarray], labels: np.ndarray
    ) -> np.ndarray:
        """Share right (label,), averaged over classes."""
        features, given = self.features[:, units], self.given[labels]
        trials, right = [], []
        for fold, known in enumerate(train):
            held = self.plan.trials(self.plan.held[fold])
            x, unknown = scaled(self.classifier, features, known, held)
            told = self.classifier.predict(
                x, given[:, known], unknown, self.classes, self.classifier.values
            )[0]
            trials.append(held)
            right.append(told == given[:, held])
        weights = class_weights(given[:, np.concatenate(trials)], self.classes)
        return (weights * np.concatenate(right, axis=1)).sum(axis=1)


@dataclass(frozen=True)
class RidgeScorer:
    """R2 of ridge regression, mean over folds (and over the cosine and sine of an angle).

    The penalty of each fold is chosen on thirds of its training trials, in order.

    Attributes
    ----------
    features : ndarray (trial, time, dim)
    job : Job
    penalties : sequence of float
    """

    features: np.ndarray
    job: Job
    penalties: Sequence[float]

    @property
    def units(self) -> int:
        return self.features.shape[-1]

    @property
    def plan(self) -> Plan:
        return self.job.plan

    @property
    def strata(self) -> np.ndarray:
        return np.zeros(len(self.features), int)

    @property
    def labels(self) -> int:
        return len(self.job.labels)

    def score(
        self, units: np.ndarray, train: Sequence[np.ndarray], labels: np.ndarray
    ) -> np.ndarray:
        """R2 (label,)."""
        whole = self.job.problem(self.features[..., units])
        kept = whole.labels
        some = (
            replace(kept, shifts=kept.shifts[labels])
            if isinstance(kept, BinShifts)
            else kept[labels]
        )
        problem, *_ = standardised(replace(whole, labels=some))
        scores = [
            self._fold(problem, known, self.plan.trials(self.plan.held[fold]))
            for fold, known in enumerate(train)
        ]
        by_column = np.mean(scores, axis=0).reshape(len(labels), -1)
        return by_column.mean(axis=1)

    def _fold(self, problem: Problem, train: np.ndarray, held: np.ndarray) -> np.ndarray:
        """R2 (column,) of one held fold."""
        grid = np.asarray(self.penalties, float)
        nothing = moments(problem, np.zeros(0, int))
        parts = [moments(problem, one) for one in np.array_split(train, INNER_PARTS)]
        errors = np.zeros((len(grid), problem.columns))
        for k, part in enumerate(parts):
            others: list[Moments] = [other for j, other in enumerate(parts) if j != k]
            errors += Ridge(combine(others, nothing)).squared_errors([part], grid)[0]
        penalty = grid[errors.argmin(axis=0)]
        test = moments(problem, held)
        error = Ridge(combine(parts, nothing)).squared_errors([test], [penalty])[0, 0]
        return r_squared(error, test)


def subset_sizes(most: int, points: int, least: int = 1) -> np.ndarray:
    """About ``points`` sizes from ``least`` to ``most``, evenly spaced in their logarithm."""
    wanted = np.geomspace(min(least, most), most, max(points, 2))
    return np.unique(np.round(wanted).astype(int))


def interleaved(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Trials in random order, every stretch of it with about as many of each stratum."""
    rank = np.zeros(len(strata))
    for value in np.unique(strata):
        member = np.flatnonzero(strata == value)
        rank[member] = rng.permutation(len(member)) + rng.random(len(member)) * 0.5
    return np.argsort(rank, kind="stable")


def first_of(order: np.ndarray, among: np.ndarray, size: int) -> np.ndarray:
    """The first ``size`` of some trials in an order, sorted."""
    return np.sort(order[np.isin(order, among)][:size])


def learning_curve(
    scorer: Scorer,
    kind: str,
    sizes: np.ndarray,
    draws: int,
    rngs: Sequence[np.random.Generator],
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (size, draw) of nested random subsets, and the shuffles' (size, shuffle).

    Each draw has its own share of the shuffles, so that the null holds the spread over subsets as
    well as that over labels. Subsets are nested within a draw.

    Parameters
    ----------
    scorer : Scorer
    kind : {"units", "trials"}
    sizes : ndarray of int
        Units, or training trials of a fold.
    draws : int
    rngs : sequence of Generator
        One for each draw.
    """
    plan = scorer.plan
    train = [plan.trials(plan.train[fold]) for fold in range(plan.folds) if plan.held[fold].any()]
    shares = np.array_split(np.arange(1, scorer.labels), draws)
    everyone = np.arange(scorer.units)
    score = np.zeros((len(sizes), draws))
    null = np.zeros((len(sizes), scorer.labels - 1))
    for draw, (share, rng) in enumerate(zip(shares, rngs, strict=True)):
        labels = np.concatenate([[0], share])
        order = rng.permutation(everyone) if kind == "units" else interleaved(scorer.strata, rng)
        for k, size in enumerate(sizes):
            if kind == "units":
                found = scorer.score(np.sort(order[:size]), train, labels)
            else:
                some = [first_of(order, known, size) for known in train]
                found = scorer.score(everyone, some, labels)
            score[k, draw], null[k, share - 1] = found[0], found[1:]
    return score, null


def size_reaching(
    sizes: np.ndarray, score: np.ndarray, chance: float, share: float = 0.95
) -> float:
    """Size at which a curve first reaches a share of its last score above chance.

    Interpolated in the logarithm of the size; NaN where the last score is not above chance.
    """
    full = score[-1] - chance
    if not np.isfinite(full) or full <= 0:
        return np.nan
    relative = (score - chance) / full
    at = int(np.argmax(relative >= share))
    if at == 0:
        return float(sizes[0])
    low, high = relative[at - 1 : at + 1]
    fraction = (share - low) / (high - low)
    return float(np.exp(np.interp(fraction, [0, 1], np.log(sizes[at - 1 : at + 1]))))


def asymptote(sizes: np.ndarray, score: np.ndarray, most: float = 1.0) -> float:
    """Score that a power law s(n) = a - b n^(-c) tends to, by least squares.

    Cortes et al. 1993 (Learning curves: asymptotic values and rate of convergence, equation 4).
    NaN below 4 sizes, and where the fit runs into the best score there is: such a curve has not
    bent enough to say where it ends.
    """
    if len(sizes) < 4 or not np.isfinite(score).all() or np.ptp(score) == 0:
        return np.nan
    start = np.clip(score.max(), None, most - 1e-6), max(np.ptp(score), 1e-3), 0.7
    bounds = ([-np.inf, 0, EXPONENTS[0]], [most, np.inf, EXPONENTS[1]])
    try:
        found, _ = curve_fit(
            lambda n, a, b, c: a - b * n**-c, sizes / sizes[0], score, start, bounds=bounds
        )
    except RuntimeError:  # no optimum within scipy's number of evaluations
        return np.nan
    return float(found[0]) if found[0] < most - UNBENT else np.nan
