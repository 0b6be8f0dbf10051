"""Ridge regression from moments: one Gram matrix serves all penalties and all labels.

With standardised features X (n x p) and centred targets Y the ridge weights at penalty a are
(X'X + a I)^-1 X'Y (Hoerl & Kennard 1970, 10.1080/00401706.1970.10488634, equation 2.1). Sums over
groups of trials are kept, so that standardisation inside any training fold and the squared error
on any held fold follow exactly without going through the bins again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from driftwave.readouts.null import Labels, label_rows

ROWS_AT_ONCE = 8192
# Columns from which penalties are chosen in single precision.
ROUGH_COLUMNS = 100
VALUES_AT_ONCE = 10_000_000
# Features are scaled to unit variance over all bins; less than this within a fold is none.
LOWEST_VARIANCE = 1e-10
# Of features that have unit variance over all bins: one that hardly varies in training (a unit
# silent there but for the tail of a smoothing kernel) would be blown up wherever it does vary.
LOWEST_FEATURE_VARIANCE = 1e-4


@dataclass(frozen=True)
class Problem:
    """Features and (shuffled) labels of the bins that are used.

    Attributes
    ----------
    features : ndarray (trial, time, dim)
    history : ndarray of int (trial, time, lag)
        Rows of the flattened (trial, time) axis that make up a bin's features.
    target : ndarray (trial, time, target)
        NaN where missing.
    mask : ndarray of bool (trial, time)
        Bins used: every target finite and the history complete.
    labels : ndarray of int (label, trial) or BinShifts
        Whose target each trial is given, or shifts by bins; label 0 is the true one.
    """

    features: np.ndarray
    history: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    labels: Labels

    @property
    def columns(self) -> int:
        """Regression targets in all: labels times targets, the label running slowest."""
        return len(self.labels) * self.target.shape[-1]

    def rows(self, trials: np.ndarray) -> np.ndarray:
        """Features (row, lag * dim) of the used bins of some trials."""
        flat = self.features.reshape(-1, self.features.shape[-1])
        used = self.history[trials][self.mask[trials]]
        return flat[used].reshape(len(used), -1)

    def targets(self, trials: np.ndarray, labels: slice = slice(None)) -> np.ndarray:
        """Targets (row, label, target) of the used bins of some trials.

        A shuffled label that is missing is the target's mean: it carries nothing.
        """
        mean = self.target[self.mask].mean(axis=0)
        filled = np.where(np.isnan(self.target), mean, self.target)
        source = label_rows(self.labels, trials, self.mask.shape[1], labels)
        used = np.moveaxis(source, 0, -1)[self.mask[trials]]
        return filled.reshape(-1, filled.shape[-1])[used]

    def batches(self, trials: np.ndarray) -> list[np.ndarray]:
        """The trials in pieces of at most about ``ROWS_AT_ONCE`` bins, fewer of many labels."""
        if not len(trials):
            return []
        rows = min(ROWS_AT_ONCE, VALUES_AT_ONCE // max(1, self.columns))
        size = max(1, rows // max(1, self.mask.shape[1]))
        return [trials[i : i + size] for i in range(0, len(trials), size)]


def standardised(problem: Problem) -> tuple[Problem, np.ndarray, np.ndarray]:
    """The problem with features and targets shifted and scaled over all bins used.

    Only against rounding: decoders that standardise inside the fold do not change by it.

    Returns
    -------
    problem : Problem
    shift, scale : ndarray (target,)
        A target in its own unit is ``target * scale + shift``.
    """
    features = problem.features
    shift, scale = features.mean((0, 1)), features.std((0, 1))
    features = (features - shift) / np.where(scale > 0, scale, 1)
    used = problem.target[problem.mask]
    middle, spread = used.mean(0), used.std(0)
    target = (problem.target - middle) / spread
    ready = Problem(features, problem.history, target, problem.mask, problem.labels)
    return ready, middle, spread


@dataclass(frozen=True)
class Moments:
    """Sums over bins of features x and targets y."""

    count: int
    sum_x: np.ndarray
    gram: np.ndarray
    sum_y: np.ndarray
    sum_yy: np.ndarray
    cross: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            self.sum_x + other.sum_x,
            self.gram + other.gram,
            self.sum_y + other.sum_y,
            self.sum_yy + other.sum_yy,
            self.cross + other.cross,
        )


def moments(problem: Problem, trials: np.ndarray) -> Moments:
    """Sums over the used bins of some trials; columns as in :attr:`Problem.columns`."""
    size = problem.features.shape[-1] * problem.history.shape[-1]
    columns = problem.columns
    total = Moments(
        0,
        np.zeros(size),
        np.zeros((size, size)),
        np.zeros(columns),
        np.zeros(columns),
        np.zeros((size, columns)),
    )
    for some in problem.batches(trials):
        x = problem.rows(some)
        y = problem.targets(some).reshape(len(x), columns)
        total += Moments(len(x), x.sum(0), x.T @ x, y.sum(0), (y**2).sum(0), x.T @ y)
    return total


def combine(parts: list[Moments], nothing: Moments) -> Moments:
    """Moments of several groups of trials together; of none, ``nothing``."""
    return reduce(Moments.__add__, parts) if parts else nothing


class Ridge:
    """Ridge regression of all columns at all penalties, from the moments of a training set.

    Agrees with scikit-learn's ``StandardScaler`` and ``Ridge`` on the same bins.
    """

    def __init__(self, train: Moments) -> None:
        self.mean_x = train.sum_x / train.count
        self.mean_y = train.sum_y / train.count
        gram = train.gram - train.count * np.outer(self.mean_x, self.mean_x)
        variance = np.diag(gram) / train.count
        varies = variance > LOWEST_FEATURE_VARIANCE
        self.scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)
        self.gram = gram * np.outer(self.scale, self.scale)
        self.cross = self.scale[:, None] * (train.cross - np.outer(train.sum_x, self.mean_y))

    def weights(self, penalty: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Weights (feature, column) and intercepts (column,) for one penalty or one per column."""
        penalty = np.broadcast_to(penalty, self.mean_y.shape)
        weights = np.empty_like(self.cross)
        for value in np.unique(penalty):
            chosen = penalty == value
            penalised = self.gram.copy()
            penalised[np.diag_indices_from(penalised)] += value
            factor = cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
            solved = cho_solve(factor, self.cross[:, chosen], check_finite=False)
            weights[:, chosen] = self.scale[:, None] * solved
        return weights, self.mean_y - self.mean_x @ weights

    def squared_errors(
        self, held: Sequence[Moments], penalties: Sequence[np.ndarray] | np.ndarray
    ) -> np.ndarray:
        """Sum of squared errors (held set, penalty, column).

        Parameters
        ----------
        held : sequence of Moments
        penalties : ndarray (penalty,) or sequence of ndarray (column,)
            Each is one penalty for all columns, or one for each.
        """
        centred = [self._about_means(part) for part in held]
        errors = np.empty((len(held), len(penalties), len(self.mean_y)))
        for row, penalty in enumerate(penalties):
            weights, _ = self.weights(penalty)
            for part, (gram, cross, total) in enumerate(centred):
                quadratic = np.einsum("ij,ij->j", weights, gram @ weights - 2 * cross)
                errors[part, row] = total + quadratic
        return errors

    def rough_errors(self, held: Sequence[Moments], penalties: np.ndarray) -> np.ndarray:
        """As :meth:`squared_errors`, in single precision: enough to choose a penalty by.

        With a thousand shuffles nearly all of the time goes into these products.
        """
        if len(self.mean_y) < ROUGH_COLUMNS:
            return self.squared_errors(held, penalties)
        centred = [self._about_means(part) for part in held]
        scale = np.outer(self.scale, self.scale)
        parts = [
            ((gram * scale).astype(np.float32), (self.scale[:, None] * cross).astype(np.float32))
            for gram, cross, _ in centred
        ]
        wanted = self.cross.astype(np.float32)
        errors = np.empty((len(held), len(penalties), len(self.mean_y)))
        for row, penalty in enumerate(penalties):
            penalised = self.gram.copy()
            penalised[np.diag_indices_from(penalised)] += penalty
            factor = cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
            single = factor[0].astype(np.float32), True
            weights = cho_solve(single, wanted, check_finite=False)
            for part, (gram, cross) in enumerate(parts):
                quadratic = np.einsum("ij,ij->j", weights, gram @ weights - 2 * cross)
                errors[part, row] = centred[part][2] + quadratic
        return errors

    def _about_means(self, held: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Second moments (xx, xy, yy) of a held set about the training means."""
        n, mean_x, mean_y = held.count, self.mean_x, self.mean_y
        mixed = np.outer(held.sum_x, mean_x)
        gram = held.gram - mixed - mixed.T + n * np.outer(mean_x, mean_x)
        cross = held.cross - np.outer(held.sum_x, mean_y) - np.outer(mean_x, held.sum_y)
        cross += n * np.outer(mean_x, mean_y)
        return gram, cross, held.sum_yy - 2 * mean_y * held.sum_y + n * mean_y**2


def r_squared(squared_error: np.ndarray, held: Moments) -> np.ndarray:
    """R2 (column,) on a held set against the held set's own mean; NaN where it is constant."""
    if held.count == 0:
        return np.full(held.sum_y.shape, np.nan)
    total = held.sum_yy - held.sum_y**2 / held.count
    varies = total > LOWEST_VARIANCE * held.count
    return np.where(varies, 1 - squared_error / np.where(varies, total, 1), np.nan)
