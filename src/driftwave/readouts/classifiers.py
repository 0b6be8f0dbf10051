"""Classifiers of trials that decode many labellings of the same trials at once.

A classifier is handed the features of the training trials, one row of class labels for each
labelling (the true one and the shuffled ones), and the features of the held-out trials. Those with
a closed form work on all labellings together, so that a null of 1,000 refits takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

# Elements of the largest temporary array (160 MB of doubles).
MOST_ELEMENTS = 20_000_000
# Variance added to a covariance, as a share of the total one: solvable where nothing varies.
JITTER = 1e-9


class Classifier(Protocol):
    """What the course of discrete decoders asks of a classifier.

    Attributes
    ----------
    values : tuple of float
        Hyper-parameter values tried, the one that regularises most first; one for none.
    closed : bool
        Whether refitting for each of 1,000 labellings is affordable.
    counts : bool
        Whether features must be spike counts, unscaled.
    """

    @property
    def values(self) -> tuple[float, ...]: ...
    @property
    def closed(self) -> bool: ...
    @property
    def counts(self) -> bool: ...

    def predict(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        held: np.ndarray,
        classes: int,
        values: Sequence[float],
    ) -> np.ndarray:
        """Class (value, label, held) of held trials.

        Parameters
        ----------
        train : ndarray (trial, dim)
        labels : ndarray of int (label, trial)
            Class of each training trial in each labelling, in [0, classes).
        held : ndarray (held, dim)
        classes : int
        values : sequence of float
            Hyper-parameter values to decode with.
        """
        ...


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Membership (label, class, trial) of class labels (label, trial), as 0 and 1."""
    return (labels[:, None, :] == np.arange(classes)[:, None]).astype(float)


