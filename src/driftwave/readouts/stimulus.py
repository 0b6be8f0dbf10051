"""Which stimulus a trial showed: logistic regression on the trial's mean features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import dask
import numpy as np

from driftwave.readouts.folds import Plan
from driftwave.readouts.heldout import permuted_rows, widened


@dataclass(frozen=True)
class Classified:
    """Share of trials told right.

    Attributes
    ----------
    accuracy_fold : ndarray (fold, label)
    accuracy_test : ndarray (label,)
        NaN without test trials.
    """

    accuracy_fold: np.ndarray
    accuracy_test: np.ndarray


def predicted(
    features: np.ndarray,
    classes: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    *,
    inverse_penalty: float,
) -> np.ndarray:
    """Class (trial,) of held trials by multinomial logistic regression.

    Features are centred and divided by one common scale, both from the training trials: a scale
    for each would blow up the noise of units that hardly fire.

    Parameters
    ----------
    features : ndarray (trial, dim)
    classes : ndarray of int (trial,)
    train, held : ndarray of int
        Trial positions; none are held, or one class trained on, and nothing is returned.
    inverse_penalty : float
        ``C`` of scikit-learn's ``LogisticRegression``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if not len(held) or len(np.unique(classes[train])) < 2:
        return np.zeros(0, int)
    centre = features[train].mean(axis=0)
    scale = np.sqrt(features[train].var(axis=0).mean()) or 1.0
    scaled = (features - centre) / scale
    model = LogisticRegression(C=inverse_penalty, max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled[train], classes[train])
    return model.predict(scaled[held])


def classify(
    features: np.ndarray,
    classes: np.ndarray,
    plan: Plan,
    *,
    shuffles: int,
    labels: np.ndarray | None,
    inverse_penalty: float,
    rng: np.random.Generator,
) -> Classified:
    """Accuracy in each fold and in the test split, and of its predictions for other labels.

    The null gives held-out trials other labels, against the same predictions
    (:mod:`driftwave.readouts.heldout`).

    Parameters
    ----------
    features : ndarray (trial, dim)
    classes : ndarray of int (trial,)
    plan : Plan
    shuffles : int
    labels : ndarray of int (label, trial), optional
        Whose class each trial is given where trials abut: shifted circularly, not permuted.
    inverse_penalty : float
        ``C`` of scikit-learn's ``LogisticRegression``.
    rng : Generator
    """
    sides = [(plan.trials(plan.train[f]), plan.trials(plan.held[f])) for f in range(plan.folds)]
    sides.append((plan.trials(plan.fitting), plan.trials(plan.test)))
    fits = [
        dask.delayed(predicted)(features, classes, *side, inverse_penalty=inverse_penalty)
        for side in sides
    ]
    count = 1 + shuffles if labels is None else len(labels)
    found = np.full((len(sides), count), np.nan)
    for number, guess in enumerate(dask.compute(*fits)):
        if len(guess):
            held = sides[number][1]
            rows = permuted_rows(held, 1, shuffles, rng)[..., 0]
            if labels is not None:
                rows = labels[:, held]
            right = (guess == classes[rows]).mean(axis=1)
            found[number] = widened(right) if number < plan.folds else right
    return Classified(found[:-1], found[-1])
