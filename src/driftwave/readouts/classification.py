"""Nested, grouped cross-validation of classifiers, for the true labels and all shuffles at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import dask
import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from driftwave.readouts.circular import angular_distance
from driftwave.readouts.classifiers import Classifier
from driftwave.readouts.folds import Plan

MISSING = -1


@dataclass(frozen=True)
class Decoded:
    """Classes told by decoders that did not see the trial.

    Attributes
    ----------
    held : ndarray of int (label, trial)
        From the fold that holds the trial; -1 outside the cross-validation.
    test : ndarray of int (label, trial)
        Of the test split, from the decoder fitted on train and valid; -1 elsewhere.
    value : ndarray (fold + 1,)
        Hyper-parameter of each fold's decoder and of the test split's, for the true labels.
    """

    held: np.ndarray
    test: np.ndarray
    value: np.ndarray


def scaled(
    classifier: Classifier, features: np.ndarray, train: np.ndarray, held: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features of training and held trials, centred and divided by one scale of the training ones.

    A scale for each unit would blow up the noise of units that hardly fire. Counts stay counts.
    """
    if classifier.counts:
        return features[train], features[held]
    centre = features[train].mean(axis=0)
    scale = np.sqrt(features[train].var(axis=0).mean()) or 1.0
    return (features[train] - centre) / scale, (features[held] - centre) / scale


def cross_classify(
    features: np.ndarray,
    given: np.ndarray,
    plan: Plan,
    classifier: Classifier,
    classes: int,
) -> Decoded:
    """Decode every held-out trial, each hyper-parameter chosen on the training trials only.

    For an outer fold the value (of every labelling by itself) is the one that tells most trials
    right over the other folds, each decoded from the rest; for the test split over all folds. Of
    values equally good the one that regularises most is taken.

    Parameters
    ----------
    features : ndarray (trial, dim)
    given : ndarray of int (label, trial)
        Classes of the trials; row 0 the true ones.
    plan : Plan
        At least 3 folds.
    classifier : Classifier
    classes : int
    """
    values = classifier.values

    def predict(train: np.ndarray, held: np.ndarray) -> np.ndarray:
        known, unknown = scaled(classifier, features, train, held)
        if not len(held):
            return np.zeros((len(values), len(given), 0), int)
        return classifier.predict(known, given[:, train], unknown, classes, values)

    inner = _inner_right(plan, given, predict, len(values))

    def one_fold(fold: int) -> tuple[np.ndarray, np.ndarray]:
        held = plan.trials(plan.held[fold])
        found = predict(plan.trials(plan.train[fold]), held)
        fitting = plan.trials(plan.held[fold] & plan.fitting)
        among = np.isin(held, fitting)
        left_out = (found[..., among] == given[None][..., fitting]).sum(axis=-1)
        return _choose(found, inner[fold].argmax(axis=0)), left_out

    outer = dask.compute(*[dask.delayed(one_fold)(fold) for fold in range(plan.folds)])
    decoded = np.full(given.shape, MISSING)
    chosen = [values[inner[fold][:, 0].argmax()] for fold in range(plan.folds)]
    for fold, (found, _) in enumerate(outer):
        decoded[:, plan.trials(plan.held[fold])] = found
    best = np.sum([left_out for _, left_out in outer], axis=0).argmax(axis=0)
    test = np.full(given.shape, MISSING)
    trials = plan.trials(plan.test)
    if len(trials) and plan.fitting.any():
        test[:, trials] = _choose(predict(plan.trials(plan.fitting), trials), best)
    return Decoded(decoded, test, np.array([*chosen, values[best[0]]]))


def _choose(found: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Of classes (value, label, held) those of each labelling's own value (label, held)."""
    return found[best, np.arange(found.shape[1])]


def _inner_right(
    plan: Plan,
    given: np.ndarray,
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray],
    values: int,
) -> np.ndarray:
    """Trials told right (outer fold, value, label), over the inner folds.

    Leaving out folds f and g gives one decoder, which serves f as the outer fold and g as its
    inner one and the other way round.
    """
    total = np.zeros((plan.folds, values, len(given)), int)
    if values == 1:
        return total

    def pair(f: int, g: int) -> tuple[np.ndarray, np.ndarray]:
        train = plan.trials(plan.train[f] & plan.train[g])
        sides = plan.trials(plan.held[g] & plan.train[f]), plan.trials(plan.held[f] & plan.train[g])
        held = np.concatenate(sides)
        right = predict(train, held) == given[None][..., held]
        return right[..., : len(sides[0])].sum(-1), right[..., len(sides[0]) :].sum(-1)

    pairs = list(combinations(range(plan.folds), 2))
    for (f, g), (of_f, of_g) in zip(
        pairs, dask.compute(*[dask.delayed(pair)(f, g) for f, g in pairs]), strict=True
    ):
        total[f] += of_f
        total[g] += of_g
    return total