def _class_sums(
    train: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sums (label, class, dim) and trials (label, class) of each class."""
    member = one_hot(labels, classes)
    sums = member.reshape(-1, member.shape[-1]) @ train
    return sums.reshape(*member.shape[:2], -1), member.sum(axis=-1)


def _pieces(labels: int, elements: int) -> list[slice]:
    size = max(1, MOST_ELEMENTS // max(1, elements))
    return [slice(start, start + size) for start in range(0, labels, size)]


def _log_prior(count: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(count / count.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class ShrinkageLDA:
    """Linear discriminant analysis with one covariance, shrunk to a multiple of the identity.

    With S the covariance within classes (dim p) and m = tr(S)/p, the discriminant is that of
    (1 - a) S + a m I, and the class frequencies are the prior. The intensity a is given, or that
    of Ledoit & Wolf 2004 (10.1016/S0047-259X(03)00096-4, equation 14) of the residuals about the
    class means.

    Attributes
    ----------
    shrinkage : float or None
        Intensity in [0, 1]; None for Ledoit and Wolf's.
    """

    shrinkage: float | None = None
    closed = True
    counts = False

    @property
    def values(self) -> tuple[float, ...]:
        return (np.nan if self.shrinkage is None else self.shrinkage,)

    def predict(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        held: np.ndarray,
        classes: int,
        values: Sequence[float],
    ) -> np.ndarray:
        """Class (value, label, held); see :class:`Classifier`."""
        scores = [self.discriminants(train, labels, held, classes, value) for value in values]
        return np.array([score.argmax(axis=-1) for score in scores])

    def discriminants(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        held: np.ndarray,
        classes: int,
        value: float = np.nan,
    ) -> np.ndarray:
        """Log posterior (label, held, class) up to a constant of each trial; ``value`` NaN: LW."""
        dims = train.shape[1]
        centre = train.mean(axis=0)
        train, held = train - centre, held - centre
        if dims > len(train):
            # Outside the span of the training trials all class means agree: nothing is lost.
            _, _, axes = np.linalg.svd(train, full_matrices=False)
            train, held = train @ axes.T, held @ axes.T
        total = float((train**2).sum()) / len(train) / dims
        found = np.empty((len(labels), len(held), classes))
        for piece in _pieces(len(labels), train.size + classes * (len(held) + train.shape[1])):
            weights, offset = _lda(train, labels[piece], classes, value, dims, JITTER * total)
            found[piece] = held @ weights + offset[:, None]
        return found


def _lda(
    train: np.ndarray, labels: np.ndarray, classes: int, value: float, dims: int, jitter: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (label, dim, class) and offsets (label, class)."""
    sums, count = _class_sums(train, labels, classes)
    mean = sums / np.maximum(count, 1)[..., None]
    residual = train - np.take_along_axis(mean, labels[..., None], axis=1)
    covariance = residual.transpose(0, 2, 1) @ residual / len(train)
    variance = np.einsum("lii->l", covariance) / dims
    intensity = (
        ledoit_wolf(residual, covariance, dims)
        if np.isnan(value)
        else np.full(len(labels), float(value))
    )
    covariance *= (1 - intensity)[:, None, None]
    diagonal = np.arange(train.shape[1])
    # Where nothing varies at all any matrix does: the prior decides.
    covariance[:, diagonal, diagonal] += (intensity * variance + (jitter or 1.0))[:, None]
    weights = np.linalg.solve(covariance, mean.transpose(0, 2, 1))
    offset = _log_prior(count) - 0.5 * np.einsum("lcp,lpc->lc", mean, weights)
    return weights, offset


def ledoit_wolf(residual: np.ndarray, covariance: np.ndarray, dims: int) -> np.ndarray:
    """Shrinkage intensity (label,) of Ledoit & Wolf 2004, equation 14, in closed form.

    Parameters
    ----------
    residual : ndarray (label, trial, dim)
        Centred; may be expressed in the span of the trials, of fewer than ``dims`` dims.
    covariance : ndarray (label, dim, dim)
        Their mean outer product.
    dims : int
        Dims of the features.
    """
    trials = residual.shape[1]
    squares = (covariance**2).sum(axis=(1, 2))
    trace = np.einsum("lii->l", covariance)
    fourth = ((residual**2).sum(axis=-1) ** 2).sum(axis=-1) / trials
    beta = (fourth - squares) / trials
    delta = squares - trace**2 / dims
    beta = np.minimum(beta, delta)
    return np.where(beta > 0, beta / np.where(delta > 0, delta, 1), 0.0)


@dataclass(frozen=True)
class NearestNeighbours:
    """Vote of the k nearest training trials (Euclidean); the nearer side wins a tie.

    Attributes
    ----------
    values : tuple of float
        Numbers of neighbours k tried, the largest first.
    """

    values: tuple[float, ...]
    closed = True
    counts = False

    def predict(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        held: np.ndarray,
        classes: int,
        values: Sequence[float],
    ) -> np.ndarray:
        """Class (value, label, held); see :class:`Classifier`."""
        distance = (train**2).sum(axis=1) - 2 * held @ train.T
        wanted = [min(int(value), len(train)) for value in values]
        nearest = np.argsort(distance, axis=1, kind="stable")[:, : max(wanted)]
        found = np.empty((len(wanted), len(labels), len(held)), int)
        for piece in _pieces(len(labels), len(held) * classes):
            votes = np.zeros((len(labels[piece]), len(held), classes))
            rows, columns = np.ogrid[: votes.shape[0], : votes.shape[1]]
            for rank in range(nearest.shape[1]):
                # All discounts together are less than one vote: they only part ties.
                weight = 1 - rank / nearest.shape[1] ** 2
                votes[rows, columns, labels[piece][:, nearest[:, rank]]] += weight
                for k in np.flatnonzero(np.array(wanted) == rank + 1):
                    found[k, piece] = votes.argmax(axis=-1)
        return found


@dataclass(frozen=True)
class PoissonBayes:
    """Naive Bayes of independent Poisson counts; class frequencies are the prior.

    log p(c | n) = log p(c) + sum_u (n_u log r_cu - r_cu) + const, with the expected count r_cu of
    unit u in class c estimated as (sum of its counts + a m_u) / (trials of c + a), where m_u is
    its mean over all training trials: the posterior mean under a Gamma prior worth ``a`` trials.
    Units silent in training say nothing and are left out.

    Attributes
    ----------
    values : tuple of float
        Prior weights a (trials) tried, the largest first.
    """

    values: tuple[float, ...]
    closed = True
    counts = True

    def predict(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        held: np.ndarray,
        classes: int,
        values: Sequence[float],
    ) -> np.ndarray:
        """Class (value, label, held); see :class:`Classifier`."""
        mean = train.mean(axis=0)
        train, held, mean = train[:, mean > 0], held[:, mean > 0], mean[mean > 0]
        found = np.empty((len(values), len(labels), len(held)), int)
        elements = classes * (len(held) + train.shape[1] + len(train))
        for piece in _pieces(len(labels), elements):
            sums, count = _class_sums(train, labels[piece], classes)
            prior = _log_prior(count)
            for k, weight in enumerate(values):
                rate = (sums + weight * mean) / (count + weight)[..., None]
                score = held @ np.log(rate).transpose(0, 2, 1)
                score += (prior - rate.sum(axis=-1))[:, None]
                found[k, piece] = score.argmax(axis=-1)
        return found


@dataclass(frozen=True)
class Estimator:
    """A classifier of scikit-learn, fitted to one labelling after the other.

    Attributes
    ----------
    make : callable
        From a hyper-parameter value to an unfitted estimator.
    values : tuple of float
        Values tried, the one that regularises most first.
    """

    make: Callable[[float], Any]
    values: tuple[float, ...]
    closed = False
    counts = False

    def predict(
        self,
        train: np.ndarray,
        labels: np.ndarray,
        held: np.ndarray,
        classes: int,
        values: Sequence[float],
    ) -> np.ndarray:
        """Class (value, label, held); see :class:`Classifier`."""
        del classes
        return np.array([[self._one(train, row, held, v) for row in labels] for v in values])

    def _one(
        self, train: np.ndarray, labels: np.ndarray, held: np.ndarray, value: float
    ) -> np.ndarray:
        from sklearn.exceptions import ConvergenceWarning

        if len(np.unique(labels)) < 2:
            return np.full(len(held), labels[0])
        with warnings.catch_warnings():
            # Stopping early is regularisation; the held-out score says what came of it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self.make(value).fit(train, labels).predict(held)


def logistic_regression(inverse_penalty: float) -> Any:
    """Multinomial logistic regression, unfitted; ``inverse_penalty`` is scikit-learn's C."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=inverse_penalty, max_iter=300, tol=1e-3)


def linear_svm(inverse_penalty: float) -> Any:
    """Linear support vector machine, one class against the rest, unfitted."""
    from sklearn.svm import LinearSVC

    return LinearSVC(C=inverse_penalty, dual="auto", random_state=0)
