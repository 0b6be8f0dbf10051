"""Nested cross-validation of ridge decoders, for the true labels and all shuffles at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import dask
import numpy as np

from driftwave.readouts.ceiling import Agreement, Ceiling, NoCeiling, halves_agreement
from driftwave.readouts.circular import median_angular_error
from driftwave.readouts.folds import Plan
from driftwave.readouts.heldout import OtherLabels
from driftwave.readouts.regression import (
    Moments,
    Problem,
    Ridge,
    combine,
    moments,
    r_squared,
    standardised,
)

Sums = Callable[[np.ndarray], Moments]
LABELS_AT_ONCE = 20


@dataclass(frozen=True)
class Decoded:
    """Scores of one set of features.

    Attributes
    ----------
    r2_fold : ndarray (fold, label, target)
    angular_error_fold : ndarray (fold, label, angle)
        Median absolute error, degrees.
    penalty : ndarray (target,)
        Penalty of the decoder of the test split; NaN where the decoder has none.
    r2_test : ndarray (label, target)
    angular_error_test : ndarray (label, angle)
    prediction : ndarray (trial, time, target)
        Of the test split, NaN elsewhere.
    chosen : list of int (target,)
        Candidate of the decoder of the test split.
    ceiling : Ceiling
        What two halves of the units agree on.
    settings : list of str (target,)
        Its hyper-parameters in words.
    spread : ndarray (trial, time, target) or None
        Predictive standard deviation of the test split.
    """

    r2_fold: np.ndarray
    angular_error_fold: np.ndarray
    penalty: np.ndarray
    r2_test: np.ndarray
    angular_error_test: np.ndarray
    prediction: np.ndarray
    chosen: list[int] = field(default_factory=list)
    ceiling: Ceiling = NoCeiling
    settings: list[str] = field(default_factory=list)
    spread: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """One way to read the activity: a problem whose bins and labels all views share."""

    problem: Problem
    sums: Sums


def _views(problems: Sequence[Problem], plan: Plan) -> tuple[list[View], list[np.ndarray]]:
    views: list[View] = []
    units: list[np.ndarray] = []
    for plain in problems:
        problem, *units = standardised(plain)
        parts = [moments(problem, atom) for atom in plan.atoms]
        nothing = moments(problem, np.zeros(0, int))
        views.append(View(problem, _sums(parts, nothing)))
    return views, units


def _sums(parts: list[Moments], nothing: Moments) -> Sums:
    def sums(chosen: np.ndarray) -> Moments:
        return combine([part for part, use in zip(parts, chosen, strict=True) if use], nothing)

    return sums


def cross_validate(
    problems: Problem | Sequence[Problem],
    plan: Plan,
    penalties: Sequence[float],
    angles: Sequence[tuple[int, int]] = (),
    halves: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    others: OtherLabels | None = None,
) -> Decoded:
    """Score each fold and the test split, every choice made on the training trials only.

    For an outer fold the penalty (and the problem, of several) of every target, and of every
    shuffle of it, is the one with the smallest squared error over the other folds, each predicted
    from the rest; for the test split it is chosen over all folds in the same way.

    Parameters
    ----------
    problems : Problem or sequence of Problem
        Several differ in features or history only.
    plan : Plan
        At least 3 folds.
    penalties : sequence of float
        Positive; on standardised features, sum of squared errors.
    angles : sequence of (int, int)
        Targets that are the cosine and sine of one angle.
    halves : sequence of (ndarray, ndarray)
        Disjoint halves of the units, for the noise ceiling.
    others : OtherLabels, optional
        Scores the held-out predictions against other labels, where these are not fitted anew.
    """
    problems = [problems] if isinstance(problems, Problem) else list(problems)
    views, units = _views(problems, plan)
    problem, grid = views[0].problem, np.asarray(penalties, float)
    shape = (len(problem.labels), problem.target.shape[-1])
    inner = np.concatenate([_inner_errors(plan, view.sums, grid) for view in views], axis=1)

    def one_fold(fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Agreement]:
        train, held = plan.train[fold], plan.held[fold]
        chosen = inner[fold].argmin(axis=0)
        mixed = Mixed(views, train, chosen, grid, units)
        left_out = np.concatenate(
            [
                Ridge(view.sums(train & plan.fitting)).rough_errors(
                    [view.sums(held & plan.fitting)], grid
                )[0]
                if (train & plan.fitting).any()
                else np.zeros((len(grid), problem.columns))
                for view in views
            ]
        )
        agreement = halves_agreement(
            [view.sums(train) for view in views],
            [view.sums(held) for view in views],
            grid[chosen[: shape[1]] % len(grid)],
            chosen[: shape[1]] // len(grid),
            halves,
            problem.features.shape[-1],
        )
        return (
            *mixed.scores(plan, held, angles, others),
            left_out,
            agreement,
        )

    found = dask.compute(*[dask.delayed(one_fold)(fold) for fold in range(plan.folds)])
    r2, error, left_out, agreement = zip(*found, strict=True)
    chosen = np.sum(left_out, axis=0).argmin(axis=0)
    return Decoded(
        np.array(r2),
        np.array(error),
        grid[chosen[: shape[1]] % len(grid)],
        *_decode_test(views, plan, chosen, grid, angles, units, others),
        chosen=[int(k) // len(grid) for k in chosen[: shape[1]]],
        ceiling=Ceiling.of(list(agreement)),
    )


def _inner_errors(plan: Plan, sums: Sums, grid: np.ndarray) -> np.ndarray:
    """Squared errors (outer fold, penalty, column) summed over the inner folds.

    Leaving out folds f and g gives one decoder, which serves f as the outer fold and g as its
    inner one and the other way round.
    """

    def pair(f: int, g: int) -> np.ndarray:
        ridge = Ridge(sums(plan.train[f] & plan.train[g]))
        held = sums(plan.held[g] & plan.train[f]), sums(plan.held[f] & plan.train[g])
        return ridge.rough_errors(held, grid)

    pairs = list(combinations(range(plan.folds), 2))
    found = dask.compute(*[dask.delayed(pair)(f, g) for f, g in pairs])
    total = [np.zeros_like(found[0][0]) for _ in range(plan.folds)]
    for (f, g), (error_f, error_g) in zip(pairs, found, strict=True):
        total[f] += error_f
        total[g] += error_g
    return np.array(total)


class Mixed:
    """Ridge decoders of every column, each from its own view and with its own penalty."""

    def __init__(
        self,
        views: Sequence[View],
        train: np.ndarray,
        chosen: np.ndarray,
        grid: np.ndarray,
        units: Sequence[np.ndarray],
    ) -> None:
        problem = views[0].problem
        self.shape = (len(problem.labels), problem.target.shape[-1])
        self.shift, self.scale = units
        self.parts: list[tuple[View, Ridge, np.ndarray, np.ndarray]] = []
        for k, view in enumerate(views):
            mine = chosen // len(grid) == k
            if mine.any():
                self.parts.append((view, Ridge(view.sums(train)), grid[chosen % len(grid)], mine))
        self.weights = [
            tuple(np.where(mine, part, 0) for part in ridge.weights(penalty))
            for _, ridge, penalty, mine in self.parts
        ]

    def r2(self, held: np.ndarray) -> np.ndarray:
        """R2 (column,) on some atoms."""
        found = np.full(int(np.prod(self.shape)), np.nan)
        for view, ridge, penalty, mine in self.parts:
            sums = view.sums(held)
            errors = ridge.squared_errors([sums], [penalty])[0, 0]
            found[mine] = r_squared(errors, sums)[mine]
        return found

    def scores(
        self,
        plan: Plan,
        held: np.ndarray,
        angles: Sequence[tuple[int, int]],
        others: OtherLabels | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """R2 (label, target) and angular error (label, angle) on some atoms."""
        trials = plan.trials(held)
        if others is None:
            return self.r2(held).reshape(self.shape), self.angular_errors(trials, angles)
        return others(trials, self.placed(trials), folds=held is not plan.test)

    def placed(self, trials: np.ndarray) -> np.ndarray:
        """Predictions (trial, time, target) for the true labels; NaN outside the bins used."""
        problem = self.parts[0][0].problem
        found = np.full((len(trials), *problem.target.shape[1:]), np.nan)
        if problem.mask[trials].any():
            found[problem.mask[trials]] = self.predict(trials, slice(1))[:, 0]
        return found

    def predict(self, trials: np.ndarray, labels: slice) -> np.ndarray:
        """Predictions (row, label, target) of the used bins of some trials, in own units."""
        total: np.ndarray | float = 0.0
        for (view, *_), (weights, intercept) in zip(self.parts, self.weights, strict=True):
            kept = weights.reshape(-1, *self.shape)[:, labels]
            x = view.problem.rows(trials)
            found = (x @ kept.reshape(len(kept), -1)).reshape(len(x), *kept.shape[1:])
            total = total + found + intercept.reshape(self.shape)[labels]
        return np.asarray(total) * self.scale + self.shift

    def angular_errors(self, trials: np.ndarray, angles: Sequence[tuple[int, int]]) -> np.ndarray:
        """Median absolute angular error (label, angle) over the used bins of some trials."""
        found = np.full((self.shape[0], len(angles)), np.nan)
        problem = self.parts[0][0].problem
        if not angles or not problem.mask[trials].any():
            return found
        for start in range(0, self.shape[0], LABELS_AT_ONCE):
            labels = slice(start, start + LABELS_AT_ONCE)
            decoded = self.predict(trials, labels)
            true = problem.targets(trials, labels) * self.scale + self.shift
            for column, pair in enumerate(map(list, angles)):
                found[labels, column] = median_angular_error(decoded[..., pair], true[..., pair])
        return found


def _decode_test(
    views: Sequence[View],
    plan: Plan,
    chosen: np.ndarray,
    grid: np.ndarray,
    angles: Sequence[tuple[int, int]],
    units: Sequence[np.ndarray],
    others: OtherLabels | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R2, angular error and predictions of the test split, fitted on train and valid."""
    problem = views[0].problem
    shape = (len(problem.labels), problem.target.shape[-1])
    prediction = np.full(problem.target.shape, np.nan)
    test = plan.trials(plan.test)
    if not problem.mask[test].any() or not plan.fitting.any():
        labels = shape[0] if others is None else others.labels
        return (
            np.full((labels, shape[1]), np.nan),
            np.full((labels, len(angles)), np.nan),
            prediction,
        )
    mixed = Mixed(views, plan.fitting, chosen, grid, units)
    for some in problem.batches(test):
        prediction[some] = mixed.placed(some)
    return *mixed.scores(plan, plan.test, angles, others), prediction
