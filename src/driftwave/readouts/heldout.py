"""Scores of held-out predictions, against the labels of other trials.

A decoder that is too costly to be fitted a thousand times is fitted once per fold; the null scores
its held-out predictions against labels they were not made for. Given the training trials, the
predictions of held-out trials depend on their activity alone. If activity and behaviour are
independent, and trials exchangeable (or the recording stationary, for circular shifts), the true
pairing is one of many equally likely ones, and p = (1 + #) / (B + 1) holds for one held-out set
(Phipson & Smyth 2010, 10.2202/1544-6115.1585): for the test split.

Folds that serve one another as training sets need more. Where folds f and g happen to share a
chance covariance of activity and behaviour, each is decoded better from the other: to first order
the score of f owes g what that of g owes f, the product of their chance covariances. Other
pairings break this symmetry, so that the mean over folds varies twice as much as its null. The
null of the folds is therefore widened about its mean by the square root of 2. (Without it 5 % tests
reject in 10 to 17 % of cases of slow noise.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftwave.compute import generator
from driftwave.readouts.circular import angle_of, angular_distance
from driftwave.readouts.jobs import Job
from driftwave.readouts.null import BinShifts, Labels
from driftwave.readouts.params import Params

LOWEST_VARIANCE = 1e-10
NULL = "labels of other trials against the same held-out predictions"


def held_out_name(contiguous: bool) -> str:
    """What the null does, in words."""
    how = "circular shifts by bins" if contiguous else "whole trials permuted within the fold"
    return f"{NULL}: {how}; of folds widened by sqrt 2"


def widened(scores: np.ndarray) -> np.ndarray:
    """Scores (label, ...) with those of the null twice as variable about their mean.

    Label 0, the true one, stays.
    """
    null = scores[1:]
    if not len(null):
        return scores
    mean = null.mean(axis=0)
    return np.concatenate([scores[:1], mean + np.sqrt(2) * (null - mean)])


def permuted_rows(held: np.ndarray, bins: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows (1 + count, trial, time) of the flattened (trial, time) axis: labels within one fold.

    Row 0 is the true pairing; in the others the held trials' labels are permuted as wholes.
    """
    orders = np.array([held, *(rng.permutation(held) for _ in range(count))])
    return orders.reshape(1 + count, len(held), 1) * bins + np.arange(bins)


def held_rows(
    labels: Labels, held: np.ndarray, bins: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows (label, trial, time) that held-out predictions are scored against.

    Row 0 is the true pairing. Shifts go over the whole recording, so that a held-out block meets
    labels from all of it; separate trials are permuted within the fold.

    Parameters
    ----------
    labels : BinShifts or ndarray
        Of the job; only shifts are used.
    held : ndarray of int
        Trials predicted.
    bins : int
        Per trial.
    count : int
        Permutations; there are as many shifts as ``labels`` has.
    rng : Generator
        Of the permutations.
    """
    if isinstance(labels, BinShifts):
        return labels.rows(held, bins, slice(None))
    return permuted_rows(held, bins, count, rng)


def held_scores(
    prediction: np.ndarray,
    target: np.ndarray,
    rows: np.ndarray,
    angles: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """R2 (label, target) and median absolute angular error (label, angle) of each pairing.

    Only bins with a prediction and a label count; R2 is against those labels' own mean.

    Parameters
    ----------
    prediction : ndarray (trial, time, target)
        Of held-out trials; NaN where not decoded.
    target : ndarray (all trials, time, target)
        NaN where missing.
    rows : ndarray of int (label, trial, time)
        Rows of the flattened target that each prediction is scored against.
    angles : sequence of (int, int)
        Targets that are the cosine and sine of one angle.
    """
    guess = prediction.reshape(-1, prediction.shape[-1])
    there = np.isfinite(guess).all(axis=1)
    guess, rows = guess[there], rows.reshape(len(rows), -1)[:, there]
    flat = target.reshape(-1, guess.shape[-1])
    missing = not np.isfinite(flat).all()
    r2 = np.full((len(rows), guess.shape[-1]), np.nan)
    error = np.full((len(rows), len(angles)), np.nan)
    decoded = [angle_of(guess[:, list(pair)]) for pair in angles]
    true = [angle_of(flat[:, list(pair)]) for pair in angles]
    for label, row in enumerate(rows):
        y, x = flat[row], guess
        if missing:
            both = np.isfinite(y).all(axis=1)
            y, x = y[both], guess[both]
        if len(y) < 2:
            continue
        total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
        residual = ((y - x) ** 2).sum(axis=0)
        varies = total > LOWEST_VARIANCE * np.maximum((y**2).sum(axis=0), 1e-300)
        r2[label] = np.where(varies, 1 - residual / np.where(varies, total, 1), np.nan)
        for k in range(len(angles)):
            distance = angular_distance(decoded[k], true[k][row])
            error[label, k] = np.degrees(np.nanmedian(distance))
    return r2, error


@dataclass(frozen=True)
class OtherLabels:
    """Scores predictions of held-out trials of a job, for the true and the null's pairings."""

    job: Job
    params: Params
    angles: Sequence[tuple[int, int]]
    seed: int

    @property
    def labels(self) -> int:
        """The true pairing and those of the null."""
        shifts = self.job.labels
        return len(shifts) if isinstance(shifts, BinShifts) else 1 + self.params.shuffles

    def __call__(
        self, held: np.ndarray, prediction: np.ndarray, *, folds: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """R2 (label, target) and angular error (label, angle).

        Parameters
        ----------
        held : ndarray of int
            Trials predicted.
        prediction : ndarray (trial, time, target)
        folds : bool
            The held trials are one of several folds, whose null is widened.
        """
        bins = self.job.mask.shape[1]
        rng = generator(self.seed, "pairings", str(int(held[0]) if len(held) else 0))
        rows = held_rows(self.job.labels, held, bins, self.params.shuffles, rng)
        scores = held_scores(prediction, self.job.values, rows, self.angles)
        return (widened(scores[0]), widened(scores[1])) if folds else scores
