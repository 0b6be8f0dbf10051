"""Which stimulus a trial showed: logistic regression on the trial's mean features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import dask
import numpy as np

from driftwave.readouts.folds import Plan


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


def accuracy(
    features: np.ndarray,
    classes: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    *,
    inverse_penalty: float,
) -> float:
    """Share of held trials whose class multinomial logistic regression gets right.

    Features are centred and divided by one common scale, both from the training trials: a scale
    for each would blow up the noise of units that hardly fire.

    Parameters
    ----------
    features : ndarray (trial, dim)
    classes : ndarray of int (trial,)
    train, held : ndarray of int
        Trial positions.
    inverse_penalty : float
        ``C`` of scikit-learn's ``LogisticRegression``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if not len(held) or len(np.unique(classes[train])) < 2:
        return np.nan
    centre = features[train].mean(axis=0)
    scale = np.sqrt(features[train].var(axis=0).mean()) or 1.0
    scaled = (features - centre) / scale
    model = LogisticRegression(C=inverse_penalty, max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled[train], classes[train])
    return float((model.predict(scaled[held]) == classes[held]).mean())


def classify(
    features: np.ndarray,
    classes: np.ndarray,
    plan: Plan,
    labels: np.ndarray,
    *,
    inverse_penalty: float,
) -> Classified:
    """Accuracy in each fold and in the test split, for the true and the shuffled labels.

    Parameters
    ----------
    features : ndarray (trial, dim)
    classes : ndarray of int (trial,)
    plan : Plan
    labels : ndarray of int (label, trial)
        Whose class each trial is given; row 0 its own.
    inverse_penalty : float
        ``C`` of scikit-learn's ``LogisticRegression``.
    """
    sides = [(plan.trials(plan.train[f]), plan.trials(plan.held[f])) for f in range(plan.folds)]
    sides.append((plan.trials(plan.fitting), plan.trials(plan.test)))

    def of_label(row: np.ndarray) -> list[float]:
        given = classes[row]
        return [
            accuracy(features, given, train, held, inverse_penalty=inverse_penalty)
            for train, held in sides
        ]

    found = np.array(dask.compute(*[dask.delayed(of_label)(row) for row in labels]))
    return Classified(found[:, :-1].T, found[:, -1])