def accuracy(decoded: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Share (label,) of trials told right, of classes (label, trial); NaN without trials."""
    if not given.shape[1]:
        return np.full(len(given), np.nan)
    return (decoded == given).mean(axis=1)


def balanced_accuracy(decoded: np.ndarray, given: np.ndarray, classes: int) -> np.ndarray:
    """Mean (label,) over the classes that are there of the share of their trials told right.

    Parameters
    ----------
    decoded, given : ndarray of int (label or 1, trial), (label, trial)
    classes : int
    """
    right = decoded == given
    total, seen = np.zeros(len(given)), np.zeros(len(given))
    for k in range(classes):
        member = given == k
        count = member.sum(axis=1)
        total += np.where(count > 0, (right & member).sum(axis=1) / np.maximum(count, 1), 0)
        seen += count > 0
    return np.where(seen > 0, total / np.maximum(seen, 1), np.nan)


def mean_angular_error(decoded: np.ndarray, given: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Mean absolute angle (label,) between decoded and true classes, degrees; 90 by chance.

    The mean, for the median of a few classes is 0 as soon as half of the trials are told right.

    Parameters
    ----------
    decoded, given : ndarray of int (label or 1, trial), (label, trial)
    angle : ndarray (class,)
        Radians.
    """
    if not given.shape[1]:
        return np.full(len(given), np.nan)
    return np.degrees(angular_distance(angle[decoded], angle[given]).mean(axis=1))


def confusion(decoded: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Trials (true class, decoded class); trials that were not decoded do not count."""
    there = decoded != MISSING
    found = np.zeros((classes, classes), int)
    np.add.at(found, (true[there], decoded[there]), 1)
    return found


@dataclass(frozen=True)
class SplitHalf:
    """How far decoders of two halves of the units agree on trials that neither saw.

    Attributes
    ----------
    agreement : ndarray (draw,)
        Share of held-out trials that both halves give the same class.
    chance_agreement : ndarray (draw,)
        That of independent decoders that use each class as often as these (as in Cohen's kappa).
    half_accuracy : ndarray (draw,)
        Mean accuracy of the two halves.
    """

    agreement: np.ndarray
    chance_agreement: np.ndarray
    half_accuracy: np.ndarray


def implied_accuracy(agreement: np.ndarray, classes: int) -> np.ndarray:
    """Accuracy at which two decoders with independent, evenly spread errors agree that often.

    Both right with a^2, both at the same wrong one of K - 1 classes with (1 - a)^2 / (K - 1);
    the sum solved for a, not below 1 / K.
    """
    inside = np.maximum((classes - 1) * (classes * agreement - 1), 0)
    return (1 + np.sqrt(inside)) / classes


def accuracy_of(separation: np.ndarray | float, classes: int) -> np.ndarray:
    """Share right of an ideal choice among equally likely, equally separated classes.

    The choice among K unit-variance Gaussian evidences of which one has mean d': the integral of
    phi(x - d') Phi(x)^(K - 1) (Green & Swets 1966, equation 2.12).
    """
    x, weight = np.polynomial.hermite_e.hermegauss(80)
    others = ndtr(x + np.asarray(separation, float)[..., None]) ** (classes - 1)
    return others @ weight / np.sqrt(2 * np.pi)


def doubled_accuracy(half: float, classes: int) -> float:
    """Accuracy of twice the units, from that of half of them.

    The counterpart of Spearman and Brown's formula: independent halves of equal information have
    separations d' that add in squares, so the whole has the root of 2 times that of a half.
    """
    if not np.isfinite(half):
        return np.nan
    if half > 1 - 1e-9:
        return 1.0
    if half <= 1 / classes:
        return 1 / classes
    separation = brentq(lambda d: float(accuracy_of(d, classes)) - half, 0, 12)
    return float(accuracy_of(np.sqrt(2) * separation, classes))


def split_half(
    features: np.ndarray,
    true: np.ndarray,
    plan: Plan,
    classifier: Classifier,
    decoded: Decoded,
    classes: int,
    *,
    draws: int,
    rng: np.random.Generator,
) -> SplitHalf:
    """Decode each fold from either of two random halves of the units.

    The folds and their hyper-parameters are those of the whole population.

    Parameters
    ----------
    features : ndarray (trial, dim)
    true : ndarray of int (trial,)
    plan, classifier, decoded, classes
        As in :func:`cross_classify`, and its result.
    draws : int
        Random divisions of the units.
    rng : Generator
    """
    dims = features.shape[1]
    agreement, by_chance, right = [], [], []
    for _ in range(draws if dims > 1 else 0):
        order = rng.permutation(dims)
        halves = [
            _with_values(features[:, some], true, plan, classifier, decoded.value, classes)
            for some in (order[: dims // 2], order[dims // 2 :])
        ]
        there = halves[0] != MISSING
        first, second = (half[there] for half in halves)
        agreement.append((first == second).mean())
        use = [np.bincount(half, minlength=classes) / there.sum() for half in (first, second)]
        by_chance.append((use[0] * use[1]).sum())
        right.append(((first == true[there]).mean() + (second == true[there]).mean()) / 2)
    return SplitHalf(np.array(agreement), np.array(by_chance), np.array(right))


def _with_values(
    features: np.ndarray,
    true: np.ndarray,
    plan: Plan,
    classifier: Classifier,
    value: np.ndarray,
    classes: int,
) -> np.ndarray:
    """Class (trial,) told of each held-out trial, with one hyper-parameter value for each fold."""
    found = np.full(len(true), MISSING)
    for fold in range(plan.folds):
        train, held = plan.trials(plan.train[fold]), plan.trials(plan.held[fold])
        if not len(held):
            continue
        known, unknown = scaled(classifier, features, train, held)
        labels = true[train][None]
        found[held] = classifier.predict(known, labels, unknown, classes, [float(value[fold])])[
            0, 0
        ]
    return found
