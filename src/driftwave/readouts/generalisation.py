"""Train at one time, test at another: the temporal generalisation matrix and its null.

King & Dehaene 2014 (10.1016/j.tics.2014.01.002). The matrix of the true labels comes from mne's
``GeneralizingEstimator`` inside grouped folds; the null refits all label shuffles together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np

from driftwave.readouts.classification import scaled
from driftwave.readouts.classifiers import Classifier
from driftwave.readouts.folds import Plan
from driftwave.readouts.heldout import widened

Sides = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Generalised:
    """Balanced accuracy of held-out trials by training and test window.

    Attributes
    ----------
    score : ndarray (window, window)
        Row: trained; column: tested. Mean over classes of the share of held-out trials told
        right, all folds together.
    null : ndarray (shuffle, window, window)
    right : ndarray of bool (trial, window)
        Held-out trials told right, trained and tested at the same window.
    trials : ndarray of int (trial,)
        Positions of these trials.
    """

    score: np.ndarray
    null: np.ndarray
    right: np.ndarray
    trials: np.ndarray


def fold_sides(plan: Plan) -> Sides:
    """Training and held-out trials of each fold."""
    return [
        (plan.trials(plan.train[f]), plan.trials(plan.held[f]))
        for f in range(plan.folds)
        if plan.held[f].any()
    ]


def class_weights(given: np.ndarray, classes: int) -> np.ndarray:
    """Weights (label, trial) that turn a sum over trials into a mean over classes."""
    weights = np.zeros(given.shape)
    present = np.zeros(len(given))
    for k in range(classes):
        member = given == k
        count = member.sum(axis=1, keepdims=True)
        weights += np.where(member, 1 / np.maximum(count, 1), 0)
        present += count[:, 0] > 0
    return weights / np.maximum(present, 1)[:, None]


def generalise(
    features: np.ndarray,
    given: np.ndarray,
    sides: Sides,
    classifier: Classifier,
    classes: int,
    *,
    refit: bool,
) -> Generalised:
    """Decode held-out trials at every window by the decoder of every window.

    Parameters
    ----------
    features : ndarray (trial, window, dim)
    given : ndarray of int (label, trial)
        Classes; row 0 the true ones, the others shuffles.
    sides : list of (train, held)
        Positions of trials.
    classifier : Classifier
        With one hyper-parameter value.
    classes : int
    refit : bool
        Whether shuffles are refitted; else their labels are held against the same predictions,
        and the null of several folds is widened (:mod:`driftwave.readouts.heldout`).
    """
    trials = np.concatenate([held for _, held in sides])
    windows = features.shape[1]
    told = np.concatenate(
        dask.compute(
            *[
                dask.delayed(told_by_mne)(features, given[0], train, held, classifier, classes)
                for train, held in sides
            ]
        )
    )
    weights = class_weights(given[:, trials], classes)
    score = np.tensordot(weights[0], told == given[0, trials][:, None, None], axes=1)
    null = np.zeros((len(given) - 1, windows, windows))
    if refit:
        start = 0
        for train, held in sides:
            part = slice(start, start := start + len(held))
            null += _refitted(features, given[1:], train, held, classifier, weights[1:, part])
    else:
        for k, row in enumerate(given[1:, trials], start=1):
            null[k - 1] = np.tensordot(weights[k], told == row[:, None, None], axes=1)
        if len(sides) > 1:
            null = widened(np.concatenate([score[None], null]))[1:]
    diagonal = np.einsum("itt->it", told)
    return Generalised(score, null, diagonal == given[0, trials][:, None], trials)


def told_by_mne(
    features: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    classifier: Classifier,
    classes: int,
) -> np.ndarray:
    """Class (held, train window, test window) told by mne's ``GeneralizingEstimator``."""
    from mne.decoding import GeneralizingEstimator

    each = GeneralizingEstimator(_estimator(classifier, classes), verbose="error")
    each.fit(features[train].transpose(0, 2, 1), labels[train])
    return each.predict(features[held].transpose(0, 2, 1))


def _estimator(classifier: Classifier, classes: int) -> Any:
    """The classifier as scikit-learn's interface asks; scaled by its own training trials."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class OfTrials(ClassifierMixin, BaseEstimator):
        def __init__(self, classifier: Classifier, classes: int) -> None:
            self.classifier = classifier
            self.classes = classes

        def fit(self, x: np.ndarray, y: np.ndarray) -> Any:
            self.x_, self.y_, self.classes_ = x, y, np.unique(y)
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            count = len(self.x_)
            both = np.concatenate([self.x_, x])
            sides = np.arange(count), np.arange(count, len(both))
            known, unknown = scaled(self.classifier, both, *sides)
            values = self.classifier.values
            return self.classifier.predict(known, self.y_[None], unknown, self.classes, values)[
                0, 0
            ]

    return OfTrials(classifier, classes)


def _refitted(
    features: np.ndarray,
    given: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    classifier: Classifier,
    weights: np.ndarray,
) -> np.ndarray:
    """What some held trials add to the scores (label, train window, test window)."""
    windows, dims = features.shape[1:]
    classes = int(given.max()) + 1
    true = given[:, held, None]

    def trained_at(window: int) -> np.ndarray:
        both = np.concatenate([features[train, window], features[held].reshape(-1, dims)])
        sides = np.arange(len(train)), np.arange(len(train), len(both))
        known, unknown = scaled(classifier, both, *sides)
        told = classifier.predict(known, given[:, train], unknown, classes, classifier.values)[0]
        told = told.reshape(len(given), len(held), windows)
        return np.einsum("lh,lhw->lw", weights, told == true, optimize=True)

    found = dask.compute(*[dask.delayed(trained_at)(window) for window in range(windows)])
    return np.stack(found, axis=1)


def resampled_scores(
    right: np.ndarray, labels: np.ndarray, classes: int, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Balanced accuracy (sample, window) of trials drawn with replacement within their class.

    Parameters
    ----------
    right : ndarray of bool (trial, window)
    labels : ndarray of int (trial,)
    classes : int
    samples : int
    rng : Generator
    """
    weights = np.zeros((samples, len(labels)))
    for member in _members(labels, classes):
        drawn = rng.multinomial(len(member), np.full(len(member), 1 / len(member)), size=samples)
        weights[:, member] = drawn / len(member)
    return weights @ right / len(np.unique(labels))


def _members(labels: np.ndarray, classes: int) -> Iterator[np.ndarray]:
    for k in range(classes):
        member = np.flatnonzero(labels == k)
        if len(member):
            yield member
