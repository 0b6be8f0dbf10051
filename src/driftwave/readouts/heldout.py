"""Scores of held-out predictions, against the labels of other trials.

A decoder that is too costly to be fitted a thousand times is fitted once per fold; the null scores
its held-out predictions against labels they were not made for. Given the training trials, the
predictions of a held-out block depend on its activity alone. If activity and behaviour are
independent and the block's trials are exchangeable (or the block is stationary, for circular
shifts), all pairings of predictions and labels within the block are equally likely, so that
p = (1 + #) / (B + 1) holds (Phipson & Smyth 2010, 10.2202/1544-6115.1585).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftwave.compute import generator
from driftwave.readouts.circular import angle_of, angular_distance
from driftwave.readouts.jobs import Job
from driftwave.readouts.null import BinShifts
from driftwave.readouts.params import Params

NULL = "labels of other trials against the same held-out predictions"


@dataclass(frozen=True)
class Held:
    """Predictions of a block of held-out trials and their labels.

    Attributes
    ----------
    prediction, target : ndarray (trial, time, target)
        NaN where not decoded, or missing.
    """

    prediction: np.ndarray
    target: np.ndarray


def held_out_name(contiguous: bool) -> str:
    """What the null does, in words."""
    return NULL + (", shifted by bins within the fold" if contiguous else ", whole trials permuted")


def autocorrelation_length(values: np.ndarray, level: float = 0.2) -> int:
    """First lag at which the autocorrelation of every column falls below a level.

    Parameters
    ----------
    values : ndarray (time, column)
        NaN counts as the mean.
    level : float
    """
    centred = np.nan_to_num(values - np.nanmean(values, axis=0))
    size = 2 * len(centred)
    power = np.abs(np.fft.rfft(centred, size, axis=0)) ** 2
    correlation = np.fft.irfft(power, size, axis=0)[: len(centred)]
    above = correlation >= level * np.where(correlation[0] > 0, correlation[0], 1)
    below = ~above
    return int(np.where(below.any(axis=0), below.argmax(axis=0), len(centred)).max())


def pairings(
    target: np.ndarray, count: int, *, contiguous: bool, gap: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows of the flattened (trial, time) axis of a block that its predictions are scored against.

    Whole trials are permuted. Abutting windows, laid end to end, are shifted circularly by bins:
    by no less than the gap and one window, nor than the labels' autocorrelation length, as far as
    the block allows: never by less than a quarter of it at most.

    Parameters
    ----------
    target : ndarray (trial, time, target)
    count : int
    contiguous : bool
    gap : int
        Windows.
    rng : Generator

    Returns
    -------
    ndarray of int (1 + count, trial * time)
        Row 0 is the true pairing.
    """
    trials, bins = target.shape[:2]
    own = np.arange(trials * bins)
    if not contiguous:
        orders = np.array([rng.permutation(trials) for _ in range(count)]).reshape(count, trials)
        rows = (orders[..., None] * bins + np.arange(bins)).reshape(count, -1)
        return np.concatenate([own[None], rows])
    lag = autocorrelation_length(target.reshape(len(own), -1))
    least = max(1, min(max(lag, (gap + 1) * bins), len(own) // 4))
    shifts = rng.integers(least, max(len(own) - least, least) + 1, size=count)
    return np.concatenate([own[None], (own - shifts[:, None]) % len(own)])


def held_scores(
    held: Held,
    rows: np.ndarray,
    angles: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """R2 (label, target) and median absolute angular error (label, angle) of each pairing.

    Only bins with a prediction and a label count; R2 is against those labels' own mean.
    """
    prediction = held.prediction.reshape(-1, held.prediction.shape[-1])
    target = held.target.reshape(prediction.shape)
    there = np.isfinite(prediction).all(axis=1)
    prediction, rows = prediction[there], rows[:, there]
    r2 = np.full((len(rows), target.shape[1]), np.nan)
    error = np.full((len(rows), len(angles)), np.nan)
    decoded = [angle_of(prediction[:, list(pair)]) for pair in angles]
    true = [angle_of(target[:, list(pair)]) for pair in angles]
    missing = not np.isfinite(target).all()
    for label, row in enumerate(rows):
        y, x = target[row], prediction
        if missing:
            both = np.isfinite(y).all(axis=1)
            y, x = y[both], prediction[both]
        if len(y) < 2:
            continue
        total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
        residual = ((y - x) ** 2).sum(axis=0)
        varies = total > 1e-10 * np.maximum((y**2).sum(axis=0), 1e-300)
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

    def __call__(self, held: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """R2 (label, target) and angular error (label, angle).

        Parameters
        ----------
        held : ndarray of int
            Trials predicted.
        prediction : ndarray (trial, time, target)
        """
        values = self.job.values[held]
        first = int(held[0]) if len(held) else 0
        rng = generator(self.seed, "pairings", f"{first:04d}"[-4:])
        rows = pairings(
            values,
            self.params.shuffles,
            contiguous=isinstance(self.job.labels, BinShifts),
            gap=self.params.gap,
            rng=rng,
        )
        return held_scores(Held(prediction, values), rows, self.angles)
