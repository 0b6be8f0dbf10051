"""Nested cross-validation of ridge decoders, for the true labels and all shuffles at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import dask
import numpy as np

from driftwave.readouts.circular import median_angular_error
from driftwave.readouts.folds import Plan
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


@dataclass(frozen=True)
class Decoded:
    """Scores of one set of features.

    Attributes
    ----------
    r2_fold : ndarray (fold, label, target)
    angular_error_fold : ndarray (fold, label, angle)
        Median absolute error, degrees.
    penalty : ndarray (target,)
        Penalty of the decoder of the test split.
    r2_test : ndarray (label, target)
    angular_error_test : ndarray (label, angle)
    prediction : ndarray (trial, time, target)
        Of the test split, NaN elsewhere.
    """

    r2_fold: np.ndarray
    angular_error_fold: np.ndarray
    penalty: np.ndarray
    r2_test: np.ndarray
    angular_error_test: np.ndarray
    prediction: np.ndarray


def cross_validate(
    problem: Problem,
    plan: Plan,
    penalties: Sequence[float],
    angles: Sequence[tuple[int, int]] = (),
) -> Decoded:
    """Score each fold and the test split, each penalty chosen on the training trials only.

    For an outer fold the penalty of every target (and of every shuffle of it) is the one with
    the smallest squared error over the other folds, each predicted from the rest; for the test
    split it is chosen over all folds in the same way.

    Parameters
    ----------
    problem : Problem
    plan : Plan
        At least 3 folds.
    penalties : sequence of float
        Positive; on standardised features, sum of squared errors.
    angles : sequence of (int, int)
        Targets that are the cosine and sine of one angle.
    """
    problem, *units = standardised(problem)
    grid = np.asarray(penalties, float)
    shape = (len(problem.labels), problem.target.shape[-1])
    parts = [moments(problem, atom) for atom in plan.atoms]
    nothing = moments(problem, np.zeros(0, int))

    def sums(chosen: np.ndarray) -> Moments:
        return combine([part for part, use in zip(parts, chosen, strict=True) if use], nothing)

    inner = _inner_errors(plan, sums, grid)

    def one_fold(fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        train, held = plan.train[fold], plan.held[fold]
        ridge = Ridge(sums(train))
        penalty = grid[inner[fold].argmin(axis=0)]
        r2 = r_squared(ridge.squared_errors([sums(held)], [penalty])[0, 0], sums(held))
        predict = _predictor(ridge, penalty, shape, units)
        error = _angular_errors(problem, plan.trials(held), predict, angles, units)
        if (train & ~plan.fitting).any() and (train & plan.fitting).any():
            ridge = Ridge(sums(train & plan.fitting))
        left_out = ridge.squared_errors([sums(held & plan.fitting)], grid)[0]
        return r2.reshape(shape), error, left_out

    found = dask.compute(*[dask.delayed(one_fold)(fold) for fold in range(plan.folds)])
    r2, error, left_out = (np.array(part) for part in zip(*found, strict=True))
    penalty = grid[left_out.sum(axis=0).argmin(axis=0)]
    test = _decode_test(problem, plan, sums, penalty, angles, units)
    return Decoded(r2, error, penalty.reshape(shape)[0], *test)


def _inner_errors(plan: Plan, sums: Sums, grid: np.ndarray) -> np.ndarray:
    """Squared errors (outer fold, penalty, column) summed over the inner folds.

    Leaving out folds f and g gives one decoder, which serves f as the outer fold and g as its
    inner one and the other way round.
    """

    def pair(f: int, g: int) -> np.ndarray:
        ridge = Ridge(sums(plan.train[f] & plan.train[g]))
        held = sums(plan.held[g] & plan.train[f]), sums(plan.held[f] & plan.train[g])
        return ridge.squared_errors(held, grid)

    pairs = list(combinations(range(plan.folds), 2))
    found = dask.compute(*[dask.delayed(pair)(f, g) for f, g in pairs])
    total = [np.zeros_like(found[0][0]) for _ in range(plan.folds)]
    for (f, g), (error_f, error_g) in zip(pairs, found, strict=True):
        total[f] += error_f
        total[g] += error_g
    return np.array(total)


def _predictor(
    ridge: Ridge,
    penalty: np.ndarray,
    shape: tuple[int, int],
    units: Sequence[np.ndarray],
) -> Callable[[np.ndarray, slice], np.ndarray]:
    """Function from features (row, feature) to predictions (row, label, target) in own units."""
    weights, intercept = ridge.weights(penalty)
    weights = weights.reshape(-1, *shape)
    intercept = intercept.reshape(shape)
    shift, scale = units

    def predict(x: np.ndarray, labels: slice) -> np.ndarray:
        chosen = weights[:, labels]
        found = x @ chosen.reshape(len(chosen), -1)
        found = found.reshape(len(x), *chosen.shape[1:]) + intercept[labels]
        return found * scale + shift

    return predict


def _angular_errors(
    problem: Problem,
    trials: np.ndarray,
    predict: Callable[[np.ndarray, slice], np.ndarray],
    angles: Sequence[tuple[int, int]],
    units: Sequence[np.ndarray],
) -> np.ndarray:
    """Median absolute angular error (label, angle) over the used bins of some trials, degrees."""
    found = np.full((len(problem.labels), len(angles)), np.nan)
    if not angles or not problem.mask[trials].any():
        return found
    x = problem.rows(trials)
    for start in range(0, len(problem.labels), 20):
        labels = slice(start, start + 20)
        decoded = predict(x, labels)
        true = problem.targets(trials, labels) * units[1] + units[0]
        for column, pair in enumerate(map(list, angles)):
            found[labels, column] = median_angular_error(decoded[..., pair], true[..., pair])
    return found


def _decode_test(
    problem: Problem,
    plan: Plan,
    sums: Sums,
    penalty: np.ndarray,
    angles: Sequence[tuple[int, int]],
    units: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R2, angular error and predictions of the test split, fitted on train and valid."""
    shape = (len(problem.labels), problem.target.shape[-1])
    prediction = np.full(problem.target.shape, np.nan)
    test = plan.trials(plan.test)
    if not problem.mask[test].any() or not plan.fitting.any():
        return np.full(shape, np.nan), np.full((shape[0], len(angles)), np.nan), prediction
    ridge, held = Ridge(sums(plan.fitting)), sums(plan.test)
    predict = _predictor(ridge, penalty, shape, units)
    for some in problem.batches(test):
        inside = np.zeros_like(problem.mask)
        inside[some] = problem.mask[some]
        prediction[inside] = predict(problem.rows(some), slice(1))[:, 0]
    return (
        r_squared(ridge.squared_errors([held], [penalty])[0, 0], held).reshape(shape),
        _angular_errors(problem, test, predict, angles, units),
        prediction,
    )
